"""Regions of a map, and the patches below them."""

import cv2
import numpy as np
import pytest

from pyimgano_openclip.images.components import connected_runs
from pyimgano_openclip.maps.boxes import patch_box
from pyimgano_openclip.maps.regions import find_regions, hot_pixels, hottest_spot


def test_regions_are_connected_boxes_hottest_first():
    found = np.zeros((50, 90), np.float32)
    found[10:20, 30:45] = 0.6
    found[19:25, 44:50] = 0.7  # touches the first at a corner
    found[40:45, 80:90] = 0.9
    first, second = find_regions(found, 0.5, limit=10)
    assert first.box == (80, 40, 90, 45)
    assert first.area == 50
    assert second.box == (30, 10, 50, 25)
    assert second.peak == pytest.approx(0.7)
    assert 44 <= second.peak_at[0] < 50
    assert find_regions(found, 0.5, limit=1) == [first]
    assert find_regions(found, 2, limit=10) == []


def test_each_region_is_cut_at_its_own_peak():
    """A weak defect beside a strong one has a box, and both boxes are tight."""
    found = np.zeros((30, 60), np.float32)
    found[5:25, 5:25] = 0.3  # around the strong one
    found[12:18, 10:20] = 0.9
    found[10:20, 40:50] = 0.2
    strong, weak = find_regions(found, 0.1, limit=10)
    assert (strong.box, strong.area) == ((10, 12, 20, 18), 60)
    assert (weak.box, weak.area, weak.peak) == ((40, 10, 50, 20), 100, pytest.approx(0.2))
    assert not hot_pixels(found, 0.9).any()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_hottest_spot_is_where_is_looked_at(sign):
    inside = np.zeros((40, 60), bool)
    inside[15:30, 12:33] = True
    found = np.where(inside, np.float32(-0.2 if sign < 0 else 0.1), np.float32(0))
    found[15, 32] += 0.05
    spot = hottest_spot(found, (4, 6), inside)
    assert spot.peak_at == (32, 15)
    assert spot.box == (28, 15, 33, 20)
    assert {type(side) for side in spot.box} == {int}


def test_a_map_that_is_hot_all_over_is_one_region():
    for value in (0.5, -0.5):
        (region,) = find_regions(np.full((7, 9), value, np.float32), value - 0.1, limit=10)
        assert (region.box, region.area) == ((0, 0, 9, 7), 63)


def test_peaks_are_measured_from_the_lowest_value_where_that_is_negative():
    found = np.array([[-0.3, -0.17, -0.15, -0.1, np.nan]], np.float32)
    assert hot_pixels(found, -0.25).tolist() == [[False, False, True, True, False]]
    assert hot_pixels(found, -0.12).tolist() == [[False, False, False, True, False]]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("size", [(1, 40), (40, 1), (23, 31)])
def test_components_are_those_of_opencv(size, share):
    hot = np.random.default_rng(0).random(size) < share
    count, labels = cv2.connectedComponents(hot.astype(np.uint8), connectivity=8)
    found = np.zeros(size, np.int32)
    components = connected_runs(hot)
    for number, runs in enumerate(components, start=1):
        for run in runs:
            found[run.row, run.start : run.stop] = number
    pairs = set(zip(found.ravel().tolist(), labels.ravel().tolist(), strict=True))
    assert len(components) == count - 1
    assert len(pairs) == count - 1 + (not hot.all())


def test_a_patch_has_at_least_one_pixel():
    boxes = [patch_box(patch, (4, 4), (2, 3)) for patch in range(16)]
    assert all(box.left < box.right <= 3 and box.top < box.bottom <= 2 for box in boxes)
