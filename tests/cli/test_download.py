"""The command `download`."""

import hashlib
import json
import logging
import re
import sys

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPromptScore
from pyimgano_openclip.cli import main

from helpers.embedders import red_images


@pytest.mark.slow
def test_a_download_without_network_says_so_in_one_line(tmp_path, capfd, monkeypatch):
    from pyimgano_openclip.encoder import weights

    def offline(*_, **__):
        logging.getLogger("huggingface_hub").warning("Retrying in 1s")
        logging.error("Failed to download")
        raise RuntimeError("no connection")

    monkeypatch.setattr(weights.open_clip, "create_model", offline)
    folder = tmp_path / "folder"
    command = ["download", "ViT-B-32", "--pretrained", "openai", "--to", str(folder)]
    assert main(command) == 1
    printed = capfd.readouterr().err
    assert len(printed.splitlines()) == 1
    assert re.search(r"[^.]\. This command needs network access; ", printed)
    assert "openclip_pretrained" not in printed
    assert not folder.exists()
    assert not logging.root.manager.disable


@pytest.fixture
def tiny_model(tmp_path):
    """A model of open_clip with the config of the bundled one, and its weights as a file."""
    import open_clip

    from pyimgano_openclip.bundled import weights_dir

    config = json.loads((weights_dir() / "open_clip_config.json").read_text())["model_cfg"]
    (tmp_path / "tiny-clip.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-clip.json")
    yield weights_dir() / "open_clip_model.safetensors"
    factory = sys.modules["open_clip.factory"]
    factory._MODEL_CONFIGS.pop("tiny-clip")
    factory._MODEL_CONFIG_PATHS[:] = [
        path for path in factory._MODEL_CONFIG_PATHS if "tiny-clip" not in str(path)
    ]


@pytest.mark.slow
def test_a_downloaded_folder_loads_by_itself_and_scores_the_same(tmp_path, tiny_model, capsys):
    folder = tmp_path / "models/tiny"
    command = ["download", "tiny-clip", "--pretrained", str(tiny_model), "--to", str(folder)]
    assert main(command) == 0
    assert f"local-dir:{folder}" in capsys.readouterr().out
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    images = red_images(3, 40, 60)
    common = {"class_name": "leather", "device": "cpu"}
    there = VisionOpenCLIPPromptScore(
        openclip_model_name="tiny-clip", openclip_pretrained=str(tiny_model), **common
    )
    here = VisionOpenCLIPPromptScore(openclip_model_name=f"local-dir:{folder}", **common)
    np.testing.assert_array_equal(here.decision_function(images), there.decision_function(images))
    assert main(command) == 1
    assert "not empty" in capsys.readouterr().err
    # Again into the same folder, through a link: only what a download has written is replaced.
    (tmp_path / "link").symlink_to(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "changed.json").write_text("mine")
    stale = {"vocab.json": b"stale", "changed.json": b"as it was downloaded"}
    (folder / "vocab.json").write_bytes(stale["vocab.json"])
    with (folder / "SHA256SUMS").open("a") as sums:
        for name, content in stale.items():
            sums.write(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        sums.write(f"{hashlib.sha256(b'mine').hexdigest()}  ../mine.txt\n")
    (tmp_path / "models/mine.txt").write_text("mine")
    before = (folder / "open_clip_model.safetensors").read_bytes()
    (folder / "open_clip_model.safetensors").write_bytes(b"damaged")
    assert main([*command[:-1], str(tmp_path / "link"), "--overwrite"]) == 0
    assert (folder / "open_clip_model.safetensors").read_bytes() == before
    assert (tmp_path / "models/mine.txt").is_file()
    assert sorted(path.name for path in folder.iterdir()) == [
        "SHA256SUMS", "changed.json", "notes.txt", "open_clip_config.json",
        "open_clip_model.safetensors",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny", "mine.txt"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit files in other ways")
def test_a_download_without_room_says_which_folder_it_is(tmp_path, tiny_model, capsys):
    import resource

    command = ["download", "tiny-clip", "--pretrained", str(tiny_model)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        code = main([*command, "--to", str(tmp_path / "models/tiny")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    told = capsys.readouterr().err
    assert code == 1
    assert f"{tmp_path / 'models/tiny'} cannot be written: " in told
    assert ".download-" not in told
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("bundled", "not an open_clip model name"),
        ("xlm-roberta-base-ViT-B-32", "text tower"),
        ("no-model", "no model"),
    ],
)
def test_what_cannot_be_put_into_a_folder_is_refused_before_anything_is_written(
    tmp_path, capsys, model, message
):
    folder = tmp_path / "folder"
    tag = "laion5b_s13b_b90k"
    assert main(["download", model, "--pretrained", tag, "--to", str(folder)]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
