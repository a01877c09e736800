"""Normal images that have moved away from those of fit()."""

import numpy as np
import pytest

from pyimgano_openclip.detector.drift import drift

from helpers.detectors import BOTH
from helpers.embedders import red_images

NORMAL = red_images(40)


@BOTH
def test_normal_images_like_those_before_have_not_moved(build):
    detector = build(contamination=0.1).fit(NORMAL)
    found = detector.drift(detector.decision_function(red_images(40, first=100)))
    assert not found.moved
    assert "score like the training images" in str(found)


def test_scores_that_rise_or_fall_below_the_threshold_are_noticed():
    training = np.random.default_rng(0).normal(size=60)
    for way, by in (("higher", 1.2), ("lower", -1.2)):
        scores = np.random.default_rng(1).normal(size=80) + by
        found = drift(training, scores, threshold=2.5)
        assert found.moved
        assert f"score {way} than the training images in " in str(found)


@pytest.mark.parametrize("count", [20, 100])
def test_chance_is_that_of_the_rank_test(count):
    from scipy.stats import mannwhitneyu

    draw = np.random.default_rng(count)
    training, scores = draw.normal(size=50), draw.normal(size=count) + 0.4
    exact = mannwhitneyu(scores, training, method="asymptotic", use_continuity=False)
    assert drift(training, scores, threshold=9).chance == pytest.approx(exact.pvalue)


def test_what_did_not_pass_and_what_was_not_inspected_do_not_count():
    training = np.linspace(0, 1, 40)
    passed = training.tolist()
    found = drift(training, [*passed, *[5.0] * 100, np.nan], threshold=1)
    assert (found.images, found.moved) == (40, False)
    assert drift(training, [*passed[:19], *[5.0] * 100], threshold=1) is None


@BOTH
def test_before_fit_there_is_nothing_to_compare_with(build):
    with pytest.raises(RuntimeError, match="fit"):
        build().drift([0.1] * 30)
