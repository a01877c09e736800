"""A folder and nothing else on the command line."""

import json
import time

import pytest

from pyimgano_openclip import VisionOpenCLIPMutual
from pyimgano_openclip.cli import main
from pyimgano_openclip.encoder.embedder import OpenCLIPPatchEmbedder
from pyimgano_openclip.samples import make_sample

from helpers.detectors import BUNDLED
from helpers.embedders import save_all
from helpers.runs import lines_of

pytestmark = pytest.mark.slow

MODEL = ("--model", "bundled", "--device", "cpu", "--precision", "float32")
ODD = "3.png"


@pytest.fixture
def folder(tmp_path):
    """Ten pieces of leather, of which one has a hole."""
    folder = tmp_path / "images"
    folder.mkdir()
    defects = [None] * 10
    defects[3] = "hole"
    images = [
        make_sample("leather", seed=seed, size=(72, 96), defect=defect).image
        for seed, defect in enumerate(defects)
    ]
    save_all(images, folder)
    return folder


def test_a_folder_alone_is_compared_with_itself(folder, tmp_path, capsys):
    command = ["score", str(folder), "--out", str(tmp_path / "out"), *MODEL]
    assert main(command) == 0
    said, oddest, *_ = capsys.readouterr().out.splitlines()
    assert "compared with each other" in said
    assert "'fit --normal DIR'" in said
    assert oddest.endswith(ODD)
    records = {record["image"]: record for record in lines_of(tmp_path / "out")}
    assert records[ODD]["label"] == 1
    assert records[ODD]["regions"]
    assert {record["path"] for record in records[ODD]["nearest"]} < {
        str(path) for path in folder.iterdir()
    }
    assert (tmp_path / "out/overlays/3.png.jpg").is_file()
    assert ODD in (tmp_path / "out/report.html").read_text()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 10


def test_each_image_of_a_folder_is_encoded_once(folder, tmp_path, monkeypatch):
    encoded, run = [], OpenCLIPPatchEmbedder._run

    def counted(own, frames, request):
        encoded.append(len(frames))
        return run(own, frames, request)

    monkeypatch.setattr(OpenCLIPPatchEmbedder, "_run", counted)
    assert main(["score", str(folder), "--out", str(tmp_path / "out"), *MODEL]) == 0
    assert sum(encoded) == 10
    assert all(record["nearest"] for record in lines_of(tmp_path / "out"))


def test_another_pool_does_not_go_on_with_the_results_of_the_first(folder, tmp_path, capsys):
    command = ["score", str(folder), "--out", str(tmp_path / "out"), *MODEL]
    assert main(command) == 0
    (folder / "9.png").unlink()
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "results of other images" in said
    assert "added, deleted or changed" in said
    assert "--overwrite" in said
    assert main([*command, "--overwrite"]) == 0


def test_a_place_that_takes_no_results_is_told_before_images_are_compared(
    folder, tmp_path, capsys, monkeypatch
):
    def fail(*_args, **_more):
        pytest.fail("images were compared")

    (tmp_path / "file").touch()
    used = str(tmp_path / "used")
    assert main(["score", str(folder), "--out", used, "--class-name", "leather", *MODEL]) == 0
    monkeypatch.setattr(VisionOpenCLIPMutual, "fit", fail)
    for out, told in (
        (tmp_path / "file", f"run.json cannot be written: {tmp_path / 'file'} is not a folder."),
        (used, f"{used} holds results of other settings (different: --detector or --class-name)."),
    ):
        assert main(["score", str(folder), "--out", str(out), *MODEL]) == 1
        assert told in capsys.readouterr().err


def test_a_share_that_is_given_sets_the_threshold_without_scoring_again(folder, tmp_path, capsys):
    command = ["score", str(folder), "--out", str(tmp_path / "out"), *MODEL]
    assert main(command) == 0
    capsys.readouterr()
    assert main([*command, "--set", "contamination=0.3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 10
    assert sum(record["label"] for record in lines_of(tmp_path / "out")) == 3
    more = ["--set", "contamination=0.3", "--set", 'threshold_rule="outliers"']
    assert main([*command, *more]) == 0
    assert sum(record["label"] for record in lines_of(tmp_path / "out")) == 1


def test_an_unreadable_image_is_reported_and_the_others_are_compared(folder, tmp_path, capsys):
    (folder / "5.png").write_bytes(b"no image")
    command = ["score", str(folder), "--out", str(tmp_path / "out"), *MODEL]
    assert main([*command, "--json"]) == 3
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["unreadable"]) == (10, ["5.png"])
    assert main([*command, "--on-error", "raise", "--overwrite"]) == 1


def test_a_pool_of_which_one_image_can_be_read_names_the_others(folder, tmp_path, capsys):
    places = [str(folder / name) for name in ("5.png", "6.png")]
    (folder / "5.png").write_bytes(b"no image")
    assert main(["score", *places, "--out", str(tmp_path / "out"), *MODEL]) == 1
    said = capsys.readouterr().err
    assert "5.png" in said
    assert "cannot be opened as an image" in said
    assert "fit()" not in said


def test_one_image_alone_is_an_error_that_says_what_to_do(folder, tmp_path, capsys):
    assert main(["score", str(folder / ODD), "--out", str(tmp_path / "out"), *MODEL]) == 1
    said = capsys.readouterr().err
    assert "Of 1 image 1 can be read and differ" in said
    assert "at least two different ones" in said
    assert "pass --detector FILE of 'fit', or --class-name" in said


def test_the_speed_of_a_folder_contains_its_comparing(folder, tmp_path, monkeypatch, capsys):
    fit = VisionOpenCLIPMutual.fit

    def slow(*given, **settings):
        time.sleep(1)
        return fit(*given, **settings)

    monkeypatch.setattr(VisionOpenCLIPMutual, "fit", slow)
    command = ["score", str(folder), "--out", str(tmp_path / "out"), *MODEL, "--json"]
    assert main(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["images_per_second"] < 10
    assert facts["milliseconds_per_image"] > 100


def test_a_saved_pool_scores_new_images(folder, tmp_path, capsys):
    paths = sorted(folder.iterdir())
    pool = VisionOpenCLIPMutual(**BUNDLED, threshold_rule="outliers").fit(paths)
    file = pool.save_checkpoint(tmp_path / "pool.safetensors")
    new = make_sample("leather", seed=60, size=(72, 96), defect="hole").image
    (tmp_path / "new").mkdir()
    save_all([new], tmp_path / "new")
    out = tmp_path / "out"
    assert main(["score", str(tmp_path / "new"), "--detector", str(file), "--out", str(out)]) == 0
    (record,) = lines_of(out)
    assert record["label"] == 1
    assert "compared with each other" not in capsys.readouterr().out
