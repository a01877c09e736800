"""What a threshold promises: simulated through fit(), with embedders of known distribution."""

import json
from functools import cache

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, load_detector
from pyimgano_openclip.cli import main
from pyimgano_openclip.detector.learnt import Calibration
from pyimgano_openclip.detector.promises import FewImagesWarning, images_needed, promise

from helpers.detectors import BOTH
from helpers.embedders import GREEN, RED, red_images
from helpers.runs import leather

DRAWS = 200
FEWEST = binom.ppf(0.01, DRAWS, 0.95)  # of 200 fits keep a promise that 95 % keep


class Angles:
    """Image number i has one patch, whose direction in the plane of both texts is drawn."""

    def embed(self, number):
        return self.token(np.random.default_rng(number).normal())[None], (1, 1), (8, 8)

    @staticmethod
    def token(draw):
        return RED + np.tan(np.arctan(draw) / 2) * GREEN


@cache
def cloud(number):
    """Four patches around a point that is drawn."""
    draw = np.random.default_rng(number)
    return draw.normal(size=12) * 0.5 + draw.normal(size=(4, 12))


class Clouds:
    """Image number i is a cloud of patches."""

    def embed(self, number):
        return cloud(number), (2, 2), (8, 8)


def promptscore(contamination, confidence):
    return VisionOpenCLIPPromptScore(
        embedder=Angles(),
        text_features_normal=RED,
        text_features_anomaly=GREEN,
        contamination=contamination,
        confidence=confidence,
        mode="diff",
    )


def rate_above(threshold):
    """Share of all images that score above it: the score grows with the draw."""
    draws = np.linspace(-6, 6, 4001)
    tokens = np.stack([Angles.token(draw) for draw in draws])
    scores = (tokens @ (GREEN - RED)) / np.linalg.norm(tokens, axis=1)
    return norm.sf(np.interp(threshold, scores, draws))


@pytest.mark.slow
@pytest.mark.parametrize(("n", "contamination"), [(30, 0.1), (60, 0.05), (150, 0.02)])
def test_with_confidence_at_most_the_contamination_is_flagged(n, contamination):
    rates = []
    for draw in range(DRAWS):
        detector = promptscore(contamination, 0.95).fit(range(draw * n, (draw + 1) * n))
        rates.append(rate_above(detector.threshold_))
    assert (np.array(rates) <= contamination).sum() >= FEWEST
    assert np.mean(rates) > contamination / 4  # it is no threshold that flags nothing


@pytest.mark.slow
def test_the_bound_of_a_threshold_without_confidence_holds():
    kept = 0
    for draw in range(DRAWS):
        detector = promptscore(0.1, None).fit(range(draw * 20, (draw + 1) * 20))
        kept += rate_above(detector.threshold_) <= detector.false_alarm_bound_
    assert kept >= FEWEST


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.bank.copies.CopiesWarning")
@pytest.mark.parametrize("copies", [0, 30])
def test_a_memory_bank_keeps_its_promise_even_with_copies_in_it(copies):
    kept, n, embedder = 0, 30, Clouds()
    for draw in range(DRAWS // 2):
        images = [1000 + draw * n + number for number in range(n)]
        detector = VisionOpenCLIPPatchKNN(embedder=embedder, contamination=0.1, confidence=0.95)
        detector.fit(images + images[:copies])
        kept += (detector.decision_function(range(200)) > detector.threshold_).mean() <= 0.1
    assert kept >= binom.ppf(0.01, DRAWS // 2, 0.95)


def test_one_of_ten_images_is_no_promise_of_five_percent():
    detector = promptscore(0.05, None).fit(range(10))
    assert str(detector.promise()) == (
        "a new normal image is flagged with about 9 %; with 95 % confidence at most 26 % "
        "(10 images; 59 would bound 5 %)"
    )
    assert detector.false_alarm_bound_ == pytest.approx(1 - 0.05 ** (1 / 10))


@pytest.mark.parametrize(
    ("count", "flagged", "contamination", "confidence", "told"),
    [
        (24, 0, 0.09, 0.9, "with 90 % confidence at most 9.2 % (24 images; 25 would bound 9 %)"),
        (2000, 0, 0.001, 0.95, "at most 0.15 % (2000 images; 2995 would bound 0.1 %)"),
        (54, 0, 0.015, 0.95, "at most 5.4 % (54 images; 199 would bound 1.5 %)"),
        (100, 0, 0.1, 0.9999, "with 99.99 % confidence at most 8.8 % (100 images)"),
        (
            100,
            0,
            1 - 0.9,
            1 - 1e-9,
            "with 99.9999999 % confidence at most 19 % (100 images; 197 would bound 10 %",
        ),
        (100, 0, 1 / 3, 2 / 3, "with 66.6667 % confidence at most 1.1 % (100 images)"),
        (29, 14, 0.5, 0.5, "with 50 % confidence at most 50 % (29 images)"),
        (10, 10, 0.1, 0.95, "about 100 %; with 95 % confidence at most 100 % (10 images; 29 wo"),
    ],
)
def test_a_bound_is_never_told_lower_than_it_is(count, flagged, contamination, confidence, told):
    scores = np.arange(count, dtype=np.float64)
    threshold = scores[count - 1 - flagged] if flagged < count else -1.0
    assert told in str(promise(Calibration.of(scores), threshold, contamination, confidence))


def test_no_number_of_images_is_said_to_bound_what_a_chosen_threshold_flags():
    detector = promptscore(0.1, None).fit(range(40))
    detector.threshold_ = float(np.median(detector.decision_scores_))
    told = str(detector.promise())
    assert told.startswith("a new normal image is flagged with about ")
    assert told.endswith("(40 images)")
    detector.contamination = 0.01  # from which the threshold follows again
    assert str(detector.promise()).endswith("(40 images; 299 would bound 1 %)")


def test_a_bound_above_what_was_asked_for_is_told_as_one():
    with pytest.warns(FewImagesWarning, match=r"at 9 % with 90 % .* 25\. .* them at 9\.2 %"):
        promptscore(0.09, 0.9).fit(range(24))


@pytest.mark.parametrize("n", [1, 4, 7, 29])
@pytest.mark.parametrize("contamination", [0.5, 0.2, 0.1, 0.01])
def test_rounding_errors_ask_for_no_more_images(n, contamination):
    confidence = 1 - (1 - contamination) ** n
    assert images_needed(contamination, confidence) == n


def test_too_few_images_give_the_highest_score_and_a_warning_of_how_many_it_takes():
    with pytest.warns(FewImagesWarning, match=r"20 images .* at 5 % .* takes 59.* at 14 %"):
        detector = promptscore(0.05, 0.95).fit(range(20))
    assert detector.threshold_ == detector.decision_scores_.max()
    assert detector.promise().rate == pytest.approx(1 / 21)


def by_peaks(contamination, confidence):
    return promptscore(contamination, confidence).use_pot_thresholding(
        tail_fraction=0.5, min_exceedances=3
    )


def test_a_threshold_by_peaks_over_threshold_is_told_to_follow_no_confidence():
    told = r"confidence=0\.95 has no effect .* over threshold: with 20 images this .* at {}\. Call"
    with pytest.warns(FewImagesWarning, match=told.format(r"22 % .*, not at 5 %")):
        detector = by_peaks(0.05, 0.95).fit(range(20))
    assert detector.threshold_ < detector.decision_scores_.max()
    assert "at most 22 %" in str(detector.promise())
    with pytest.warns(FewImagesWarning, match=told.format(r"\d+ % .*, not at 6 %")):
        detector.contamination = 0.06
    by_peaks(0.05, None).fit(range(20))  # warnings are errors
    assert by_peaks(0.3, 0.6).fit(range(60)).promise().bound < 0.3


@pytest.mark.parametrize(
    ("contamination", "confidence", "n"),
    [(0.1, 0.95, 29), (0.05, 0.95, 59), (0.02, 0.95, 149), (0.01, 0.95, 299), (0.1, None, 9)],
)
def test_the_number_of_images_that_a_promise_takes(contamination, confidence, n):
    assert images_needed(contamination, confidence) == n
    lowest = promptscore(contamination, confidence).fit(range(n)).promise()
    assert (lowest.rate if confidence is None else lowest.bound) <= contamination + 1e-12


@BOTH
def test_a_promise_is_saved_and_loaded(build, tmp_path):
    detector = build(contamination=0.2, confidence=0.5).fit(red_images(12))
    path = detector.save_checkpoint(tmp_path / "saved.safetensors")
    twin = build().load_checkpoint(path)
    assert (twin.promise(), twin.confidence) == (detector.promise(), 0.5)
    assert load_detector(path, embedder=detector.embedder).promise() == detector.promise()


def test_a_threshold_of_the_callers_has_a_bound_too():
    detector = promptscore(0.1, None).fit(range(50))
    detector.threshold_ = np.sort(detector.decision_scores_)[30]
    assert detector.promise().rate == pytest.approx(1 - 31 / 51)
    assert detector.false_alarm_bound_ > 0.4


@pytest.mark.parametrize("wrong", [0, 0.3, 1, "high"])
@BOTH
def test_a_confidence_that_is_none_is_refused(build, wrong):
    with pytest.raises(ValueError, match="confidence"):
        build(confidence=wrong)


@BOTH
def test_before_fit_nothing_is_promised(build):
    with pytest.raises(RuntimeError, match="fit"):
        _ = build().false_alarm_bound_


@pytest.mark.slow
def test_fit_and_the_report_say_what_can_be_expected(tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 10), str(tmp_path / "saved.safetensors")
    command = ["fit", "--normal", str(normal), "--out", saved, "--model", "bundled", "--json"]
    assert main([*command, "--contamination", "0.1", "--confidence", "0.6"]) == 0
    facts = json.loads(capsys.readouterr().out)["false_alarms"]
    assert facts == {
        "rate": pytest.approx(1 / 11),
        "bound": pytest.approx(1 - 0.4 ** (1 / 10)),
        "confidence": 0.6,
        "images": 10,
    }
    out = tmp_path / "out"
    assert main(["score", str(normal), "--detector", saved, "--out", str(out)]) == 0
    assert "a new normal image is flagged with about 9 %" in (out / "report.html").read_text()


@pytest.mark.parametrize("count", [1, 29, 213, 5000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_a_bound_is_that_of_clopper_and_pearson(count, confidence):
    scores = np.arange(count, dtype=np.float64)
    for flagged in {0, count // 10, count - 1}:
        found = promise(Calibration.of(scores), scores[count - 1 - flagged], 0.1, confidence)
        exact = beta.ppf(confidence, flagged + 1, count - flagged)
        assert found.bound == pytest.approx(exact, rel=1e-9)


@BOTH
def test_one_image_is_told_in_the_singular(build):
    with pytest.warns(FewImagesWarning, match="^1 image cannot bound false alarms at 10 %"):
        build(confidence=0.95).fit(red_images(1))
