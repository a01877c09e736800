# ruff: noqa: E402 - open_clip is asked for before it is imported
"""Weights from the Hugging Face hub are known by their revision, not by their name."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from safetensors.torch import load_file, save_file

from pyimgano_openclip import OpenCLIPPatchEmbedder
from pyimgano_openclip.bundled import weights_dir
from pyimgano_openclip.cli import main

from helpers.embedders import red_image

pytestmark = pytest.mark.slow

NAME = "hf-hub:org/tiny"
SENTENCES = [["a photo of a screw"], ["a photo of a damaged screw"]]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that makes a revision of a repository the newest one in the hub's cache."""
    monkeypatch.setenv("PYIMGANO_OPENCLIP_CACHE", str(tmp_path / "texts"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--org--tiny"

    def publish(commit, factor):
        snapshot = repository / "snapshots" / commit
        shutil.copytree(weights_dir(), snapshot)
        tensors = load_file(snapshot / "open_clip_model.safetensors")
        tensors["text_projection"] *= torch.linspace(1, factor, tensors["text_projection"].shape[1])
        save_file(tensors, snapshot / "open_clip_model.safetensors", {"format": "pt"})
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)

    return publish


def vectors():
    reader = OpenCLIPPatchEmbedder(NAME, None, device="cpu", precision="float32")
    return np.stack(reader.encode_ensembles(SENTENCES))


def test_new_weights_do_not_meet_the_text_vectors_of_old_ones(hub):
    hub("a" * 40, 1.0)
    old = vectors()
    np.testing.assert_array_equal(vectors(), old)  # from the cache on disk
    hub("b" * 40, 3.0)
    new = vectors()
    assert np.abs(new - old).max() > 0.01


def test_results_of_an_older_revision_are_not_continued(hub, tmp_path, capsys):
    image = tmp_path / "part.png"
    Image.fromarray(red_image(40, 60)).save(image)
    command = ["score", str(image), "--class-name", "part", "--model", NAME]
    command += ["--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    hub("a" * 40, 1.0)
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["scored"] == 1
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 1
    hub("b" * 40, 3.0)
    assert main(command) == 1
    assert "different: the weights of the model)" in capsys.readouterr().err
