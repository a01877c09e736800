# ruff: noqa: E402 - open_clip is asked for before it is imported
"""Weights are known by their revision on the Hugging Face hub or by their content."""

import json
import os
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
from pyimgano_openclip.encoder.weights import find_source
from pyimgano_openclip.files import digest

from helpers.embedders import red_image

pytestmark = pytest.mark.slow

NAME = "hf-hub:org/tiny"
MODEL = "open_clip_model.safetensors"
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
        tensors = load_file(snapshot / MODEL)
        tensors["text_projection"] *= torch.linspace(1, factor, tensors["text_projection"].shape[1])
        save_file(tensors, snapshot / MODEL, {"format": "pt"})
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


def identity(model, pretrained=None):
    return find_source(model, pretrained).identity


def test_weights_that_are_installed_anew_or_copied_are_the_same(tmp_path):
    places = [tmp_path / name for name in ("first", "second")]
    for place in places:
        shutil.copytree(weights_dir(), place, copy_function=shutil.copy)  # with dates of now
    (places[1] / "MODEL_CARD.md").write_text("Another text.")
    (places[1] / "__pycache__").mkdir(exist_ok=True)
    known = identity("bundled")
    assert [identity(f"local-dir:{place}") for place in places] == [known, known]
    change_one_value(places[1] / MODEL)
    assert identity(f"local-dir:{places[1]}") != known


def change_one_value(file):
    """Of the last tensor in a file, which keeps its size and its date."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("large", [False, True])
def test_a_file_of_weights_is_known_by_its_content(large, tmp_path, monkeypatch):
    if large:
        monkeypatch.setattr(digest, "SMALL", 2**20)
    paths = [tmp_path / name for name in ("a.safetensors", "b.safetensors")]
    for path in paths:
        shutil.copy(weights_dir() / MODEL, path)
    known = identity("ViT-B-32", str(paths[0]))
    assert identity("ViT-B-32", str(paths[1])) == known != identity("ViT-B-16", str(paths[1]))
    tensors = load_file(paths[1])
    name = max(tensors, key=lambda name: tensors[name].nbytes)
    tensors[name] *= 1.001
    save_file(tensors, paths[1], {"format": "pt"})
    assert paths[1].stat().st_size == paths[0].stat().st_size
    assert identity("ViT-B-32", str(paths[1])) != known


def test_results_go_on_with_a_copy_of_the_weights(tmp_path, capsys):
    image = tmp_path / "part.png"
    Image.fromarray(red_image(40, 60)).save(image)
    command = ["score", str(image), "--class-name", "part", "--device", "cpu", "--json"]
    command += ["--out", str(tmp_path / "out"), "--model"]
    assert main([*command, "bundled"]) == 0
    shutil.copytree(weights_dir(), tmp_path / "copy", copy_function=shutil.copy)
    capsys.readouterr()
    assert main([*command, f"local-dir:{tmp_path / 'copy'}"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 1
    change_one_value(tmp_path / "copy" / MODEL)
    assert main([*command, f"local-dir:{tmp_path / 'copy'}"]) == 1
    assert "different: the weights of the model)" in capsys.readouterr().err
