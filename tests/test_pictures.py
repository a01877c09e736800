"""Anomaly maps as pictures."""

import numpy as np
import pytest

from pyimgano_openclip.pictures import overlay


def test_an_overlay_changes_hot_pixels_and_leaves_cold_ones():
    image = np.full((40, 60, 3), 100, np.uint8)
    found = np.zeros((40, 60), np.float32)
    found[10:20, 30:50] = 1
    picture = np.asarray(overlay(image, found, low=0, high=1))
    assert picture.shape == image.shape
    np.testing.assert_array_equal(picture[found == 0], image[found == 0])
    assert (picture[found == 1] != 100).any(axis=-1).all()


def test_a_threshold_draws_a_line_around_what_is_above_it():
    image, found = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.float32)
    found[10:20, 30:50] = 0.5
    picture = np.asarray(overlay(image, found, low=0, high=100, threshold=0.4))
    assert (picture[10, 35] == 255).all()
    assert (picture[15, 40] < 50).all()


@pytest.mark.parametrize(
    ("shape", "low", "high", "message"),
    [((40, 61), 0, 1, "sizes differ"), ((40, 60), 1, 1, "must be below")],
)
def test_what_does_not_fit_together_is_refused(shape, low, high, message):
    with pytest.raises(ValueError, match=message):
        overlay(np.zeros((40, 60, 3), np.uint8), np.zeros(shape, np.float32), low=low, high=high)
