"""The NumPy heart of prompt scoring: patches against two text vectors."""

import numpy as np
import pytest

from pyimgano_openclip import prompt_patch_scores

NORMAL = np.array([1.0, 0.0], dtype=np.float32)
ANOMALY = np.array([0.0, 1.0], dtype=np.float32)
PATCHES = np.array([[1, 0], [1, 1], [0, 1], [-1, 0], [0, -1], [0, 0]], dtype=np.float32)


@pytest.mark.parametrize("mode", ["probability", "diff", "ratio"])
def test_a_patch_along_the_anomalous_text_scores_higher(mode):
    scores = prompt_patch_scores(PATCHES, text_normal=NORMAL, text_anomaly=ANOMALY, mode=mode)
    assert scores[0] < scores[1] < scores[2]


def test_diff_is_the_difference_of_the_cosines():
    scores = prompt_patch_scores(7 * PATCHES, text_normal=NORMAL, text_anomaly=3 * ANOMALY)
    np.testing.assert_allclose(scores, [-1, 0, 1, 1, -1, 0], atol=1e-6)


def test_probability_is_the_two_class_softmax_of_winclip():
    scores = prompt_patch_scores(
        PATCHES, text_normal=NORMAL, text_anomaly=ANOMALY, mode="probability"
    )
    cosines = PATCHES / np.maximum(np.linalg.norm(PATCHES, axis=1, keepdims=True), 1e-9) / 0.07
    expected = np.exp(cosines[:, 1]) / np.exp(cosines).sum(axis=1)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_swapped_texts_give_one_minus_the_probability():
    there = prompt_patch_scores(
        PATCHES, text_normal=NORMAL, text_anomaly=ANOMALY, mode="probability"
    )
    back = prompt_patch_scores(
        PATCHES, text_normal=ANOMALY, text_anomaly=NORMAL, mode="probability"
    )
    np.testing.assert_allclose(there, 1 - back, atol=1e-6)


def test_ratio_stays_within_bounds_where_similarities_vanish_or_are_negative():
    angles = np.linspace(0, 2 * np.pi, 721)
    patches = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    opposite = prompt_patch_scores(patches, text_normal=NORMAL, text_anomaly=-NORMAL, mode="ratio")
    across = prompt_patch_scores(patches, text_normal=NORMAL, text_anomaly=ANOMALY, mode="ratio")
    for scores in (opposite, across):
        assert np.isfinite(scores).all()
        assert scores.min() >= 0
        assert scores.max() <= 1


def test_a_grid_of_patches_keeps_its_shape():
    grid = np.random.default_rng(0).normal(size=(3, 5, 2))
    scores = prompt_patch_scores(grid, text_normal=NORMAL, text_anomaly=ANOMALY)
    assert scores.shape == (3, 5)
    flat = prompt_patch_scores(grid.reshape(-1, 2), text_normal=NORMAL, text_anomaly=ANOMALY)
    np.testing.assert_array_equal(scores.ravel(), flat)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_normal": [1, 0, 0]}, "differ in length"),
        ({"text_normal": [0, 0]}, "nonzero"),
        ({"text_normal": [np.nan, 1]}, "finite"),
        ({"text_normal": [[1, 0], [0, 1]]}, r"\(2, 2\)"),
        ({"mode": "cosine"}, "probability, diff, ratio"),
        ({"patches": [[1, np.inf]]}, "finite"),
        ({"patches": [[1, 2, 3]]}, "length 3"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    given = {"patches": PATCHES, "text_normal": NORMAL, "text_anomaly": ANOMALY} | arguments
    with pytest.raises(ValueError, match=message):
        prompt_patch_scores(given.pop("patches"), **given)
