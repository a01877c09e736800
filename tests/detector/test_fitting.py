"""Fitting: training scores, thresholds, and no change if it fails."""

import numpy as np
import pytest

from pyimgano_openclip import load_detector

from helpers.detectors import BOTH, EACH, patchknn, promptscore
from helpers.embedders import (
    ColourEmbedder,
    FileEmbedder,
    red_image,
    red_images,
    save_all,
    with_green,
)

NORMAL = red_images(12)


def test_training_scores_leave_the_image_itself_out():
    detector = patchknn().fit(NORMAL)
    for index in (0, 5, 11):
        others = NORMAL[:index] + NORMAL[index + 1 :]
        expected = patchknn().fit(others).decision_function([NORMAL[index]])[0]
        assert detector.decision_scores_[index] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(detector.decision_function(NORMAL), detector.decision_scores_)
    unknown_twins = [image.copy() for image in NORMAL]
    unknown_twins[0][0, 0] += 1  # other content: found in the bank
    assert detector.decision_function(unknown_twins)[0] < detector.threshold_ / 10


def test_new_normal_images_are_not_all_flagged():
    detector = patchknn(contamination=0.1).fit(red_images(40))
    flagged = detector.predict(red_images(40, first=1000)).mean()
    assert flagged < 0.35


@BOTH
def test_the_threshold_is_the_quantile_of_the_training_scores(build):
    detector = build(contamination=0.25).fit(NORMAL)
    assert detector.decision_scores_.shape == (12,)
    ranked = np.sort(detector.decision_scores_)  # the rank is 0.75 * 13 = 9.75
    assert detector.threshold_ == pytest.approx(0.25 * ranked[8] + 0.75 * ranked[9])
    assert detector.labels_.sum() == 3


@EACH
def test_fitting_and_labelling_at_once_takes_what_fitting_takes(build, tmp_path):
    images = [*red_images(9), with_green(red_image(seed=20), 10, 20)]
    expected = build().fit(images).predict(images)
    paths = save_all(images, tmp_path)
    for given in (images, (image for image in images), np.stack(images)):
        np.testing.assert_array_equal(build().fit_predict(given), expected)
    for given in (paths, iter(paths), tmp_path):
        detector = build(embedder=FileEmbedder())
        np.testing.assert_array_equal(detector.fit_predict(X=given), expected)
    with pytest.raises(ValueError, match="x is empty"):
        build().fit_predict([])
    with pytest.raises(ValueError, match="x and X are the same argument"):
        build().fit_predict(images, X=images)


@EACH
def test_the_threshold_may_be_set_from_outside(build):
    detector = build().fit(NORMAL)
    detector.threshold_ = -1.0
    assert detector.predict(NORMAL).tolist() == [1] * 12


@BOTH
def test_one_training_image_is_enough(build):
    detector = build().fit(NORMAL[:1])
    assert np.isfinite(detector.threshold_)
    assert detector.predict([with_green(NORMAL[0], 10, 20)]).tolist() == [1]


def test_patchknn_before_fit_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"call fit\(\)"):
        patchknn().decision_function(NORMAL)
    with pytest.raises(RuntimeError, match="fit"):
        patchknn().predict(NORMAL)


@EACH
def test_a_failed_fit_leaves_the_detector_as_it_was(build):
    detector = build().fit(NORMAL)
    before = (detector.threshold_, detector.decision_function(NORMAL[:2]).tolist())
    with pytest.raises(Exception, match=r".+"):
        detector.fit([NORMAL[0], "no such file.png"])
    assert (detector.threshold_, detector.decision_function(NORMAL[:2]).tolist()) == before


def test_a_threshold_that_is_set_decides_labels_and_only_of_distances_the_regions():
    unfitted = patchknn()
    for threshold in (unfitted.label_threshold, unfitted.region_threshold):
        with pytest.raises(RuntimeError, match="no threshold yet"):
            threshold()
    words = promptscore(mode="diff")
    assert (words.label_threshold(), words.region_threshold()) == (0.0, 0.0)
    for detector, region in ((unfitted, 0.2), (words, 0.0)):
        detector.threshold_ = 0.2
        assert (detector.label_threshold(), detector.region_threshold()) == (0.2, region)


@pytest.mark.parametrize("settings", [{"coreset_sampling_ratio": 0.25}, {"max_patches": 48}])
def test_the_bank_can_be_thinned(settings):
    detector = patchknn(**settings).fit(NORMAL)
    assert len(detector.memory_bank_) == 48
    assert detector.predict([with_green(NORMAL[0], 10, 20)]).tolist() == [1]


@EACH
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, None, "0.5", True, 2.5])
def test_a_threshold_that_no_score_can_be_compared_with_is_refused(build, wrong):
    detector = build().fit(red_images(6))
    before = detector.threshold_
    with pytest.raises(ValueError, match=r"threshold_=.*must be a number in \(-inf, [12].0\]"):
        detector.threshold_ = wrong
    assert detector.threshold_ == before
    detector.threshold_ = np.float32(0.5)
    assert detector.label_threshold() == 0.5


@pytest.mark.filterwarnings("default::pyimgano_openclip.bank.copies.CopiesWarning")
def test_a_chosen_threshold_stays_when_images_are_added_until_it_is_computed(tmp_path):
    detector, usual = patchknn().fit(NORMAL[:8]), patchknn().fit(NORMAL[:8])
    assert not detector.threshold_chosen_
    detector.threshold_ = 0.15
    assert (detector.threshold_chosen_, detector.computed_threshold()) == (True, usual.threshold_)
    detector = patchknn().load_checkpoint(detector.save_checkpoint(tmp_path / "chosen"))
    for more in (NORMAL[8:], NORMAL[8:9], [with_green(NORMAL[0], 10, 20)]):  # the second is known
        detector.partial_fit(more)
        assert (detector.threshold_, detector.threshold_chosen_) == (0.15, True)
        assert detector.labels_.tolist() == (detector.decision_scores_ > 0.15).tolist()
    computed = detector.computed_threshold()
    assert detector._process_decision_scores().threshold_ == computed != 0.15
    assert not detector.threshold_chosen_
    assert not patchknn().load_checkpoint(usual.save_checkpoint(tmp_path / "d")).threshold_chosen_
    usual.partial_fit(NORMAL[8:])
    assert usual.threshold_ == patchknn().fit(NORMAL).threshold_
    for name, share in (("contamination", 0.3), ("confidence", 0.5)):  # the threshold follows
        detector.threshold_ = 0.15
        setattr(detector, name, share)
        assert detector.threshold_ == detector.computed_threshold()
        assert not detector.threshold_chosen_
    for anew in (lambda: detector.fit(NORMAL), lambda: detector.set_params(contamination=0.2)):
        detector.threshold_ = 0.15
        assert not anew().threshold_chosen_


def test_a_threshold_that_is_chosen_first_stays_when_the_first_images_come():
    detector = patchknn()
    detector.threshold_ = 0.15
    assert detector.partial_fit(NORMAL).threshold_ == 0.15
    assert detector.computed_threshold() == patchknn().fit(NORMAL).threshold_
    assert detector.promise().count == len(NORMAL)


@pytest.mark.parametrize("settings", [{}, {"confidence": 0.6}])
def test_another_contamination_moves_both_thresholds_by_prompts(settings, tmp_path):
    images = [with_green(image, 10, 20, side=2 + n) for n, image in enumerate(NORMAL)]
    detector = promptscore(**settings, contamination=0.2).fit(images)
    loaded = promptscore().load_checkpoint(detector.save_checkpoint(tmp_path / "d"))
    expected = promptscore(**settings, contamination=0.4).fit(images)
    for found in (detector, loaded):
        found.contamination = 0.4
        found._process_decision_scores()
        assert found.label_threshold() == expected.label_threshold()
        assert found.region_threshold() == expected.region_threshold() < 1


@EACH
def test_labels_of_training_images_follow_a_threshold_that_is_set(build, tmp_path):
    detector = build().fit(NORMAL)
    scores = np.sort(detector.decision_scores_)
    detector.threshold_ = float(scores[2])
    expected = (detector.decision_scores_ > scores[2]).astype(int)
    np.testing.assert_array_equal(detector.labels_, expected)
    path = detector.save_checkpoint(tmp_path / "d.safetensors")
    loaded = load_detector(path, embedder=ColourEmbedder())
    np.testing.assert_array_equal(loaded.labels_, expected)


@pytest.mark.parametrize("settings", [{}, {"references": NORMAL}])
@pytest.mark.parametrize(("name", "value"), [("contamination", 0.3), ("confidence", 0.9)])
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.detector.promises.FewImagesWarning")
def test_a_chosen_threshold_goes_with_another_share_before_fit_too(settings, name, value):
    detector = promptscore(**settings)
    if settings:
        detector.read_references()
    usual = detector.label_threshold()
    detector.threshold_ = 0.6
    assert detector.threshold_chosen_
    setattr(detector, name, value)
    assert not detector.threshold_chosen_
    again = promptscore(**settings, **{name: value})
    expected = again.read_references().label_threshold() if settings else usual
    assert detector.label_threshold() == pytest.approx(expected)


def test_of_another_class_nothing_is_promised_until_fit(tmp_path):
    words = promptscore(class_name="leather").fit(NORMAL)
    kept = words.label_threshold(), words.region_threshold()
    words.set_class_name("leather").promise()
    words.set_class_name("rust")
    path = words.save_checkpoint(tmp_path / "d.safetensors")
    for detector in (words, load_detector(path, embedder=ColourEmbedder())):
        assert (detector.label_threshold(), detector.region_threshold()) == kept
        for told in (detector.promise, detector.suspects, lambda d=detector: d.drift([])):
            with pytest.raises(RuntimeError, match=r"call fit\(\) first"):
                told()
        with pytest.raises(RuntimeError, match=r"call fit\(\) first"):
            detector.score_percentile([0.1])
        assert detector.predict(NORMAL[:2]).shape == (2,)
    words.fit(NORMAL).promise()


def test_confidence_without_training_scores_is_refused_before_scoring():
    detector = promptscore(embedder=ColourEmbedder())
    with pytest.raises(
        RuntimeError, match=r"no training scores .* confidence .* call fit\(\) first"
    ):
        detector.predict(NORMAL, return_confidence=True)
    assert detector.embedder.calls == 0


def test_an_image_learnt_alone_is_measured_again_once_there_are_others(tmp_path):
    spots = [(8 * (s // 5), 8 * (s % 5)) for s in range(25)]
    first, *many = (with_green(red_image(seed=s), *spot) for s, spot in enumerate(spots))
    settings = {"max_patches": 60, "jitter": 0.0, "embedder": ColourEmbedder(5, 5)}
    grown = patchknn(**settings).fit([first])
    alone = grown.threshold_
    assert not patchknn(**settings).fit([first, *many[:2]]).memory_bank_.is_complete
    grown.partial_fit(many[:2])
    path = grown.save_checkpoint(tmp_path / "d.safetensors")
    together = patchknn(**settings).fit([first, *many])
    assert together.threshold_ < 0.3 * alone
    for detector in (grown, load_detector(path, embedder=ColourEmbedder(5, 5))):
        detector.partial_fit(many[2:])
        assert detector.promise().count == together.promise().count
        assert detector.threshold_ < 0.5 * alone


@pytest.mark.parametrize("wrong", ["x", (96,), (96, 0), (96.5, 96)])
def test_a_canvas_that_is_none_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match="canvas="):
        patchknn().use_canvas(wrong)
