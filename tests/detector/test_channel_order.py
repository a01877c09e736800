"""Arrays and tensors are RGB unless the caller says BGR; files say it themselves."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, load_detector

from helpers.detectors import BUNDLED, EACH, patchknn, promptscore
from helpers.embedders import FileEmbedder, red_image, red_images, save_all, with_green

NORMAL = red_images(6, 32, 48)
DAMAGED = with_green(red_image(32, 48, seed=9), 10, 20)


def bgr(image):
    return image[..., ::-1]


@EACH
def test_bgr_arrays_score_as_rgb_arrays_do(build):
    rgb, other = build().fit(NORMAL), build(channel_order="bgr").fit([bgr(i) for i in NORMAL])
    assert other.threshold_ == rgb.threshold_
    expected = rgb.decision_function([DAMAGED])
    np.testing.assert_array_equal(other.decision_function([bgr(DAMAGED)]), expected)
    np.testing.assert_array_equal(
        other.predict_anomaly_map(bgr(DAMAGED)[None]), rgb.predict_anomaly_map([DAMAGED])
    )
    assert other.explain(bgr(DAMAGED)) == rgb.explain(DAMAGED)
    assert other.decision_function([DAMAGED]) != expected


def test_training_images_in_bgr_are_recognised():
    detector = patchknn(channel_order="bgr").fit([bgr(image) for image in NORMAL])
    scores = detector.decision_function([bgr(image) for image in NORMAL])
    np.testing.assert_array_equal(scores, detector.decision_scores_)
    (match, *_) = detector.nearest(bgr(DAMAGED), 1)
    assert match.score > detector.threshold_


def test_references_are_read_in_the_same_order():
    rgb = promptscore(references=NORMAL[:2])
    other = promptscore(references=[bgr(image) for image in NORMAL[:2]], channel_order="bgr")
    expected = rgb.decision_function([DAMAGED])
    np.testing.assert_array_equal(other.decision_function([bgr(DAMAGED)]), expected)
    own = promptscore(channel_order="bgr")
    own.fit([bgr(image) for image in NORMAL[:3]], use_as_references=True)
    twin = promptscore().fit(NORMAL[:3], use_as_references=True)
    np.testing.assert_array_equal(own.decision_scores_, twin.decision_scores_)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore])
def test_files_are_not_affected_and_turned_copies_are_not_swapped_twice(kind, tmp_path):
    pytest.importorskip("open_clip")
    paths = save_all(NORMAL[:3], tmp_path)
    more = {"rotations": 4} if kind is VisionOpenCLIPPatchKNN else {"class_name": "plate"}
    rgb, other = (kind(channel_order=order, **more, **BUNDLED) for order in ("rgb", "bgr"))
    rgb.fit(paths)
    other.fit([paths[0], *(bgr(image) for image in NORMAL[1:3])])
    np.testing.assert_array_equal(other.decision_scores_, rgb.decision_scores_)
    Image.fromarray(DAMAGED).save(tmp_path / "damaged.png")
    expected = rgb.decision_function([DAMAGED])
    for item in (tmp_path / "damaged.png", bgr(DAMAGED)):
        np.testing.assert_array_equal(other.decision_function([item]), expected)


@EACH
def test_it_tells_where_arrays_come_from_and_not_what_was_learnt(build, tmp_path):
    path = build().fit(NORMAL).save_checkpoint(tmp_path / "rgb")
    other = build(channel_order="bgr").load_checkpoint(path)
    expected = build().load_checkpoint(path).decision_function([*NORMAL, DAMAGED])
    images = [bgr(image) for image in (*NORMAL, DAMAGED)]
    np.testing.assert_array_equal(other.decision_function(images), expected)


@EACH
def test_it_changes_at_any_time(build):
    detector = build().fit(NORMAL)
    before = (detector.threshold_, detector.decision_function([*NORMAL, DAMAGED]).tolist())
    assert detector.set_params(channel_order="bgr") is detector
    images = [bgr(image) for image in (*NORMAL, DAMAGED)]
    assert (detector.threshold_, detector.decision_function(images).tolist()) == before
    assert detector.decision_function([DAMAGED]) != before[1][-1]
    with pytest.raises(ValueError, match="channel_order='gbr' is unknown; choose from rgb, bgr"):
        detector.set_params(on_error="nan", channel_order="gbr")
    assert (detector.channel_order, detector.on_error) == ("bgr", "raise")
    with pytest.raises(ValueError, match="channel_order='gbr' is unknown; choose from rgb, bgr"):
        build(channel_order="gbr")


def test_arrays_among_references_are_read_again_in_another_order():
    detector = promptscore(references=NORMAL[:2])
    before = detector.decision_function([DAMAGED])
    detector.set_params(channel_order="bgr")
    twin = promptscore(references=NORMAL[:2], channel_order="bgr")
    found = detector.decision_function([DAMAGED])
    assert found == twin.decision_function([DAMAGED])
    assert found != before


def test_files_among_references_have_no_order(tmp_path):
    paths = save_all(NORMAL[:2], tmp_path)
    detector = promptscore(references=paths, embedder=FileEmbedder()).fit(NORMAL[2:])
    expected = detector.threshold_, detector.decision_function([DAMAGED])
    detector.set_params(channel_order="bgr")
    assert (detector.threshold_, detector.decision_function([bgr(DAMAGED)])) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", [VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore])
def test_a_detector_of_files_takes_frames_of_opencv(kind, tmp_path):
    pytest.importorskip("open_clip")
    paths = save_all(NORMAL, tmp_path)
    saved = kind(**BUNDLED).fit(paths).save_checkpoint(tmp_path / "rgb.safetensors")
    expected = load_detector(saved).decision_function([*NORMAL, DAMAGED])
    loaded = load_detector(saved, channel_order="bgr")
    frames = [bgr(image) for image in (*NORMAL, DAMAGED)]
    np.testing.assert_array_equal(loaded.decision_function(frames), expected)
    again = load_detector(loaded.save_checkpoint(tmp_path / "bgr.safetensors"))
    assert again.channel_order == "bgr"
    np.testing.assert_array_equal(again.decision_function(frames), expected)
    with pytest.raises(ValueError, match="channel_order='gbr' is unknown; choose from rgb, bgr"):
        load_detector(saved, channel_order="gbr")
