"""Examples on folders of one's own, with something in them that cannot be read."""

import csv
import runpy
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.maps.gaps import UnreadableImageWarning

from helpers.examples import EXAMPLES, run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    """Plates, the last of which cannot be decoded, and such without it beside them."""
    generator = np.random.default_rng(0)
    for name in ("images", "normal"):
        (tmp_path / name).mkdir()
        for number in range(4):
            pixels = generator.integers(90, 160, (60, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    torn = (tmp_path / "images/3.png").read_bytes()[:2000]
    (tmp_path / "images/3.png").write_bytes(torn)
    return tmp_path


def ends(monkeypatch, name, *arguments):
    """With what an example ends on the command line."""
    file = EXAMPLES / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    return ended.value.code


@pytest.mark.parametrize("name", ["few_shot", "unlabelled", "zero_shot"])
def test_images_in_subfolders_are_left_out_with_a_word(name, folder, monkeypatch, capsys):
    shutil.copytree(folder / "normal", folder / "normal/night")
    images = [folder / "normal"] if name == "zero_shot" else ["--images", folder / "normal"]
    normal = ["--normal", folder / "normal"] if name == "few_shot" else []
    run(name, *images, *normal, "--out", folder / "out")
    left_out = f"images in subfolders of {folder / 'normal'}, left out: 4\n"
    assert left_out in capsys.readouterr().out
    for path in (folder / "normal").glob("*.png"):
        path.unlink()
    said = ends(monkeypatch, name, *images, *normal, "--out", folder / "out")
    assert said == f"{folder / 'normal'} itself holds no images."


@pytest.mark.parametrize("name", ["few_shot", "large_images", "quickstart", "zero_shot"])
def test_a_tower_is_never_used_with_random_weights(name, folder, monkeypatch):
    images = [folder / "normal"] if name == "zero_shot" else ["--images", folder / "normal"]
    images += ["--normal", folder / "normal"] if name == "few_shot" else []
    images = [] if name == "large_images" else images
    tower = ("--model" if name == "quickstart" else "--tower", "ViT-L-14-336")
    said = ends(monkeypatch, name, *images, *tower, "--out", folder / "out")
    assert "openclip_pretrained='laion400m_e31' is neither a file nor known weights" in said


@pytest.mark.parametrize("name", ["quickstart", "unlabelled"])
def test_an_image_that_cannot_be_compared_is_named_in_one_line(name, folder, monkeypatch):
    images = folder / "images"
    said = ends(monkeypatch, name, "--images", images, "--out", folder / "out")
    assert said.startswith(f"x[3]: {images / '3.png'} cannot be decoded")


def test_a_normal_image_that_cannot_be_read_is_named_in_one_line(folder, monkeypatch):
    images, normal = folder / "images", folder / "normal"
    few_shot = ("few_shot", "--images", normal, "--out", folder / "out", "--normal")
    said = ends(monkeypatch, *few_shot, images)
    assert said.startswith(f"x[3]: {images / '3.png'} cannot be decoded")
    assert ends(monkeypatch, *few_shot, folder / "none") == f"{folder / 'none'} is no folder."


def test_few_shot_scores_the_images_that_can_be_read(folder, monkeypatch, capsys):
    folders = ("--normal", folder / "normal", "--out", folder / "out", "--images")
    assert ends(monkeypatch, "few_shot", *folders, folder / "normal") == 0
    with pytest.warns(UnreadableImageWarning, match=r"3\.png cannot be decoded"):
        assert ends(monkeypatch, "few_shot", *folders, folder / "images") == 3
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "does not pass" in lines["3.png"]
    assert all("of the normal images" in lines[f"{number}.png"] for number in range(3))
    assert (folder / "out/nearest.png").is_file()


def test_zero_shot_scores_the_images_that_can_be_read(folder, monkeypatch):
    how = ("--class-name", "plate", "--out", folder / "out")
    assert ends(monkeypatch, "zero_shot", folder / "normal", "--out", folder / "other") == 0
    with pytest.warns(UnreadableImageWarning, match=r"3\.png cannot be decoded"):
        assert ends(monkeypatch, "zero_shot", folder / "images", *how) == 3
    with (folder / "out/scores.csv").open(newline="", encoding="utf-8") as file:
        *scored, torn = csv.DictReader(file)
    assert all(0 < float(row["score"]) < 1 for row in scored)
    assert (torn["image"], torn["score"], torn["label"]) == ("3.png", "nan", "1")
    assert len(list((folder / "out/maps").iterdir())) == len(scored) == 3


@pytest.mark.parametrize("content", [None, b"no detector"], ids=["missing", "damaged"])
def test_a_line_without_a_detector_ends_at_once(content, folder):
    file = folder / "line.safetensors"
    if content:
        file.write_bytes(content)
    with pytest.raises(SystemExit, match=r"line\.safetensors"):
        run("production_line", folder, "--detector", file, "--out", folder / "l.jsonl")
    assert not (folder / "l.jsonl").exists()


def test_a_line_pc_without_a_detector_ends_in_one_line(folder, monkeypatch):
    pytest.importorskip("onnxruntime")
    image, file = folder / "images/0.png", folder / "line.onnx"
    for wrong in ("No such file", "cannot be used"):
        said = ends(monkeypatch, "line_pc", image, "--detector", file)
        assert wrong in said
        assert str(file) in said
        file.write_bytes(b"no detector")
