"""Checkpoints: the same detector afterwards, or an error and no change; never half a file."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.checkpoint import read_checkpoint, write_checkpoint

from embedders import GREEN, RED, ColourEmbedder, red_image, with_green

NORMAL = [red_image(40, 60, seed=seed) for seed in range(8)]
IMAGES = [red_image(40, 60, seed=90), with_green(NORMAL[0], 10, 20)]
TINY = "ViT-S-32-alt"  # the smallest ViT that open_clip knows by name


def patchknn(**settings):
    return VisionOpenCLIPPatchKNN(**{"embedder": ColourEmbedder(), **settings})


def promptscore(**settings):
    text = {"text_features_normal": RED, "text_features_anomaly": GREEN}
    return VisionOpenCLIPPromptScore(**{"embedder": ColourEmbedder(), **text, **settings})


BOTH = pytest.mark.parametrize("build", [patchknn, promptscore])


def state(detector):
    """All that a user can see of a detector."""
    return (
        detector.threshold_,
        detector.contamination,
        detector.decision_scores_.tolist(),
        detector.labels_.tolist(),
        detector.decision_function(IMAGES).tolist(),
        detector.predict_anomaly_map(IMAGES).tolist(),
    )


@BOTH
def test_a_loaded_detector_is_the_saved_one(build, tmp_path):
    detector = build(contamination=0.2).fit(NORMAL)
    path = tmp_path / "new folder" / "model.pt"
    assert detector.save_checkpoint(str(path)) == path
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]
    twin = build()
    assert twin.load_checkpoint(path) is twin
    assert state(twin) == state(detector)
    assert state(build().fit(NORMAL[:2]).load_checkpoint(path)) == state(detector)


@BOTH
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
    assert state(twin) == state(detector)
    assert twin.memory_bank_.covering_radius == detector.memory_bank_.covering_radius
    assert twin.nearest(IMAGES[1]) == detector.nearest(IMAGES[1])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file_holds_the_bank_and_little_else(dtype, tmp_path):
    class Wide:
        def embed(self, image):
            tokens = np.random.default_rng(int(image[0, 0, 1])).normal(size=(400, 256))
            return tokens, (20, 20), image.shape[:2]

    detector = patchknn(embedder=Wide(), memory_bank_dtype=dtype).fit(NORMAL)
    path = detector.save_checkpoint(tmp_path / "model")
    assert path.stat().st_size < 1.05 * detector.memory_bank_.tokens.nbytes
    twin = patchknn(embedder=Wide(), memory_bank_dtype=dtype).load_checkpoint(path)
    assert twin.memory_bank_.tokens.dtype == dtype
    assert state(twin) == state(detector)


def test_a_file_is_plain_safetensors_with_a_readable_header(tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model.safetensors")
    with safe_open(path, framework="numpy") as file:
        assert set(file.keys()) == {"rows", "origins", "reach", "training_scores"}
        header = json.loads(file.metadata()["pyimgano-openclip"])
    assert header["version"] == 1
    assert header["detector"] == "VisionOpenCLIPPatchKNN"
    assert header["model"] == {"embedder": "ColourEmbedder"}
    assert header["settings"]["n_neighbors"] == 1
    assert header["state"]["images"][0] == [4, 4, 40, 60, None]


def with_header(path, **changes):
    checkpoint = read_checkpoint(path)
    write_checkpoint(path, {**checkpoint.header, **changes}, checkpoint.arrays)


def with_arrays(path, **changes):
    checkpoint = read_checkpoint(path)
    write_checkpoint(path, checkpoint.header, {**checkpoint.arrays, **changes})


def with_bytes(path, change):
    path.write_bytes(change(path.read_bytes()))


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "three bytes": lambda path: path.write_bytes(b"abc"),
    "a text": lambda path: path.write_text("no checkpoint at all, but long enough for a header"),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04\x95" + bytes(100)),
    "a foreign file": lambda path: save_file({"weight": np.zeros(3)}, path),
    "a foreign file with notes": lambda path: save_file(
        {"weight": np.zeros(3)}, path, metadata={"format": "pt"}
    ),
    "cut off": lambda path: with_bytes(path, lambda data: data[:-1]),
    "cut in half": lambda path: with_bytes(path, lambda data: data[: len(data) // 2]),
    "cut in the header": lambda path: with_bytes(path, lambda data: data[:100]),
    "longer": lambda path: with_bytes(path, lambda data: data + bytes(8)),
    "a header of exabytes": lambda path: with_bytes(path, lambda data: b"\xff" * 8 + data[8:]),
    "a header of a gigabyte": lambda path: with_bytes(
        path, lambda data: (2**30).to_bytes(8, "little") + data[8:]
    ),
    "a bit of the header": lambda path: with_bytes(path, lambda data: flipped(data, 300)),
    "a bit of the numbers": lambda path: with_bytes(path, lambda data: flipped(data, -9)),
    "a newer format": lambda path: with_header(path, version=2),
    "an odd format": lambda path: with_header(path, version="1"),
    "no settings": lambda path: with_header(path, settings=None),
    "no state": lambda path: with_header(path, state={}),
    "an odd canvas": lambda path: with_header(path, canvas=[1]),
    "an odd threshold": lambda path: with_header(path, threshold="high"),
    "rows that are not numbers": lambda path: with_arrays(path, rows=np.full((128, 3), np.nan)),
    "rows of another type": lambda path: with_arrays(path, rows=np.ones((128, 3), np.int64)),
    "no rows": lambda path: with_arrays(path, rows=np.ones((0, 3), np.float32)),
    "too few rows": lambda path: with_arrays(path, rows=np.ones((7, 3), np.float32)),
    "rows of unknown images": lambda path: with_arrays(path, origins=np.full((128, 3), 99)),
    "scores that are not numbers": lambda path: with_arrays(
        path, training_scores=np.array([np.inf])
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_file_is_refused_and_changes_nothing(damage, tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    DAMAGE[damage](path)
    detector = patchknn().fit(NORMAL[:3])
    before = state(detector)
    with pytest.raises(ValueError, match=str(path)):
        detector.load_checkpoint(path)
    assert state(detector) == before


def test_every_bit_counts(tmp_path):
    path = patchknn().fit(NORMAL[:2]).save_checkpoint(tmp_path / "model")
    data, detector = path.read_bytes(), patchknn()
    for place in np.random.default_rng(0).integers(len(data), size=60):
        path.write_bytes(flipped(data, int(place)))
        with pytest.raises(ValueError, match=str(path)):
            detector.load_checkpoint(path)


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


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        patchknn().load_checkpoint(tmp_path / "model")


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        patchknn().fit(NORMAL[:3]).save_checkpoint(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["os.fsync", "pathlib.Path.replace"])
def test_a_kill_while_saving_leaves_the_old_file(moment, tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    before = path.read_bytes()
    script = f"""
import os, pathlib, signal, sys
sys.path.insert(0, {str(__import__("pathlib").Path(__file__).parent)!r})
from test_checkpoint import NORMAL, patchknn
detector = patchknn().fit(NORMAL[:3])
{moment} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
detector.save_checkpoint({str(path)!r})
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode != 0
    assert path.read_bytes() == before


FRESH = """
import json, sys
import numpy as np
from pyimgano.models import create_model
from pyimgano_openclip import OpenCLIPPatchEmbedder

def refuse(*_args):
    raise AssertionError("the text tower was used")

OpenCLIPPatchEmbedder.encode_ensembles = refuse
name, settings, path, images, out = sys.argv[1:]
detector = create_model(name, **json.loads(settings)).load_checkpoint(path)
images = list(np.load(images))
np.savez(
    out,
    scores=detector.decision_function(images),
    maps=detector.predict_anomaly_map(images),
    threshold=detector.threshold_,
    training=detector.decision_scores_,
)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("vision_openclip_patchknn", {}),
        ("vision_openclip_patchknn", {"memory_bank_dtype": "float16", "max_patches": 100}),
        ("vision_openclip_promptscore", {"class_name": "nut"}),
    ],
)
def test_a_fresh_process_gives_the_same_to_the_last_bit(name, more, tmp_path):
    from pyimgano.models import create_model

    settings = {"openclip_model_name": TINY, "openclip_pretrained": None, "device": "cpu", **more}
    photographs = np.stack([np.kron(i[::8, ::8], np.ones((8, 8, 1), np.uint8)) for i in NORMAL])
    detector = create_model(name, **settings).fit(list(photographs[:5]))
    path = detector.save_checkpoint(tmp_path / "model")
    np.save(tmp_path / "images.npy", photographs[5:])
    subprocess.run(
        [sys.executable, "-c", FRESH, name, json.dumps(settings), path,
         tmp_path / "images.npy", tmp_path / "out.npz"],
        check=True,
    )  # fmt: skip
    found = np.load(tmp_path / "out.npz")
    images = list(photographs[5:])
    np.testing.assert_array_equal(found["scores"], detector.decision_function(images))
    np.testing.assert_array_equal(found["maps"], detector.predict_anomaly_map(images))
    np.testing.assert_array_equal(found["training"], detector.decision_scores_)
    assert found["threshold"] == detector.threshold_


@pytest.mark.slow
@pytest.mark.parametrize("other", [{"random_seed": 1}, {"openclip_model_name": "ViT-B-32"}])
def test_another_tower_is_refused(other, tmp_path):
    settings = {"openclip_model_name": TINY, "openclip_pretrained": None, "device": "cpu"}
    detector = VisionOpenCLIPPatchKNN(**settings).fit(NORMAL[:2])
    path = detector.save_checkpoint(tmp_path / "model")
    with pytest.raises(ValueError, match=f"{path}.*model = .*{TINY}.*but this detector has"):
        VisionOpenCLIPPatchKNN(**{**settings, **other}).load_checkpoint(path)


@pytest.mark.slow
def test_the_same_weights_under_another_name_are_the_same_model(tmp_path):
    from safetensors.torch import save_file as save_weights

    settings = {"openclip_model_name": TINY, "openclip_pretrained": None, "device": "cpu"}
    detector = VisionOpenCLIPPatchKNN(**settings).fit(NORMAL[:2])
    path = detector.save_checkpoint(tmp_path / "model")
    import open_clip
    import torch

    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    model = open_clip.create_model(TINY, pretrained=None)
    model.visual.load_state_dict(detector._embedder.visual.state_dict())
    save_weights({k: v.contiguous() for k, v in model.state_dict().items()}, weights)
    twin = VisionOpenCLIPPatchKNN(**{**settings, "openclip_pretrained": str(weights)})
    np.testing.assert_array_equal(
        twin.load_checkpoint(path).decision_function(IMAGES), detector.decision_function(IMAGES)
    )


@pytest.mark.slow
def test_activation_and_preprocessing_belong_to_the_identity_of_a_tower():
    import open_clip

    from pyimgano_openclip.fingerprint import fingerprint

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
    normal = [red_image(seed=seed) for seed in range(4)]
    text = {"text_features_normal": RED, "text_features_anomaly": GREEN}
    fitted = VisionOpenCLIPPromptScore(embedder=ColourEmbedder(), **text)
    fitted.fit(normal, use_as_references=True)
    path = fitted.save_checkpoint(tmp_path / "few.safetensors")
    loaded = VisionOpenCLIPPromptScore(embedder=ColourEmbedder(), **text).load_checkpoint(path)
    images = [red_image(seed=8), red_image(seed=9)]
    np.testing.assert_array_equal(
        loaded.decision_function(images), fitted.decision_function(images)
    )
    assert loaded.threshold_ == fitted.threshold_
