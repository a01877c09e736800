"""`score` on results that are there already: another threshold needs no model."""

import json
import shutil

import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.remote_images import search
from pyimgano_openclip.files.lock import locked
from pyimgano_openclip.report.page import render_report

from helpers.embedders import red_image, with_green
from helpers.processes import run_python
from helpers.runs import leather, lines_of

pytestmark = pytest.mark.slow
HEAVY = ["torch", "open_clip", "pyimgano", "scipy", "sklearn"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A folder with a saved detector, images and their results; tests work on copies."""
    place = tmp_path_factory.mktemp("first")
    new = leather(place / "new", 3)
    Image.fromarray(with_green(red_image(48, 64, seed=9), 18, 30)).save(new / "bad.png")
    (new / "cut-off.png").write_bytes((new / "bad.png").read_bytes()[:60])
    fit = ["fit", "--normal", str(leather(place / "good", 6)), "--model", "bundled"]
    assert main([*fit, "--out", str(place / "d.safetensors")]) == 0
    assert main(command(place, "--threshold", "0.01")) == 3
    return place


@pytest.fixture
def place(first, tmp_path):
    return shutil.copytree(first, tmp_path / "copy")


def command(place, *more, by=("--detector", "{}/d.safetensors")):
    detector = [part.format(place) for part in by]
    return ["score", f"{place}/new", *detector, "--out", f"{place}/out", *more]


def loaded(*arguments) -> tuple[str, int]:
    """The heavy modules that a command imports, and its exit code, in a fresh interpreter."""
    code = f"""
import sys
from pyimgano_openclip.cli import main
code = main({list(map(str, arguments))})
print("loaded:", *(name for name in {HEAVY} if name in sys.modules), code)"""
    *names, status = run_python(code).stdout.rpartition("loaded:")[2].split()
    return " ".join(names), int(status)


def test_the_report_keeps_what_the_own_threshold_promises(place):
    def promised():
        assert main(command(place)) == 3
        return (place / "out/report.html").read_text().count("false alarms")

    shutil.rmtree(place / "out")
    told = promised()
    assert told
    assert promised() == told
    assert main(command(place, "--threshold", "0.2")) == 3
    assert promised() == told


def test_the_folder_is_locked_until_the_report_is_written(place, monkeypatch):
    held = []

    def render(title, sections, *others):
        for section in sections:
            with pytest.raises(BlockingIOError):
                locked(place / "out" / places[section.title] / ".lock")
            held.append(section.title)
        return render_report(title, sections, *others)

    monkeypatch.setattr("pyimgano_openclip.cli.reporting.render_report", render)
    places = {
        "new": "",
        "d": "d",
        "Few-shot: patch-kNN": "few-shot",
        "Zero-shot: prompts": "zero-shot",
    }
    assert main(command(place, "--threshold", "0.2")) == 3
    assert main(command(place, "--overwrite")) == 3
    evaluate = ["evaluate", f"{place}/good", f"{place}/new/bad.png", "--out", f"{place}/out"]
    assert main([*evaluate, "--detector", f"{place}/d.safetensors", "--overwrite"]) == 0
    assert main(["demo", "--out", f"{place}/out", "--overwrite", "--device", "cpu"]) == 0
    assert held == ["new", *places]
    for folder in places.values():
        locked(place / "out" / folder / ".lock").close()


def test_results_that_another_run_has_renewed_meanwhile_need_the_model(place, monkeypatch, capsys):
    def searched(options):
        monkeypatch.undo()
        assert main(command(place, "--overwrite")) == 3  # whose threshold promises something
        capsys.readouterr()
        return search(options)

    monkeypatch.setattr("pyimgano_openclip.cli.relabel.search", searched)
    assert main(command(place)) == 3
    assert "Loading the model" in capsys.readouterr().err
    assert main(command(place)) == 3
    assert "Loading the model" not in capsys.readouterr().err


def test_another_threshold_is_applied_without_the_model_as_with_it(first, place, capsys):
    def outcome(*more):
        main([*new, *more, "--json"])
        facts = json.loads(capsys.readouterr().out)
        drawn = {path: path.read_bytes() for path in (place / "out/overlays").iterdir()}
        return drawn, lines_of(place / "out"), {n: v for n, v in facts.items() if "sec" not in n}

    new, run = command(place, "--threshold", "0.2"), place / "out/run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "again": None}))
    expected = outcome()
    shutil.rmtree(place / "out")
    shutil.copytree(first / "out", place / "out")
    assert loaded(*new) == ("", 3)
    assert outcome() == expected
    assert expected[2]["threshold"] == 0.2


def test_without_a_threshold_the_detectors_own_is_in_force_again(place, capsys):
    main(["threshold", f"{place}/d.safetensors", "--json"])
    own = json.loads(capsys.readouterr().out)["threshold"]
    main(command(place, "--json"))
    assert json.loads(capsys.readouterr().out)["threshold"] == own


def test_a_threshold_stored_in_the_detector_labels_the_results_anew(place, capsys):
    assert main(["threshold", f"{place}/d.safetensors", "1.9"]) == 0
    assert main(command(place)) == 3
    said = capsys.readouterr().out
    assert "1 unreadable (threshold 1.9)" in said
    assert "\n4 scored by an earlier run\n" in said
    labels = {line["image"]: line["label"] for line in lines_of(place / "out")}
    assert [labels[f"{n:03}.png"] for n in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("by", [("--class-name", "leather", "--model", "bundled"),
                                ("--model", "bundled")])  # fmt: skip
def test_words_and_pools_are_labelled_anew_without_the_model_too(by, place):
    shutil.rmtree(place / "out")
    assert main(command(place, by=by)) == 3
    scores = {line["image"]: line.get("score") for line in lines_of(place / "out")}
    assert loaded(*command(place, "--threshold", "0.99", by=by)) == ("", 3)
    assert [line["label"] for line in lines_of(place / "out")] == [0, 0, 0, 0, 1]
    assert {line["image"]: line.get("score") for line in lines_of(place / "out")} == scores


def test_an_interruption_says_which_results_are_of_an_earlier_run(place, monkeypatch, capsys):
    def interrupted_in(name):
        def stop(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(f"pyimgano_openclip.cli.{name}", stop)
            capsys.readouterr()
            assert main(command(place)) == 130
        return capsys.readouterr().err.splitlines()[-1]

    goes_on = "Interrupted. Run the same command again to resume."
    assert interrupted_in("relabel.search") == goes_on
    table, report = f"{place}/out/scores.csv", f"{place}/out/report.html"
    for name in ("new.png", "newer.png"):
        Image.fromarray(red_image(48, 64, seed=len(name))).save(place / "new" / name)
    old = f"{goes_on} Until then, {table} and {report} are of an earlier run."
    assert interrupted_in("scoring.labelled") == old
    assert interrupted_in("results.csv.DictWriter") == old
    assert interrupted_in("outcome.write_report") == (
        f"{goes_on} Until then, {report} is of an earlier run."
    )
    assert main(command(place)) == 3
    assert interrupted_in("relabel.search") == goes_on


def test_what_is_new_or_has_changed_is_scored(place, capsys):
    shutil.copy(place / "good/005.png", place / "new/more.png")
    Image.fromarray(red_image(48, 64, seed=50)).save(place / "new/000.png")
    Image.fromarray(red_image(48, 64, seed=51)).save(place / "new/cut-off.png")
    assert main(command(place, "--threshold", "0.2", "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["scored"], found["kept"], found["unreadable"]) == (3, 3, [])
