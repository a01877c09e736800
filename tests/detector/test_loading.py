"""A detector comes back from its file alone."""

from pathlib import Path

import numpy as np
import pytest

import pyimgano_openclip
from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, load_detector
from pyimgano_openclip.files.checkpoint import read_checkpoint, write_checkpoint

from helpers.detectors import patchknn, promptscore
from helpers.embedders import ColourEmbedder, red_image, red_images, with_green

NORMAL = red_images(8, 40, 60)
IMAGES = [red_image(40, 60, seed=90), with_green(NORMAL[0], 10, 20)]


@pytest.mark.parametrize("build", [patchknn, promptscore])
def test_class_and_settings_come_from_the_file(build, tmp_path):
    saved = build(aggregation_method="max", contamination=0.3).fit(NORMAL)
    path = saved.save_checkpoint(tmp_path / "saved.safetensors")
    found = load_detector(str(path), embedder=ColourEmbedder())
    assert type(found) is type(saved)
    assert (found.threshold_, found.contamination) == (saved.threshold_, 0.3)
    np.testing.assert_array_equal(found.decision_function(IMAGES), saved.decision_function(IMAGES))


def test_an_embedder_of_the_callers_has_to_be_given(tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "saved.safetensors")
    with pytest.raises(ValueError, match=r"a ColourEmbedder; pass it: load_detector"):
        load_detector(path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"n_neighbors": 3}, "saved with n_neighbors = 1"),
        ({"contamination": 0.2}, "contamination, confidence and threshold come"),
        ({"devise": "cpu"}, "no argument devise"),
        ({"n_neighbors": "3"}, "n_neighbors='3'"),
    ],
)
def test_what_would_change_a_score_or_is_unknown_is_refused(overrides, message, tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "saved.safetensors")
    with pytest.raises(ValueError, match=message):
        load_detector(path, embedder=ColourEmbedder(), **overrides)


def test_what_changes_no_score_may_differ(tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "saved.safetensors")
    found = load_detector(path, embedder=ColourEmbedder(), knn_backend="sklearn", batch_size=2)
    assert (found.knn_backend, found.batch_size) == ("sklearn", 2)


@pytest.mark.parametrize(("fitted", "loaded"), [("float32", "float32"), ("auto", "auto")])
def test_float32_stays_unless_told_otherwise(fitted, loaded, tmp_path):
    path = patchknn(precision=fitted).fit(NORMAL).save_checkpoint(tmp_path / "saved.safetensors")
    assert load_detector(path, embedder=ColourEmbedder()).precision == loaded
    other = load_detector(path, embedder=ColourEmbedder(), precision="bfloat16")
    assert other.precision == "bfloat16"


def test_what_a_bank_grows_by_comes_from_the_file(tmp_path):
    given = {"max_patches": 37, "coreset_sampling_ratio": 0.5, "random_seed": 5}
    saved = patchknn(**given, memory_bank_dtype="float16").fit(NORMAL)
    path = saved.save_checkpoint(tmp_path / "saved.safetensors")
    found = load_detector(path, embedder=ColourEmbedder())
    assert {name: getattr(found, name) for name in given} == given
    assert found.memory_bank_dtype == "float16"
    more = [with_green(image, 10, 20) for image in NORMAL]
    assert len(found.partial_fit(more).memory_bank_) == 37
    np.testing.assert_array_equal(
        found.decision_function(IMAGES), saved.partial_fit(more).decision_function(IMAGES)
    )
    other = load_detector(path, embedder=ColourEmbedder(), max_patches=20)
    assert len(other.partial_fit(more).memory_bank_) == 20


@pytest.mark.parametrize(
    "change", [{"detector": "Unknown"}, {"settings": 3}, {"model": None}, {"learning": 3}]
)
def test_a_file_of_no_known_detector_is_refused(change, tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "saved.safetensors")
    saved = read_checkpoint(path)
    write_checkpoint(path, {**saved.header, **change}, saved.arrays)
    with pytest.raises(ValueError, match="names an unknown detector"):
        load_detector(path, embedder=ColourEmbedder())


@pytest.mark.slow
def test_every_public_name_can_be_had():
    pytest.importorskip("open_clip")
    for name in pyimgano_openclip.__all__:
        assert getattr(pyimgano_openclip, name) is not None


@pytest.mark.slow
def test_a_detector_with_a_tower_needs_nothing_but_its_file(tmp_path):
    arguments = {"openclip_model_name": "bundled", "force_image_size": (72, 96), "device": "cpu"}
    saved = VisionOpenCLIPPatchKNN(**arguments, precision="float32").fit(NORMAL)
    path = saved.save_checkpoint(tmp_path / "saved.safetensors")
    found = load_detector(path, device="cpu", precision="float32", batch_size=1)
    assert (found.force_image_size, found.precision, found.batch_size) == ([72, 96], "float32", 1)
    np.testing.assert_allclose(
        found.decision_function(IMAGES), saved.decision_function(IMAGES), atol=1e-6
    )
    words = VisionOpenCLIPPromptScore(
        class_name="leather", defects=["hole"], openclip_model_name="bundled", device="cpu"
    )
    path = words.save_checkpoint(tmp_path / "words.safetensors")
    found = load_detector(path, device="cpu")
    assert (found.class_name, found.defects) == ("leather", ["hole"])
    np.testing.assert_array_equal(found.decision_function(IMAGES), words.decision_function(IMAGES))


class RandomEmbedder:
    """Tokens that follow from the pixels."""

    def embed(self, image):
        generator = np.random.default_rng(int(np.asarray(image, np.int64).sum()))
        return generator.normal(size=(4, 512)), (2, 2), image.shape[:2]


@pytest.mark.parametrize("seed", range(40))
def test_text_vectors_of_any_length_come_back_as_they_were_saved(seed, tmp_path):
    generator = np.random.default_rng(seed)
    text = {
        "text_features_normal": generator.normal(size=512) * 10 ** generator.uniform(-3, 3),
        "text_features_anomaly": generator.normal(size=512).astype(np.float32),
    }
    saved = VisionOpenCLIPPromptScore(embedder=RandomEmbedder(), **text).fit(NORMAL)
    path = saved.save_checkpoint(tmp_path / "saved.safetensors")
    found = load_detector(path, embedder=RandomEmbedder())
    np.testing.assert_array_equal(found.decision_function(IMAGES), saved.decision_function(IMAGES))
    again = found.save_checkpoint(tmp_path / "again.safetensors")
    own = VisionOpenCLIPPromptScore(embedder=RandomEmbedder(), **text).load_checkpoint(again)
    np.testing.assert_array_equal(own.decision_function(IMAGES), saved.decision_function(IMAGES))
    other = {**text, "text_features_anomaly": -text["text_features_normal"]}
    with pytest.raises(ValueError, match="another text_features_anomaly"):
        VisionOpenCLIPPromptScore(embedder=RandomEmbedder(), **other).load_checkpoint(path)


@pytest.mark.parametrize("build", [patchknn, promptscore])
def test_a_file_is_read_once(build, tmp_path, monkeypatch):
    path = build().fit(NORMAL).save_checkpoint(tmp_path / "saved.safetensors")
    read = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda own: read.append(own) or read_bytes(own))
    load_detector(path, embedder=ColourEmbedder())
    assert read == [path]
