"""The command `threshold`, and labels that follow it."""

import json

import pytest

from pyimgano_openclip import load_detector
from pyimgano_openclip.cli import main

from helpers.detectors import mutual, patchknn, promptscore
from helpers.embedders import ColourEmbedder, red_images
from helpers.runs import leather


@pytest.fixture
def saved(tmp_path):
    fitted = patchknn(embedder=ColourEmbedder(rows=4, cols=6), contamination=0.1)
    return fitted.fit(red_images(20, 30, 45)).save_checkpoint(tmp_path / "d.safetensors")


def asked(capsys, *arguments):
    assert main(["threshold", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def loaded(path):
    return load_detector(path, embedder=ColourEmbedder(rows=4, cols=6))


def test_it_is_shown_and_stored_and_loaded(saved, capsys):
    before, content = loaded(saved), saved.read_bytes()
    assert asked(capsys, saved)["threshold"] == before.threshold_
    assert saved.read_bytes() == content
    facts = asked(capsys, saved, 0.25)
    assert (facts["threshold"], facts["before"]) == (0.25, before.threshold_)
    assert facts["training_images_above"] == 0
    assert loaded(saved).threshold_ == 0.25
    image = red_images(1, 30, 45, first=99)
    assert loaded(saved).decision_function(image) == before.decision_function(image)
    assert main(["threshold", str(saved)]) == 0
    assert "threshold 0.25\nabove it: 0 of the 20 images that" in capsys.readouterr().out


def test_a_threshold_that_no_patches_exceed_is_refused(saved, tmp_path, capsys):
    content = saved.read_bytes()
    assert main(["threshold", str(saved), "2.5"]) == 1
    assert "SCORE=2.5; it must be a number in (-inf, 2.0]" in capsys.readouterr().err
    exported = {
        "format": "pyimgano-openclip report", "folder": ".", "detector": saved.name,
        "threshold": 2.5, "images": [],
    }  # fmt: skip
    file = tmp_path / "marks.json"
    file.write_text(json.dumps(exported))
    assert main(["threshold", str(saved), "--from-report", str(file)]) == 1
    assert "marks.json: threshold=2.5; it must be" in capsys.readouterr().err
    assert saved.read_bytes() == content


def test_a_contamination_gives_the_threshold_that_fit_would_have_given(saved, capsys):
    other = patchknn(embedder=ColourEmbedder(rows=4, cols=6), contamination=0.3)
    other.fit(red_images(20, 30, 45))
    asked(capsys, saved, "--contamination", 0.3)
    assert loaded(saved).threshold_ == other.threshold_
    assert loaded(saved).contamination == 0.3


def test_a_contamination_gives_the_threshold_of_a_pool_that_fit_would_have_given(tmp_path, capsys):
    pool = red_images(10)
    file = mutual().fit(pool).save_checkpoint(tmp_path / "pool.safetensors")
    asked(capsys, file, "--contamination", 0.3)
    expected = mutual(contamination=0.3).fit(pool).threshold_
    assert load_detector(file, embedder=ColourEmbedder()).threshold_ == expected


def test_the_threshold_of_a_report_is_taken_from_its_file(saved, tmp_path, capsys):
    exported = {
        "format": "pyimgano-openclip report", "detector": saved.name, "folder": "/parts",
        "threshold": 0.125, "images": [],
    }  # fmt: skip
    file = tmp_path / "marks.json"
    file.write_text(json.dumps(exported))
    assert asked(capsys, saved, "--from-report", file)["threshold"] == 0.125
    for wrong, message in (
        ({**exported, "detector": "other.safetensors"}, "about other.safetensors, not d.safe"),
        ({**exported, "threshold": None}, "its threshold is None"),
        ({}, "was not exported from a report"),
    ):
        file.write_text(json.dumps(wrong))
        assert main(["threshold", str(saved), "--from-report", str(file)]) == 1
        assert message in capsys.readouterr().err


def test_what_cannot_be_stored_is_refused(saved, tmp_path, capsys):
    content = saved.read_bytes()
    assert main(["threshold", str(saved), "--contamination", "0.7"]) == 2
    assert "contamination" in capsys.readouterr().err
    unfitted = promptscore(embedder=ColourEmbedder()).save_checkpoint(tmp_path / "z.safetensors")
    assert main(["threshold", str(unfitted), "--contamination", "0.1"]) == 1
    assert "no training scores" in capsys.readouterr().err
    assert asked(capsys, unfitted)["threshold"] is None
    assert saved.read_bytes() == content


@pytest.mark.slow
def test_a_refused_image_is_never_let_pass(tmp_path, capsys):
    folder, saved = leather(tmp_path / "normal", 10), tmp_path / "saved.safetensors"
    fit = ["fit", "--normal", str(folder), "--out", str(saved), "--model", "bundled"]
    assert main(fit) == 0
    score = ["score", str(folder), "--detector", str(saved), "--out", str(tmp_path / "out")]
    for _ in range(2):  # afresh, and where only the labels may change
        assert main([*score, "--threshold", "3"]) == 1
        assert "--threshold=3.0; it must be a number in (-inf, 2.0]" in capsys.readouterr().err
        assert main([*score, "--threshold", "2"]) == 0
