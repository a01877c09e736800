"""Normal images that have moved away from those of fit()."""

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.detector.drift import MEASURES, Inspected, Usual, drift
from pyimgano_openclip.images.look import Look

from helpers.detectors import BOTH
from helpers.embedders import red_images

NORMAL = red_images(40)
GREY = Look(100.0, 20.0, 1.0, 0.0, 0.0)
NO_LOOKS = np.empty((0, 5))


def usual(scores, looks=NO_LOOKS, parts=None):
    return Usual(np.asarray(scores), looks, len(scores) if parts is None else parts)


def inspected(scores, look=None):
    return [Inspected(score, look) for score in scores]


@BOTH
def test_normal_images_like_those_before_have_not_moved(build):
    detector = build(contamination=0.1).fit(NORMAL)
    found = detector.drift(detector.score_iter(red_images(40, first=100)))
    assert not found.moved
    assert "are like the training images" in str(found)


def test_scores_that_rise_are_noticed_and_those_that_fall_are_none():
    draw = np.random.default_rng(0)
    training, new = draw.normal(size=60), draw.normal(size=80)
    found = drift(usual(training), inspected(new + 1.5), threshold=4)
    assert (found.measure, found.moved) == ("score", True)
    assert "the 80 that passed score higher than the training images in " in str(found)
    assert not drift(usual(training), inspected(new - 1.5), threshold=4).moved


def test_what_has_moved_is_told_where_many_images_leave_no_chance():
    """Chances of all that differs are then rounded to 0; scores differ, but not by much."""
    draw, many = np.random.default_rng(0), 6000
    looks = np.tile(GREY[:MEASURES], (many, 1))
    looks[:, 0] = draw.normal(size=many)
    passed = [
        Inspected(score, GREY._replace(brightness=brightness))
        for score, brightness in draw.normal((0.85, 5), size=(many, 2))
    ]
    found = drift(usual(draw.normal(size=many), looks), passed, threshold=99)
    assert (found.measure, found.moved, found.chance) == ("brightness", True, 0)


@pytest.mark.parametrize(
    ("measure", "by", "words"),
    [
        ("brightness", 20, "are brighter"),
        ("brightness", -20, "are darker"),
        ("contrast", 8, "have more contrast"),
        ("detail", -1, "are blurred more"),
        ("red", 1, "are redder"),
        ("blue", -1, "are less blue"),
    ],
)
def test_other_looks_are_noticed_where_scores_stay(measure, by, words):
    draw = np.random.default_rng(0)
    scores = draw.uniform(size=100)
    looks = np.array(GREY[:MEASURES]) + draw.normal(size=(150, MEASURES)) * (5, 2, 0.2, 0.1, 0.1)
    known = usual(scores[:50], looks[:50])
    same = [Inspected(score, Look(*look)) for score, look in zip(scores, looks[50:], strict=True)]
    assert not drift(known, same, threshold=1).moved
    other = [
        one._replace(look=one.look._replace(**{measure: getattr(one.look, measure) + by}))
        for one in same
    ]
    found = drift(known, other, threshold=1)
    assert (found.measure, found.moved) == (measure, True)
    assert f"the 100 that passed {words} than the training images in " in str(found)


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.8, 1.2])
def test_a_fifth_more_or_less_light_is_noticed_after_ten_images(gain):
    from pyimgano_openclip.samples import make_sample

    images = [
        make_sample("leather", seed=seed, product=3, size=(64, 64)).image for seed in range(70)
    ]
    detector = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", openclip_pretrained=None)
    detector.fit(images[:10]).threshold_ = 1.0  # all pass
    assert not detector.drift(detector.score_iter(images[10:])).moved
    lit = [np.clip(image * gain, 0, 255).astype(np.uint8) for image in images[10:]]
    found = detector.drift(detector.score_iter(lit))
    assert found.moved
    assert found.higher == (1 if gain > 1 else 0)


@pytest.mark.parametrize("count", [20, 100])
def test_chance_is_that_of_the_rank_test(count):
    from scipy.stats import mannwhitneyu

    draw = np.random.default_rng(count)
    training, scores = draw.normal(size=50), draw.normal(size=count) + 0.4
    how = {"method": "asymptotic", "use_continuity": False}
    higher = mannwhitneyu(scores, training, alternative="greater", **how).pvalue
    assert drift(usual(training), inspected(scores), threshold=9).chance == pytest.approx(higher)
    looks = np.array([GREY._replace(brightness=value)[:MEASURES] for value in training])
    images = [Inspected(-9.0, GREY._replace(brightness=value)) for value in scores]
    found = drift(usual(training, looks), images, threshold=9)
    assert found.chance == pytest.approx(mannwhitneyu(scores, training, **how).pvalue)


def test_images_of_one_part_count_once():
    scores, new = np.repeat(np.linspace(0, 1, 10), 10), np.linspace(0.8, 1, 20)
    alone, together = (drift(usual(scores, parts=parts), inspected(new), 1) for parts in (100, 10))
    assert alone.higher == together.higher
    assert alone.moved
    assert not together.moved


def test_what_did_not_pass_and_what_was_not_inspected_do_not_count():
    training = np.linspace(0, 1, 40)
    passed = training.tolist()
    found = drift(usual(training), inspected([*passed, *[5.0] * 100, np.nan]), threshold=1)
    assert (found.images, found.moved) == (40, False)
    assert drift(usual(training), inspected([*passed[:19], *[5.0] * 100]), threshold=1) is None


@BOTH
def test_before_fit_there_is_nothing_to_compare_with(build):
    with pytest.raises(RuntimeError, match="fit"):
        build().drift([])


@BOTH
@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (NORMAL, r"array of shape \(\d+, \d+, 3\), uint8"),
        (["a.png"], "a.png"),
        ("good", "good"),
        (None, "NoneType object"),
    ],
)
def test_images_in_place_of_results_are_refused(build, wrong, found):
    detector = build().fit(NORMAL)
    with pytest.raises(ValueError, match=f"drift.. was given {found}; results were expected"):
        detector.drift(wrong)
