"""Turned, moved and shrunk images."""

import numpy as np
import pytest

from pyimgano_openclip.images.views import (
    View,
    halved,
    map_back,
    patches_of_original,
    planned,
    seen,
    shrink,
    views_of,
)

from helpers.embedders import quadrants


@pytest.mark.parametrize("view", [View(30), View(0, 0.1, -0.05), View(30, -0.1, 0.05), View(180)])
def test_mapping_back_finds_the_place_of_a_point(view):
    image = np.zeros((40, 60, 3), np.uint8)
    image[12, 40] = 255
    copy = seen(image, view)
    row, col = np.unravel_index(copy[..., 0].argmax(), (40, 60))
    x, y = map_back(col + 0.5, row + 0.5, (40, 60), view)
    assert (x, y) == pytest.approx((40.5, 12.5), abs=0.8)


def test_a_view_is_turned_counter_clockwise_and_moved_by_shares_of_its_sides():
    image = quadrants(40, 60)
    np.testing.assert_array_equal(seen(image[:, :40], View(90)), np.rot90(image[:, :40]))
    np.testing.assert_array_equal(seen(image, View(0, 0.1, 0.1))[4:, 6:], image[:-4, :-6])


def test_each_turned_copy_is_also_moved_in_four_ways_and_the_image_itself_comes_first():
    assert views_of(1, 0) == (View(),)
    assert views_of(4, 0) == (View(0), View(90), View(180), View(270))
    both = views_of(4, 0.02)
    assert both[:4] == views_of(4, 0)
    assert len(set(both)) == len(both) == 20
    assert {view[1:] for view in both} == {
        (0, 0), (0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("images", "most", "moved", "copies"),
    [(3, 100, 3, 12), (25, 100, 25, 100), (40, 100, 40, 100), (1000, 100, 100, 100),
     (30, 40, 30, 40), (30, 0, 0, 0), (30, -5, 0, 0)],
)  # fmt: skip
def test_moved_copies_are_few_however_many_images_there_are(images, most, moved, copies):
    plan = planned(views_of(2, 0.02), images, most)
    assert plan == sorted(plan)
    assert [view for _, view in plan].count(0) == [view for _, view in plan].count(1) == images
    assert len({index for index, view in plan if view > 1}) == moved
    ways = [view for _, view in plan if view > 1]
    assert len(ways) == 2 * copies
    assert {ways.count(view) for view in range(2, 10)} <= {copies // 4}


def test_patches_that_show_no_image_after_turning_are_known():
    assert len(patches_of_original((4, 4), (40, 40), View(90))) == 16
    wide = patches_of_original((4, 12), (40, 120), View(90))
    assert set(wide % 12) == {4, 5, 6, 7}
    assert 0 not in patches_of_original((4, 4), (40, 40), View(45))


def test_patches_of_a_moved_copy_whose_centres_are_beyond_the_image_are_left_out():
    assert len(patches_of_original((2, 3), (40, 60), View(0, 0.02, -0.02))) == 6
    assert patches_of_original((2, 3), (40, 60), View(0, 0.26, 0)).tolist() == [3, 4, 5]
    assert patches_of_original((2, 3), (40, 60), View(0, 0, -0.2)).tolist() == [0, 1, 3, 4]


def test_large_images_shrink_in_proportion_and_small_ones_stay():
    assert shrink(quadrants(400, 600), (100, 100)).shape == (100, 150, 3)
    assert shrink(quadrants(40, 60), (100, 100)).shape == (40, 60, 3)


def test_images_are_halved_to_the_mean_of_four_pixels_while_they_keep_the_given_size():
    image = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
    means = image.reshape(3, 2, 4, 2, 3).mean(axis=(1, 3))
    assert np.abs(halved(image, (3, 4)) - means).max() <= 0.5
    assert halved(image, (4, 4)).shape == (6, 8, 3)
    assert halved(np.zeros((103, 210, 3), np.uint8), (25, 40)).shape == (25, 52, 3)
