"""The command `demo`."""

from pathlib import Path

import pytest

from pyimgano_openclip.cli import main

from helpers.runs import lines_of


def test_its_help_says_which_detectors_it_runs(capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "two of the three detectors, patch-kNN and prompts" in told


@pytest.mark.slow
def test_the_demo_ends_with_the_path_of_a_report(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--device", "cpu"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    report = Path(last.removeprefix("report: "))
    assert "Zero-shot" in report.read_text(encoding="utf-8")
    assert len(lines_of(tmp_path / "demo/few-shot")) == len(lines_of(tmp_path / "demo/zero-shot"))
    mine = tmp_path / "demo/images/normal/mine.png"
    mine.write_text("mine")
    (tmp_path / "demo/images/normal/00.png").write_text("damaged")
    assert main(["demo", "--out", str(tmp_path / "demo"), "--overwrite", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("24 normal images to learn from, 16 to score")
    assert mine.read_text() == "mine"
