"""Scores of an image seen at once, beside those of its details."""

import numpy as np
import pytest

from pyimgano_openclip.maps.overview import OVERVIEW, soft_maximum, unit_of, with_overview
from pyimgano_openclip.maps.scores import ImageScores, anomaly_map


def random(*shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype(np.float32)


def test_a_patch_has_the_weighted_mean_of_its_own_score_and_the_overviews_there():
    overview = np.zeros((2, 3), np.float32)
    overview[1, 2] = 1  # the lower right sixth
    both = with_overview(np.full((20, 60), 0.5, np.float32), overview)
    assert both.dtype == np.float32
    assert both[-1, -1] == pytest.approx((1 - OVERVIEW) * 0.5 + OVERVIEW)
    np.testing.assert_allclose(both[:5], (1 - OVERVIEW) * 0.5, rtol=1e-6)
    np.testing.assert_allclose(both[:, :30], (1 - OVERVIEW) * 0.5, rtol=1e-6)


def test_what_is_not_looked_at_adds_nothing_to_its_neighbours():
    overview = np.array([[np.nan, 0.4, 0.4], [np.nan, np.nan, np.nan]], np.float32)
    details = random(8, 12)
    details[6:, :3] = np.nan
    both = with_overview(details, overview)
    np.testing.assert_array_equal(np.isnan(both), np.isnan(details))
    expected = (1 - OVERVIEW) * details + OVERVIEW * 0.4  # the mean where nothing is near as well
    np.testing.assert_allclose(both, expected, rtol=1e-6)


@pytest.mark.parametrize(("details", "overview"), [(0.2, 0.1), (0.1, 0.2), (0.0, 0.3), (0.3, 0.0)])
def test_a_soft_maximum_is_hardly_more_than_the_higher(details, overview):
    found = soft_maximum(details, overview, 1.5)
    higher = max(details, 1.5 * overview)
    assert higher <= found <= 2**0.25 * higher
    assert soft_maximum(details + 0.01, overview, 1.5) > found
    assert soft_maximum(details, overview + 0.01, 1.5) > found


def test_the_unit_makes_scores_that_are_as_rare_equal():
    details = np.linspace(0.1, 0.2, 19)
    assert unit_of(details, 0.25 * details) == pytest.approx(4)
    assert unit_of([0.2], [0.1]) == pytest.approx(2)
    assert unit_of([0.0, 0.0], [0.1, 0.2]) == unit_of([0.1, 0.2], [0.0, 0.0]) == 1


def test_scores_keep_both_scales_and_map_them_together():
    fine, coarse = random(6, 9), random(2, 3, seed=1)
    scored = ImageScores(
        0.5, (60, 90), fine.shape, fine.tobytes(), overview=ImageScores.of(coarse, 0.3, (60, 90))
    )
    for kept, given in zip(scored.by_scale, (fine, coarse), strict=True):
        np.testing.assert_array_equal(kept, given)
    np.testing.assert_array_equal(scored.patches, with_overview(fine, coarse))
    assert not scored.patches.flags.writeable
    np.testing.assert_array_equal(scored.anomaly_map(), anomaly_map(scored.patches, (60, 90)))
    assert scored.peak == pytest.approx(anomaly_map(scored.patches, (54, 81)).max())
