"""Arrays and tensors are RGB unless the caller says BGR; files say it themselves."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

from helpers.detectors import BUNDLED, EACH, patchknn, promptscore
from helpers.embedders import red_image, red_images, save_all, with_green

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
def test_it_is_part_of_what_a_checkpoint_was_saved_with(build, tmp_path):
    path = build(channel_order="bgr").fit(NORMAL).save_checkpoint(tmp_path / "saved")
    with pytest.raises(ValueError, match="channel_order = 'bgr', but this detector has 'rgb'"):
        build().load_checkpoint(path)
    build(channel_order="bgr").load_checkpoint(path)
    with pytest.raises(ValueError, match="channel_order='gbr' is unknown; choose from rgb, bgr"):
        build(channel_order="gbr")
