"""Arrays and tensors are RGB unless the caller says BGR; files say it themselves."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.items import in_rgb

from embedders import GREEN, RED, ColourEmbedder, red_image, with_green

NORMAL = [red_image(32, 48, seed=seed) for seed in range(6)]
DAMAGED = with_green(red_image(32, 48, seed=9), 10, 20)
MODEL = {"openclip_model_name": "bundled", "device": "cpu"}


def bgr(image):
    return image[..., ::-1]


def patchknn(**settings):
    return VisionOpenCLIPPatchKNN(**{"embedder": ColourEmbedder(), **settings})


def promptscore(**settings):
    text = {"text_features_normal": RED, "text_features_anomaly": GREEN}
    return VisionOpenCLIPPromptScore(**{"embedder": ColourEmbedder(), **text, **settings})


BOTH = pytest.mark.parametrize("build", [patchknn, promptscore])


@BOTH
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
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, NORMAL, strict=False):
        Image.fromarray(image).save(path)
    more = {"rotations": 4} if kind is VisionOpenCLIPPatchKNN else {"class_name": "plate"}
    rgb, other = (kind(channel_order=order, **more, **MODEL) for order in ("rgb", "bgr"))
    rgb.fit(paths)
    other.fit([paths[0], *(bgr(image) for image in NORMAL[1:3])])
    np.testing.assert_array_equal(other.decision_scores_, rgb.decision_scores_)
    Image.fromarray(DAMAGED).save(tmp_path / "damaged.png")
    expected = rgb.decision_function([DAMAGED])
    for item in (tmp_path / "damaged.png", bgr(DAMAGED)):
        np.testing.assert_array_equal(other.decision_function([item]), expected)


def test_alpha_stays_last_and_grey_stays_as_it_is():
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(in_rgb(image), image[..., [2, 1, 0, 3]])
    for other in (image[..., 0], image[..., :1], image[None], "part.png", None, 3):
        assert in_rgb(other) is other


@pytest.mark.slow
def test_tensors_have_their_channels_first():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(24).reshape(4, 2, 3)
    assert torch.equal(in_rgb(tensor), tensor[[2, 1, 0, 3]])
    assert torch.equal(in_rgb(tensor[:3]), tensor[[2, 1, 0]])
    assert torch.equal(in_rgb(tensor[:1]), tensor[:1])


@BOTH
def test_it_is_part_of_what_a_checkpoint_was_saved_with(build, tmp_path):
    path = build(channel_order="bgr").fit(NORMAL).save_checkpoint(tmp_path / "saved")
    with pytest.raises(ValueError, match="channel_order = 'bgr', but this detector has 'rgb'"):
        build().load_checkpoint(path)
    build(channel_order="bgr").load_checkpoint(path)
    with pytest.raises(ValueError, match="channel_order='gbr' is unknown; choose from rgb, bgr"):
        build(channel_order="gbr")
