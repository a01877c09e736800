"""From patch scores to pixels and to an image score."""

import cv2
import numpy as np
import pytest

from pyimgano_openclip.maps.scores import anomaly_map, image_score


@pytest.mark.parametrize("size", [(200, 600), (600, 200), (15, 31), (7, 5), (1, 1), (37, 1000)])
def test_a_map_has_the_size_of_the_image_and_the_range_of_the_patches(size):
    patches = np.random.default_rng(0).random((4, 12)).astype(np.float32)
    found = anomaly_map(patches, size)
    assert found.shape == size
    assert found.dtype == np.float32
    assert patches.min() - 1e-6 <= found.min()
    assert found.max() <= patches.max() + 1e-6


@pytest.mark.parametrize("patch", [(0, 0), (0, 11), (3, 0), (3, 11), (1, 7), (2, 2)])
def test_the_map_peaks_within_the_hot_patch(patch):
    patches = np.zeros((4, 12), dtype=np.float32)
    patches[patch] = 1
    found = anomaly_map(patches, (200, 600))
    row, col = np.unravel_index(found.argmax(), found.shape)
    assert patch[0] * 50 <= row < (patch[0] + 1) * 50
    assert patch[1] * 50 <= col < (patch[1] + 1) * 50


@pytest.mark.parametrize("size", [(90, 151), (8, 16), (5, 7), (300, 20)])
def test_a_map_is_that_of_opencvs_filters(size):
    patches = np.random.default_rng(2).random((3, 5)).astype(np.float32)
    fine = cv2.resize(patches, (40, 24), interpolation=cv2.INTER_LINEAR)
    smooth = cv2.GaussianBlur(fine, (0, 0), 4, borderType=cv2.BORDER_REPLICATE)
    expected = cv2.resize(smooth, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(anomaly_map(patches, size), expected, atol=2e-6)


def test_equal_patches_give_an_even_map():
    np.testing.assert_allclose(
        anomaly_map(np.full((3, 5), 0.25, np.float32), (90, 151)), 0.25, rtol=1e-6
    )


def test_mirrored_patches_give_a_mirrored_map():
    patches = np.random.default_rng(1).random((5, 3)).astype(np.float32)
    upright = anomaly_map(patches, (100, 90))
    mirrored = anomaly_map(patches[::-1, ::-1], (100, 90))
    np.testing.assert_allclose(mirrored[::-1, ::-1], upright, atol=1e-5)


def test_image_scores_are_the_top_the_maximum_or_the_mean():
    patches = np.arange(200, dtype=np.float32).reshape(10, 20)
    assert image_score(patches, "max", 0.01) == 199
    assert image_score(patches, "mean", 0.01) == pytest.approx(99.5)
    assert image_score(patches, "topk_mean", 0.01) == pytest.approx(198.5)
    assert image_score(patches, "topk_mean", 1.0) == pytest.approx(99.5)
    assert image_score(patches[:2, :2], "topk_mean", 0.01) == 21  # the maximum under 100 patches


def test_the_image_score_means_the_same_on_any_grid():
    """Four hot patches, or one of a coarser grid that shows the same, are scored alike."""
    for side in (2, 12, 60):
        patches = np.zeros((side, side), dtype=np.float32)
        patches[:2, :2] = 0.8
        assert image_score(patches, "topk_mean", None) == pytest.approx(0.8)
    assert image_score(np.float32([[0.5]]), "topk_mean", None) == 0.5


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"patch_scores": np.zeros(12)}, r"patch_scores has shape \(12,\); it must be \(rows, co"),
        ({"patch_scores": np.zeros((0, 3))}, r"patch_scores has shape \(0, 3\)"),
        ({"size": 200}, r"size=200; it must be \(height, width\)"),
        ({"size": (200, 0)}, "size=0; it must be a whole number from 1"),
        ({"size": (200, 30.5)}, "size=30.5; it must be a whole number"),
        ({"smoothing": -0.5}, r"smoothing=-0.5; it must be a number in \[0, 100"),
        ({"inside": np.ones((30, 200), bool)}, r"inside has shape \(30, 200\); .* \(200, 30\)"),
    ],
)
def test_what_is_no_map_is_refused_by_name(given, told):
    arguments = {"patch_scores": np.zeros((4, 3), np.float32), "size": (200, 30), **given}
    with pytest.raises(ValueError, match=told):
        anomaly_map(**arguments)
