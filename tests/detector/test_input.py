"""What detectors take, and what they refuse."""

from pathlib import Path

import numpy as np
import pytest

from helpers.detectors import EACH, patchknn, promptscore
from helpers.embedders import FileEmbedder, red_images, save_all

NORMAL = red_images(12)


@EACH
def test_paths_and_one_stacked_array_give_the_scores_of_the_arrays(build, tmp_path):
    detector = build(embedder=FileEmbedder()).fit(NORMAL[3:])
    paths = save_all(NORMAL[:3], tmp_path)
    expected = detector.decision_function(NORMAL[:3])
    np.testing.assert_array_equal(detector.decision_function(paths), expected)
    np.testing.assert_array_equal(detector.decision_function([str(p) for p in paths]), expected)
    np.testing.assert_array_equal(detector.decision_function(np.array(paths)), expected)
    np.testing.assert_array_equal(detector.decision_function(np.stack(NORMAL[:3])), expected)
    np.testing.assert_array_equal(detector.decision_function(X=tuple(NORMAL[:3])), expected)


@EACH
@pytest.mark.parametrize("empty", [[], (), np.empty((0, 8, 8, 3), np.uint8)])
def test_empty_input_is_refused(build, empty):
    detector = build().fit(NORMAL)
    for method in (detector.fit, detector.decision_function, detector.predict_anomaly_map):
        with pytest.raises(ValueError, match="empty"):
            method(empty)


@EACH
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("part.png", "single path"),
        (Path("part.png"), "single path"),
        (b"part.png", "single path"),
        (None, "NoneType"),
        (3, "int"),
        (NORMAL[0], "one array of shape"),
    ],
)
def test_a_single_image_instead_of_a_list_is_refused(build, x, message):
    with pytest.raises(ValueError, match=message):
        build().fit(x)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((np.ones((4, 3)), (2, 3), (8, 8)), "4 patches for a grid of 2 x 3"),
        ((np.ones((2, 2, 3)), (2, 2), (8, 8)), "not .N, D."),
        ((np.full((4, 3), np.nan), (2, 2), (8, 8)), "not finite"),
        ((np.zeros((4, 3)), (2, 2), (8, 8)), r"part\.png: .* all 0, which have no direction"),
        ((np.ones((4, 3)), (2, 2), (0, 8)), "image size"),
        ((np.ones((0, 3)), (0, 2), (8, 8)), "grid of 0 x 2"),
    ],
)
def test_an_inconsistent_embedder_is_reported(result, message):
    class Wrong:
        def embed(self, image):
            return result

    with pytest.raises(ValueError, match=message):
        patchknn(embedder=Wrong()).fit(["part.png"])


def test_text_of_another_length_than_the_patches_is_reported():
    with pytest.raises(ValueError, match="length 3"):
        promptscore(text_features_normal=[1, 0], text_features_anomaly=[0, 1]).decision_function(
            NORMAL[:1]
        )


def test_a_folder_that_does_not_exist_is_told_apart_from_a_file(tmp_path):
    (path,) = save_all(NORMAL[:1], tmp_path)
    for x, message in ((tmp_path / "god", "no folder of this name"), (path, r"png'\)?\]\.$")):
        with pytest.raises(ValueError, match=message):
            patchknn().fit(x)


@EACH
@pytest.mark.parametrize("kind", [str, Path])
def test_every_method_takes_a_folder_by_its_path(build, kind, tmp_path):
    folder, paths = kind(tmp_path), save_all(NORMAL[:5], tmp_path)
    detector = build(embedder=FileEmbedder()).fit(folder)
    expected = detector.decision_function(paths).tolist()
    assert detector.decision_function(folder).tolist() == expected
    assert [scored.image for scored in detector.score_iter(folder)] == expected
    assert len(list(detector.iter_anomaly_maps(folder))) == len(paths)
    assert len(detector.predict(folder)) == len(paths)


def test_streaming_a_single_path_is_refused():
    with pytest.raises(ValueError, match="single path"):
        next(promptscore().score_iter("part.png"))


@pytest.mark.parametrize(
    "result",
    [
        (np.ones((4, 3)), (2, 2)),
        None,
        (np.ones((4, 3)), 2, (8, 8)),
        (np.ones((4, 3)), (2, 2), 8),
        (np.ones((4, 3)), "ab", (8, 8)),
        ("tokens", (2, 2), (8, 8)),
    ],
)
def test_a_custom_embedder_that_returns_something_else_is_told_what_is_expected(result):
    class Other:
        def embed(self, image):
            return result

    with pytest.raises(ValueError, match=r"embed\(\) returned .*; expected \(patches \(N"):
        patchknn(embedder=Other()).fit(red_images(3))
