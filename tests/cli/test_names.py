"""Names of files that are hard to write down."""

import csv
import io
import json
import os
import sys

import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.answer import Answer
from pyimgano_openclip.cli.messages import SeveralError, error_lines

from helpers.embedders import red_image, with_green
from helpers.runs import fitted_detector
from helpers.runs import scored as score

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")

NOT_UTF_8 = os.fsdecode(b"bad\xff\xfe.png")
HOSTILE = "red\x1b[31m\r\x07.png", "two\nforged.png"  # what a terminal obeys, and a line of its own
LONG = "l" * 245 + ".png"  # 249 bytes, the suffix of a map fits only once more
LONGEST = "ä" * 124 + "xyz.png"  # 255 bytes


def save(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(with_green(red_image(30, 45), 10, 20)).save(folder / "new.png")
        (folder / "new.png").rename(folder / name)
    return folder


def scored(folder, out):
    fitted = fitted_detector(on_error="nan")
    fitted.threshold_ = 0.001
    return score(folder, out, fitted)


def test_an_image_whose_name_is_not_utf_8_is_scored_under_an_escaped_name(tmp_path):
    folder = save(tmp_path / "images", NOT_UTF_8)
    assert scored(folder, tmp_path / "out").tally.scored == 1
    (row,) = csv.DictReader((tmp_path / "out/scores.csv").read_text("utf-8-sig").splitlines())
    (line,) = (tmp_path / "out/scores.jsonl").read_text("utf-8").splitlines()
    escaped = r"bad\udcff\udcfe.png"
    assert row["image"] == json.loads(line)["image"] == escaped
    assert escaped.encode().decode("unicode_escape") == NOT_UTF_8
    assert (tmp_path / "out/maps" / f"{escaped}.png").is_file()
    assert scored(folder, tmp_path / "out").tally.kept == 1


def test_names_of_the_greatest_length_are_scored_each_into_files_of_its_own(tmp_path):
    names = [LONG, LONGEST, LONGEST.replace("xyz", "xyw")]
    done = scored(save(tmp_path / "images", *names), tmp_path / "out")
    assert done.tally.scored == 3
    assert sorted(record["image"] for record in done.tally.records) == sorted(names)
    assert len(list((tmp_path / "out/maps").iterdir())) == 3
    assert scored(tmp_path / "images", tmp_path / "out").tally.kept == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("default::pyimgano_openclip.bank.copies.CopiesWarning")
def test_the_whole_command_works_with_names_that_are_not_utf_8(tmp_path, capsys, monkeypatch):
    folder = save(tmp_path / os.fsdecode(b"parts\xff"), NOT_UTF_8, LONG)
    (folder / os.fsdecode(b"cut\xff.png")).write_bytes(b"no image")
    saved, out = tmp_path / "d.safetensors", tmp_path / os.fsdecode(b"out\xfe")
    images = [str(folder / name) for name in (NOT_UTF_8, LONG)]
    assert main(["fit", "--normal", *images, "--out", str(saved), "--model", "bundled"]) == 0
    capsys.readouterr()
    strict = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")
    monkeypatch.setattr("sys.stdout", strict)
    arguments = ["score", str(folder), "--detector", str(saved), "--out", str(out)]
    assert main([*arguments, "--threshold", "-1"]) == 3
    printed = strict.buffer.getvalue().decode()
    assert printed.startswith("3 images, 2 anomalous, 1 unreadable (threshold -1)\n")
    assert r"cut\udcff.png" in printed
    page = (out / "report.html").read_text("utf-8")
    assert r"parts\udcff" in page
    assert r"cut\udcff.png" in page


def test_a_name_in_the_table_is_no_formula(tmp_path):
    names = ["=1+1.png", "+1.png", "-1.png", "@a.png", "a=1.png"]
    scored(save(tmp_path / "images", *names), tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out/scores.csv").read_text("utf-8-sig").splitlines()))
    assert sorted(row["image"] for row in rows) == sorted(
        ["./=1+1.png", "./+1.png", "./-1.png", "./@a.png", "a=1.png"]
    )
    lines = (tmp_path / "out/scores.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["image"] for line in lines) == sorted(names)


def test_a_name_with_ends_of_lines_has_one_row_in_the_table(tmp_path):
    names = ["a\rb.png", "a\nb.png", "a\r\nb.png", "lot\r/a.png"]
    (tmp_path / "images/lot\r").mkdir(parents=True)
    scored(save(tmp_path / "images", *names), tmp_path / "out")
    with (tmp_path / "out/scores.csv").open(encoding="utf-8-sig", newline="") as table:
        rows = list(csv.DictReader(table))
    assert sorted(row["image"] for row in rows) == sorted(names)
    assert {row["label"] for row in rows} == {"1"}


def told_to_people(capsys, *command):
    """What a command tells a person; no control character but ends of lines, none of a name."""
    main([*map(str, command)])
    told = "".join(capsys.readouterr())
    assert all(line.isprintable() for line in told.split("\n"))
    assert "\nforged" not in told
    return told


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_no_command_tells_a_person_what_a_terminal_obeys(tmp_path, capsys):
    folder, file = tmp_path / "all\x1b[31m\nforged", tmp_path / "part\x1b\nforged.safetensors"
    normal, broken = folder / "normal", folder / "broken"
    normal.mkdir(parents=True)
    for seed, name in enumerate(f"{n}{name}" for name in HOSTILE for n in range(12)):
        Image.fromarray(red_image(30, 45, seed=seed)).save(normal / name)
    save(broken, "right.png")
    for name in HOSTILE:
        (broken / name).write_bytes(b"no image")
    fit = ["fit", "--model", "bundled", "--out", file, "--normal"]
    asked = [
        [*fit, broken],
        [*fit, normal],
        [*fit, normal],  # exists
        ["threshold", file],
        ["add", broken, "--detector", file],
        ["add", broken / "right.png", "--detector", file],
        ["score", folder, "--detector", file, "--out", folder / "out"],
        ["score", folder, "--detector", file, "--out", folder / "out"],  # by what is known
        ["evaluate", normal, broken, "--detector", file, "--out", folder / "measured"],
        ["score", folder / "none\x1b", "--detector", file, "--out", folder / "other"],
        ["export", file, "--to", folder / "no\x1b\nforged"],
    ]
    told = [told_to_people(capsys, *command) for command in asked]
    for name in HOSTILE:
        shown = name.encode("unicode_escape").decode()
        assert all(shown in told[number] for number in (0, 4, 6, 7, 8))
    assert main(["score", str(folder), "--detector", str(file), "--out", str(folder / "out"),
                 "--json"]) == 3  # fmt: skip
    facts = json.loads(capsys.readouterr().out)
    assert {f"broken/{name}" for name in HOSTILE} <= set(facts["unreadable"])


def test_an_error_about_a_file_is_of_one_line_and_others_keep_theirs():
    assert error_lines(ValueError("a\nb is a folder")) == ["a\nb is a folder"]
    assert error_lines(OSError(2, "No such file", "a\nb")) == ["a\nb: No such file"]
    assert error_lines(RuntimeError("first\nsecond")) == ["first", "second"]
    assert error_lines(SeveralError("two:", "a\nb", "c")) == ["two:", "a\nb", "c"]
    answer = Answer(["a\nb", "c\x7f \x9b \u2028 \u202e", "ä\u200d"], {})
    assert answer.text == "a\\nb\nc\\x7f \\x9b \\u2028 \\u202e\nä\u200d"
