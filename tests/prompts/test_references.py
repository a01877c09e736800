"""A few normal images beside the texts."""

import pickle
import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone

from pyimgano_openclip import VisionOpenCLIPPromptScore, load_detector
from pyimgano_openclip.bank.copies import CopiesWarning
from pyimgano_openclip.detector.promises import FewImagesWarning

from helpers import detectors
from helpers.embedders import (
    FileEmbedder,
    red_images,
    save_all,
    with_green,
)

NORMAL = red_images(6)


def promptscore(**settings):
    return detectors.promptscore(embedder=FileEmbedder(), **settings)


@pytest.fixture
def paths(tmp_path):
    return save_all(NORMAL, tmp_path)


@pytest.mark.parametrize(
    "again",
    [
        lambda paths: [str(path) for path in paths],
        lambda paths: [type(path)(path) for path in paths],
        lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]),
    ],
)
def test_the_same_images_given_anew_are_known_again(paths, again):
    given = paths if not isinstance(again(paths), np.ndarray) else list(again(paths))
    detector = promptscore(references=given)
    scores = detector.decision_function(again(paths))
    for number in range(len(paths)):
        others = promptscore(references=[*given[:number], *given[number + 1 :]])
        assert scores[number] == pytest.approx(others.decision_function([given[number]])[0])
    np.testing.assert_array_equal(detector.fit(again(paths)).decision_scores_, scores)


def test_references_among_the_training_images_are_not_compared_with_themselves(paths):
    detector = promptscore(references=paths[:3]).fit([str(path) for path in paths])
    alone = promptscore(references=paths[1:3]).decision_function(paths[:1])
    assert detector.decision_scores_[0] == pytest.approx(alone[0])
    np.testing.assert_array_equal(detector.decision_function(paths), detector.decision_scores_)


def test_maps_and_regions_do_not_compare_a_reference_with_itself():
    damaged = with_green(NORMAL[0], 10, 10, 20)
    detector = promptscore(references=[damaged, *NORMAL[1:3]])
    others = promptscore(references=NORMAL[1:3])
    np.testing.assert_array_equal(
        detector.get_anomaly_map(damaged.copy()), others.get_anomaly_map(damaged)
    )
    assert detector.explain(damaged, threshold=0.3) == others.explain(damaged, threshold=0.3)
    assert others.explain(damaged, threshold=0.3)


def test_an_image_given_twice_does_not_find_its_copy():
    with pytest.warns(CopiesWarning, match=r"1 of 3 images .* x\[1\] .* is a copy of x\[0\]"):
        twice = promptscore().fit([NORMAL[0], NORMAL[0].copy(), NORMAL[1]], use_as_references=True)
    once = promptscore().fit(NORMAL[:2], use_as_references=True)
    np.testing.assert_array_equal(twice.decision_scores_[[0, 2]], once.decision_scores_)


def test_images_without_a_key_are_known_by_their_identity():
    pictures = [Image.fromarray(image) for image in NORMAL[:3]]
    expected = promptscore().fit(NORMAL[:3], use_as_references=True).decision_scores_
    detector = promptscore().fit(pictures, use_as_references=True)
    np.testing.assert_array_equal(detector.decision_scores_, expected)
    np.testing.assert_array_equal(detector.decision_function(pictures), expected)


def test_a_changed_file_is_another_image(paths):
    detector = promptscore(references=paths[:3])
    own = detector.decision_function(paths[:1])
    Image.fromarray(NORMAL[0]).save(paths[0], compress_level=0)
    assert detector.decision_function(paths[:1]) < own  # finds its earlier self


def test_a_pickled_detector_knows_its_references():
    detector = promptscore().fit(NORMAL[:3], use_as_references=True)
    twin = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(twin.decision_function(NORMAL[:3]), detector.decision_scores_)


def test_what_the_references_have_too_scores_lower_and_damage_stays_high():
    marked = [with_green(image, 20, 20) for image in NORMAL]
    plain, with_references = promptscore(), promptscore(references=marked[:3])
    assert with_references.decision_function(marked[4:5]) < plain.decision_function(marked[4:5])
    both = [with_green(NORMAL[4], 10, 20), NORMAL[4]]
    gap = np.subtract(*promptscore(references=NORMAL[:3]).decision_function(both))
    assert gap > np.subtract(*plain.decision_function(both)) / 2


def test_without_references_nothing_changes():
    expected = promptscore().decision_function(NORMAL)
    np.testing.assert_array_equal(promptscore(references=None).decision_function(NORMAL), expected)


@pytest.mark.parametrize("count", [1, 4])
def test_training_images_as_references_are_not_compared_with_themselves(count):
    detector = promptscore().fit(NORMAL[:count], use_as_references=True)
    assert len(detector.decision_scores_) == count
    np.testing.assert_array_equal(
        detector.decision_function(NORMAL[:count]), detector.decision_scores_
    )
    unknown = [image.copy() for image in NORMAL[:count]]
    for image in unknown:
        image[0, 0] += 1  # other content: found among the references
    assert (detector.decision_scores_ > detector.decision_function(unknown)).all()
    assert detector.predict([with_green(NORMAL[0], 10, 20)]).tolist() == [1]


def test_a_failed_fit_keeps_the_references_of_before():
    detector = promptscore(references=NORMAL[:2])
    before = detector.decision_function(NORMAL[3:5])
    with pytest.raises(ValueError, match=r"x\[1\]: no image"):
        detector.fit([NORMAL[0], "no image"], use_as_references=True)
    np.testing.assert_array_equal(detector.decision_function(NORMAL[3:5]), before)


@pytest.mark.parametrize("mode", ["diff", "ratio"])
def test_references_need_probabilities(mode):
    with pytest.raises(ValueError, match="mode='probability'"):
        promptscore(mode=mode, references=NORMAL[:1])


@pytest.mark.slow
def test_references_out_of_a_checkpoint_outlive_a_fit_on_images_of_other_proportions(tmp_path):
    model = {"openclip_model_name": "bundled", "class_name": "leather"}
    wide = red_images(4, 60, 180)
    fitted = VisionOpenCLIPPromptScore(**model).fit(NORMAL[:3], use_as_references=True)
    path = fitted.save_checkpoint(tmp_path / "few.safetensors")
    loaded = load_detector(path).fit(wide)
    assert loaded.canvas_ == fitted.canvas_
    twin = VisionOpenCLIPPromptScore(references=NORMAL[:3], **model)
    twin.use_canvas(fitted.canvas_)
    # References of other proportions raise the scores by the width of their range.
    raised = twin.decision_function(wide) - 1
    np.testing.assert_allclose(loaded.decision_scores_, raised, rtol=0, atol=1e-12)
    again = load_detector(loaded.save_checkpoint(path))
    np.testing.assert_array_equal(again.decision_function(wide), loaded.decision_function(wide))
    assert loaded.fit(wide, use_as_references=True).canvas_ != fitted.canvas_


def test_copies_of_one_reference_set_no_threshold():
    for copies in (NORMAL[:1], [NORMAL[0], NORMAL[0].copy()]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CopiesWarning)
            detector = promptscore(references=copies).read_references()
        assert detector.label_threshold() == 0.5
    with pytest.raises(RuntimeError, match="no training scores"):
        detector.promise()


def test_copies_among_references_are_named_by_the_argument():
    with pytest.warns(CopiesWarning, match=r"references\[1\] .* is a copy of references\[0\]"):
        promptscore(references=[NORMAL[0], NORMAL[0].copy(), NORMAL[1]]).read_references()


def test_a_detector_with_references_can_be_cloned(paths):
    for given in (paths[:2], tuple(paths[:2]), NORMAL[:2], np.array(NORMAL[:2])):
        detector = promptscore(references=given)
        twin = clone(detector)
        np.testing.assert_array_equal(
            twin.decision_function(NORMAL[2:4]), detector.decision_function(NORMAL[2:4])
        )
    detector = promptscore(references=iter(paths[:2]))
    assert detector.references == paths[:2]
    fitted = promptscore().fit(NORMAL[:3], use_as_references=True)
    assert clone(fitted).references is not None


def test_thresholds_of_references_follow_what_is_asked_for_also_when_loaded(tmp_path):
    detector = promptscore(references=NORMAL).read_references()
    loaded = promptscore()
    loaded.load_checkpoint(detector.save_checkpoint(tmp_path / "d.safetensors"))
    calls = detector.embedder.calls
    for share in (0.4, 0.2):
        new = promptscore(references=NORMAL, contamination=share).read_references()
        for one in (detector, loaded):
            one.contamination = share
            assert one.label_threshold() == new.label_threshold()
            assert one.region_threshold() == new.region_threshold()
            assert one.promise() == new.promise()
    assert detector.embedder.calls == calls
    again = promptscore()
    again.load_checkpoint(loaded.save_checkpoint(tmp_path / "again.safetensors"))
    assert again.label_threshold() == loaded.label_threshold()


def test_thresholds_of_references_end_with_a_fit(tmp_path):
    detector = promptscore(references=NORMAL[:4]).read_references()
    detector.fit(NORMAL[4:])
    fitted = promptscore(references=NORMAL[:4]).fit(NORMAL[4:])
    detector.contamination = fitted.contamination = 0.3
    assert detector.label_threshold() == fitted.label_threshold()
    loaded = promptscore()
    loaded.load_checkpoint(detector.save_checkpoint(tmp_path / "d.safetensors"))
    assert loaded.region_threshold() == detector.region_threshold()
    assert loaded.promise() == detector.promise()


def test_a_confidence_that_references_cannot_keep_is_told():
    detector = promptscore(references=NORMAL, confidence=0.95)
    with pytest.warns(FewImagesWarning, match=f"{len(NORMAL)} images cannot bound"):
        detector.read_references()
    assert detector.promise().count == len(NORMAL)
    plain = promptscore(references=NORMAL).read_references()
    with pytest.warns(FewImagesWarning, match=f"{len(NORMAL)} images cannot bound"):
        plain.confidence = 0.95
    fitted = promptscore().fit(NORMAL)
    with pytest.warns(FewImagesWarning, match=f"{len(NORMAL)} images cannot bound"):
        fitted.confidence = 0.95


def test_references_set_a_threshold_over_peaks_like_a_fit(tmp_path):
    images = red_images(24)
    detector = promptscore(references=images)
    detector.use_pot_thresholding()
    detector.read_references()
    assert detector.label_threshold() == detector.computed_threshold()
    fitted = promptscore()
    fitted.use_pot_thresholding()
    fitted.fit(images, use_as_references=True)
    assert detector.label_threshold() == fitted.threshold_


def test_another_class_keeps_the_thresholds_of_a_checkpoint_and_no_promise(tmp_path):
    detector = promptscore(references=NORMAL).read_references()
    loaded = promptscore()
    loaded.load_checkpoint(detector.save_checkpoint(tmp_path / "d.safetensors"))
    loaded.set_class_name(loaded.class_name)
    assert loaded.promise() == detector.promise()
    loaded.set_class_name("other")
    assert loaded.label_threshold() == detector.label_threshold()
    with pytest.raises(RuntimeError, match="no training scores"):
        loaded.promise()


def test_a_promise_of_references_waits_until_they_are_read():
    detector = promptscore(references=NORMAL)
    with pytest.raises(RuntimeError, match="read_references"):
        detector.promise()
