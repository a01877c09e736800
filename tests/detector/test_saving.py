"""Checkpoints: the same detector afterwards, or an error and no change; never half a file."""

import json
import sys

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, load_detector

from helpers.detectors import EACH, RANDOM, TINY, on_bundled, patchknn, promptscore, state
from helpers.embedders import ColourEmbedder, red_image, red_images, with_green
from helpers.privates import embedder_of
from helpers.processes import run

NORMAL = red_images(8, 40, 60)
IMAGES = [red_image(40, 60, seed=90), with_green(NORMAL[0], 10, 20)]


@EACH
def test_a_loaded_detector_is_the_saved_one(build, tmp_path):
    detector = build(contamination=0.2).fit(NORMAL)
    path = tmp_path / "new folder" / "model.pt"
    assert detector.save_checkpoint(str(path)) == path
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]
    twin = build()
    assert twin.load_checkpoint(path) is twin
    assert state(twin, IMAGES) == state(detector, IMAGES)
    assert state(build().fit(NORMAL[:2]).load_checkpoint(path), IMAGES) == state(detector, IMAGES)


@EACH
def test_a_threshold_set_from_outside_is_kept(build, tmp_path):
    detector = build().fit(NORMAL)
    detector.threshold_ = 0.123456789
    path = detector.save_checkpoint(tmp_path / "model")
    assert build().load_checkpoint(path).threshold_ == 0.123456789


def test_a_zero_shot_detector_is_saved_without_threshold(tmp_path):
    path = promptscore().save_checkpoint(tmp_path / "model")
    twin = promptscore().fit(NORMAL).load_checkpoint(path)
    assert not hasattr(twin, "threshold_")
    assert not hasattr(twin, "decision_scores_")
    assert twin.predict(IMAGES).tolist() == promptscore().predict(IMAGES).tolist()


def test_an_empty_memory_bank_cannot_be_saved(tmp_path):
    with pytest.raises(RuntimeError, match="fit"):
        patchknn().save_checkpoint(tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", [{}, {"max_patches": 40}, {"rotations": 4}])
def test_a_loaded_detector_grows_as_the_saved_one(settings, tmp_path):
    detector = patchknn(**settings).fit(NORMAL[:5])
    twin = patchknn(**settings).load_checkpoint(detector.save_checkpoint(tmp_path / "model"))
    for each in (detector, twin):
        each.partial_fit(NORMAL[5:])
    assert state(twin, IMAGES) == state(detector, IMAGES)
    assert twin.memory_bank_.covering_radius == detector.memory_bank_.covering_radius
    assert twin.nearest(IMAGES[1]) == detector.nearest(IMAGES[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_neighbors": 3}, r"n_neighbors = 1, but this detector has 3.*n_neighbors=1"),
        ({"aggregation_method": "max"}, "aggregation_method"),
        ({"aggregation_topk": 0.5}, "aggregation_topk"),
        ({"layers": (1.0,)}, "layers"),
        ({"rotations": 2}, "rotations"),
        ({"resize": "squash"}, "resize"),
        ({"knn_backend": "faiss-ivf"}, "knn_backend"),
    ],
)
def test_other_settings_that_change_a_score_are_refused(settings, message, tmp_path):
    if "knn_backend" in settings:
        pytest.importorskip("faiss")
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    detector = patchknn(**settings)
    with pytest.raises(ValueError, match=f"(?s){path}.*{message}"):
        detector.load_checkpoint(path)
    with pytest.raises(RuntimeError, match="fit"):
        detector.decision_function(IMAGES)


def test_settings_that_change_no_score_may_differ(tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    detector = patchknn(knn_backend="sklearn", batch_size=3, max_patches=10, random_seed=5)
    found = detector.load_checkpoint(path).decision_function(IMAGES)
    expected = patchknn().load_checkpoint(path).decision_function(IMAGES)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_name": "screw"}, "class_name"),
        ({"mode": "diff"}, "mode"),
        ({"text_features_anomaly": [0.5, 1, 0]}, "text_features_anomaly"),
    ],
)
def test_a_detector_of_other_words_is_refused(settings, message, tmp_path):
    path = promptscore().save_checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        promptscore(**settings).load_checkpoint(path)


def test_another_class_and_another_embedder_are_refused(tmp_path):
    class OtherEmbedder(ColourEmbedder):
        pass

    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match=f"{path}.*PatchKNN.*PromptScore"):
        promptscore().load_checkpoint(path)
    with pytest.raises(ValueError, match=f"{path}.*'ColourEmbedder'.*OtherEmbedder'"):
        patchknn(embedder=OtherEmbedder()).load_checkpoint(path)


CASES = {
    "patch-kNN": ("vision_openclip_patchknn", {}),
    "patch-kNN, thinned, of 16 bits": (
        "vision_openclip_patchknn", {"memory_bank_dtype": "float16", "max_patches": 100}
    ),
    "prompt scoring": ("vision_openclip_promptscore", {"class_name": "nut"}),
}  # fmt: skip
FRESH = """
import json, sys
import numpy as np
from pyimgano.models import create_model
from pyimgano_openclip import OpenCLIPPatchEmbedder

def refuse(*_args):
    raise AssertionError("the text tower was used")

OpenCLIPPatchEmbedder.encode_ensembles = refuse
images = list(np.load(sys.argv[1]))
for name, settings, path, out in json.loads(sys.argv[2]):
    detector = create_model(name, **settings).load_checkpoint(path)
    np.savez(
        out,
        scores=detector.decision_function(images),
        maps=detector.predict_anomaly_map(images),
        threshold=detector.threshold_,
        training=detector.decision_scores_,
    )
"""


@pytest.fixture(scope="module")
def both_sides(tmp_path_factory):
    """By case: the detector that was saved, and what a fresh process gets from its file."""
    from pyimgano.models import create_model

    folder = tmp_path_factory.mktemp("saved")
    photographs = [np.kron(image[::8, ::8], np.ones((8, 8, 1), np.uint8)) for image in NORMAL]
    detectors, asked = [], []
    for number, (name, more) in enumerate(CASES.values()):
        settings = {**RANDOM, **more}
        detectors.append(create_model(name, **settings).fit(photographs[:5]))
        path = detectors[-1].save_checkpoint(folder / f"{number}.safetensors")
        asked.append([name, settings, str(path), str(folder / f"{number}.npz")])
    np.save(folder / "images.npy", photographs[5:])
    run(sys.executable, "-c", FRESH, folder / "images.npy", json.dumps(asked))
    found = [np.load(out) for *_, out in asked]
    return photographs[5:], dict(zip(CASES, zip(detectors, found, strict=True), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_fresh_process_gives_the_same_to_the_last_bit(case, both_sides):
    images, sides = both_sides
    detector, found = sides[case]
    np.testing.assert_array_equal(found["scores"], detector.decision_function(images))
    np.testing.assert_array_equal(found["maps"], detector.predict_anomaly_map(images))
    np.testing.assert_array_equal(found["training"], detector.decision_scores_)
    assert found["threshold"] == detector.threshold_


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"random_seed": 1}, {"openclip_model_name": "ViT-B-32"}])
def test_another_tower_is_refused(other, tmp_path):
    detector = VisionOpenCLIPPatchKNN(**RANDOM).fit(NORMAL[:2])
    path = detector.save_checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match=f"{path}.*model = .*{TINY}.*but this detector has"):
        VisionOpenCLIPPatchKNN(**{**RANDOM, **other}).load_checkpoint(path)


@pytest.mark.slow
def test_the_same_weights_under_another_name_are_the_same_model(tmp_path):
    from safetensors.torch import save_file as save_weights

    detector = VisionOpenCLIPPatchKNN(**RANDOM).fit(NORMAL[:2])
    path = detector.save_checkpoint(tmp_path / "model")
    import open_clip
    import torch

    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    model = open_clip.create_model(TINY, pretrained=None)
    model.visual.load_state_dict(embedder_of(detector).visual.state_dict())
    save_weights({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    twin = VisionOpenCLIPPatchKNN(**{**RANDOM, "openclip_pretrained": str(weights)})
    np.testing.assert_array_equal(
        twin.load_checkpoint(path).decision_function(IMAGES), detector.decision_function(IMAGES)
    )


@pytest.mark.slow
def test_activation_and_preprocessing_belong_to_the_identity_of_a_tower():
    import open_clip

    from pyimgano_openclip.encoder.fingerprint import fingerprint

    cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
    plain = open_clip.create_model(TINY, pretrained=None).visual
    quick = open_clip.create_model(TINY, pretrained=None, force_quick_gelu=True).visual
    quick.load_state_dict(plain.state_dict())
    twin = open_clip.create_model(TINY, pretrained=None).visual
    twin.load_state_dict(plain.state_dict())
    other = open_clip.create_model(TINY, pretrained=None).visual
    other.load_state_dict(plain.state_dict())
    assert fingerprint(plain, cfg) == fingerprint(twin, cfg)
    assert fingerprint(plain, cfg) != fingerprint(quick, cfg)
    assert fingerprint(plain, cfg) != fingerprint(other, {**cfg, "interpolation": "bilinear"})


def test_references_travel_with_the_checkpoint(tmp_path):
    fitted = promptscore().fit(red_images(4), use_as_references=True)
    path = fitted.save_checkpoint(tmp_path / "few.safetensors")
    loaded = promptscore().load_checkpoint(path)
    images = red_images(2, first=8)
    np.testing.assert_array_equal(
        loaded.decision_function(images), fitted.decision_function(images)
    )
    assert loaded.threshold_ == fitted.threshold_


@pytest.mark.slow
def test_weights_that_would_not_be_read_are_refused(tmp_path):
    pytest.importorskip("open_clip")
    path = on_bundled("patchknn").fit(IMAGES[:2]).save_checkpoint(tmp_path / "d.safetensors")
    with pytest.raises(ValueError, match=r"pretrained='nonsense'.* includes its weights"):
        load_detector(path, openclip_pretrained="nonsense")
    assert load_detector(path).openclip_pretrained is None
