"""The map values that pictures of maps tell apart."""

import io

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.maps.levels import MOST, Levels


def kept(levels: Levels, anomaly_map) -> np.ndarray:
    """The map as a reader of its picture knows it."""
    picture = Image.open(io.BytesIO(levels.picture(np.asarray(anomaly_map, np.float32))))
    assert picture.mode == "L"
    return levels.values[np.asarray(picture)]


def test_values_are_fine_around_the_threshold_and_known_far_above_the_colours():
    levels = Levels.of(0.0376, 0.1003, threshold=0.069, highest=0.6)
    assert 200 < len(levels.values) <= MOST
    found = np.linspace(0.0376, 0.6, 50 * 70).reshape(50, 70)
    away = np.abs(kept(levels, found) - found)
    assert away[np.abs(found - 0.069) < 0.001].max() < 4e-5
    assert (away <= 0.03 * np.abs(found - 0.069) + 2e-5).all()


@pytest.mark.parametrize("threshold", [0.02, 0.069, 0.3, 0.55])
def test_no_value_changes_the_side_of_the_threshold(threshold):
    levels = Levels.of(0.02, 0.1003, threshold, highest=0.6)
    near = np.float32(threshold) + np.float32(1e-6) * np.arange(-3, 4, dtype=np.float32)
    found = np.concatenate([near, np.linspace(0, 0.6, 101)]).astype(np.float32)[None]
    hot = found > np.float32(threshold)
    np.testing.assert_array_equal(kept(levels, found) > threshold, hot)


def test_a_threshold_far_from_all_maps_leaves_them_told_apart():
    for threshold in (-5, 100):
        levels = Levels.of(0.04, 0.1, threshold, highest=0.5)
        assert len(levels.values) <= MOST
        found = np.linspace(0.04, 0.5, 40)[None]
        np.testing.assert_allclose(kept(levels, found), found, atol=0.01)
