"""Thresholds from normal images alone: how many further normal images they flag."""

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

from helpers.embedders import GREEN, RED

SEEDS, HELD_OUT = 40, 25


class Draws:
    """Image number i is a draw of patches from one distribution, some of them hard."""

    def embed(self, number):
        generator = np.random.default_rng(number)
        tokens = generator.normal(size=(16, 24)) * np.linspace(1, 0.1, 24)
        return tokens + generator.normal() * 0.3, (4, 4), (40, 40)


class Hues:
    """Image number i has one patch, whose direction in the plane of both texts is drawn."""

    def embed(self, number):
        return RED[None] + np.random.default_rng(number).normal() * GREEN[None], (1, 1), (8, 8)


def patchknn(contamination, **settings):
    return VisionOpenCLIPPatchKNN(embedder=Draws(), contamination=contamination, **settings)


def promptscore(contamination):
    return VisionOpenCLIPPromptScore(
        embedder=Hues(),
        text_features_normal=RED,
        text_features_anomaly=GREEN,
        contamination=contamination,
    )


def false_alarm_rates(build, contaminations, n):
    """Share of held-out normal images above the threshold, over many fits on n images."""
    flagged = []
    for seed in range(SEEDS):
        first = seed * (n + HELD_OUT)
        detector = build(contaminations[0]).fit(list(range(first, first + n)))
        scores = detector.decision_function(range(first + n, first + n + HELD_OUT))
        row = []
        for contamination in contaminations:
            detector.contamination = contamination
            detector._process_decision_scores()
            row.append((scores > detector.threshold_).mean())
        flagged.append(row)
    return np.mean(flagged, axis=0)


@pytest.mark.parametrize("n", [10, 20])
def test_the_false_alarm_rate_is_the_contamination(n):
    contaminations = (0.1, 0.2)
    rates = false_alarm_rates(promptscore, contaminations, n)
    # A rate over 40 fits has a standard error of up to 0.02.
    np.testing.assert_allclose(rates, contaminations, atol=0.05)


def test_a_memory_bank_flags_few_images_less_as_it_has_one_more_than_when_it_was_measured():
    contaminations = (0.1, 0.2)
    rates = false_alarm_rates(patchknn, contaminations, 20)
    assert (rates > np.multiply(contaminations, 0.4)).all()
    assert (rates < np.multiply(contaminations, 1.3)).all()


@pytest.mark.parametrize("settings", [{"coreset_sampling_ratio": 0.25}, {"max_patches": 80}])
def test_a_thinned_bank_flags_no_more_than_the_contamination(settings):
    def build(contamination):
        return patchknn(contamination, **settings)

    (rate,) = false_alarm_rates(build, (0.2,), 15)
    assert 0.03 < rate < 0.26


def test_a_threshold_from_scores_against_themselves_would_flag_everything():
    detector = patchknn(0.1).fit(range(20))
    naive = np.quantile(detector.decision_function(range(20)), 0.9)
    assert (detector.decision_function(range(100, 150)) > naive).all()


@pytest.mark.parametrize(
    ("n", "contamination", "rank"), [(9, 0.1, 9), (19, 0.1, 18), (9, 0.5, 5), (3, 0.05, 3)]
)
def test_the_threshold_is_the_score_of_a_rank(n, contamination, rank):
    detector = promptscore(contamination).fit(range(n))
    assert detector.threshold_ == pytest.approx(np.sort(detector.decision_scores_)[rank - 1])


def test_the_hosts_other_way_to_a_threshold_still_works():
    detector = patchknn(0.1)
    detector.use_pot_thresholding()
    detector.fit(range(60))
    assert detector.threshold_ > np.median(detector.decision_scores_)
    assert hasattr(detector, "pot_info_")


def test_a_patch_dropped_for_an_image_counts_again_when_that_image_is_left_out():
    class Corners:
        """Two images share two odd patches, the third has none; thinning keeps one of each."""

        def embed(self, number):
            tokens = np.tile(np.eye(3)[0], (4, 1)) + 1e-3 * np.eye(4, 3) * number
            if number < 2:  # at other places, as near copies are left out together
                tokens[2 * number : 2 * number + 2] = np.eye(3)[1:] + 1e-3 * number
            return tokens, (2, 2), (20, 20)

    detector = VisionOpenCLIPPatchKNN(embedder=Corners(), max_patches=3, aggregation_method="max")
    detector.fit(range(3))
    assert len(detector.memory_bank_) == 3
    # Without the dropped copies the first two would lie at a right angle to everything.
    assert (detector.decision_scores_ < 0.01).all()
