"""The command line: what it writes, how it goes on after an interruption, how it fails."""

import csv
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.images import find_images
from pyimgano_openclip.cli.messages import listed
from pyimgano_openclip.cli.results import Results
from pyimgano_openclip.cli.score import score_folder
from pyimgano_openclip.frame import read_pixels

from embedders import ColourEmbedder, red_image, with_green
from processes import NOT_INHERITED, TESTS, run_python

MAIN = "import sys; from pyimgano_openclip.cli import main; sys.exit(main())"


class FileEmbedder(ColourEmbedder):
    """Reads files, remembers which, and is interrupted where a test wants it."""

    def __init__(self, *, stops_at: int | None = None) -> None:
        super().__init__(rows=4, cols=6)
        self.seen: list[str] = []
        self.stops_at = stops_at

    def embed(self, image):
        if self.stops_at is not None and len(self.seen) >= self.stops_at:
            raise KeyboardInterrupt
        if isinstance(image, (str, Path)):
            self.seen.append(Path(image).name)
            image = read_pixels(image)
        return super().embed(image)


@pytest.fixture
def parts(tmp_path):
    """Six images of 30 x 45; the last has a defect at the lower right."""
    folder = tmp_path / "parts"
    (folder / "late").mkdir(parents=True)
    for seed in range(5):
        Image.fromarray(red_image(30, 45, seed=seed)).save(folder / f"part-{seed}.png")
    Image.fromarray(with_green(red_image(30, 45, seed=9), 18, 30)).save(folder / "late/bad.png")
    return folder


def detector(on_error="raise", **arguments):
    embedder = FileEmbedder(**arguments)
    found = VisionOpenCLIPPatchKNN(embedder=embedder, on_error=on_error)
    found.fit([red_image(30, 45, seed=seed) for seed in range(20, 30)])
    found.threshold_ = 3 * found.decision_scores_.max()
    return found


def scored(folder: Path, out: Path, fitted=None, **more):
    return score_folder(fitted or detector(), find_images([folder]), out, **more)


def lines_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


def test_images_of_folders_and_files_have_names_below_what_they_share(parts, tmp_path):
    found = find_images([parts])
    assert [source.name for source in found] == [
        "late/bad.png",
        *(f"part-{n}.png" for n in range(5)),
    ]
    one = find_images([parts / "part-1.png", parts / "part-1.png", parts / "late"])
    assert [source.name for source in one] == ["part-1.png", "late/bad.png"]
    with pytest.raises(ValueError, match="does not exist"):
        find_images([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image"):
        find_images([tmp_path / "empty"])


def test_every_format_that_can_be_read_is_found_and_folders_are_not(tmp_path):
    image = Image.fromarray(red_image(8, 8))
    names = ["a.png", "b.JPG", "c.pgm", "d.pbm", "e.jp2", "f.jfif", "g.avif", "h.tif"]
    readable = [name for name in names if name[1:].lower() in Image.registered_extensions()]
    for name in readable:
        image.convert("L").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "report.eps").write_text("%!PS")
    (tmp_path / "folder.png").mkdir()
    assert [source.name for source in find_images([tmp_path])] == readable
    for source in find_images([tmp_path]):
        assert read_pixels(source.path).shape == (8, 8, 3)


def test_results_are_no_images_of_the_next_run(parts, tmp_path):
    place = tmp_path / "parts/late/results"
    place.mkdir()
    Image.fromarray(red_image(8, 8)).save(place / "overlay.jpg")
    names = [source.name for source in find_images([parts])]
    assert "late/results/overlay.jpg" in names
    names.remove("late/results/overlay.jpg")
    for places in ([parts], [parts, place], [place, parts]):
        for leave_out in (place, parts / "late/../late/results"):
            found = find_images(places, leave_out=leave_out)
            assert [source.name for source in found] == names
    (named,) = find_images([place / "overlay.jpg"], leave_out=place)
    assert named.name == "overlay.jpg"
    with pytest.raises(ValueError, match=r"no image in \S*results outside \S*results;"):
        find_images([place], leave_out=place)


@pytest.mark.slow
def test_a_second_run_does_not_score_the_pictures_of_the_first(parts, tmp_path, capsys):
    command = ["score", str(tmp_path), "--class-name", "nut", "--model", "bundled", "--json"]
    for kept in (0, 6):
        assert main([*command, "--out", str(tmp_path / "results")]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["images"], facts["kept"]) == (6, kept)
        assert facts["anomalous"] + facts["normal"] == 6


def test_a_folder_of_results_is_complete(parts, tmp_path):
    done = scored(parts, tmp_path / "out")
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [source.name for source in find_images([parts])]
    assert [row["label"] for row in rows] == ["1", "0", "0", "0", "0", "0"]
    bad = lines_of(tmp_path / "out")[0]
    assert bad["score"] > done.detector.threshold_
    left, top, right, bottom = bad["regions"][0]["box"]
    assert 20 <= left < 30 <= 40 <= right <= 45
    assert 10 <= top < 18 <= 28 <= bottom <= 30
    assert len(bad["nearest"]) == 3
    for kind, name in (("overlays", "late/bad.png.jpg"), ("thumbnails", "part-0.png.jpg")):
        with Image.open(tmp_path / "out" / kind / name) as picture:
            assert picture.size == (45, 30)


def test_the_regions_of_a_folder_of_results_are_those_that_the_detector_explains(parts, tmp_path):
    fitted = detector()
    bad, *_ = scored(parts, tmp_path / "out", fitted).tally.records
    half_peak = fitted.get_anomaly_map(parts / "late/bad.png").max() / 2
    assert bad["hot"] == pytest.approx(half_peak)
    assert half_peak > fitted.region_threshold()
    explained = fitted.explain(parts / "late/bad.png")
    assert [region["box"] for region in bad["regions"]] == [list(r.box) for r in explained]
    wider = fitted.explain(parts / "late/bad.png", threshold=fitted.region_threshold())
    assert wider[0].area > explained[0].area


def test_maps_of_16_bits_are_the_maps_of_the_detector(parts, tmp_path):
    fitted = detector()
    scored(parts, tmp_path / "out", fitted)
    expected = fitted.get_anomaly_map(parts / "late/bad.png")
    with Image.open(tmp_path / "out/maps/late/bad.png.png") as grey:
        np.testing.assert_allclose(np.asarray(grey) / 65535 * 2, expected, atol=2e-5)
    scored(parts, tmp_path / "out", fitted, maps="npy", overlays="none")
    found = np.load(tmp_path / "out/maps/late/bad.png.npy")
    np.testing.assert_array_equal(found, expected)


def test_only_what_is_asked_for_is_drawn(parts, tmp_path):
    scored(parts, tmp_path / "out", maps="none", overlays="flagged")
    assert not (tmp_path / "out/maps").exists()
    drawn = [path.name for path in (tmp_path / "out/overlays").rglob("*.jpg")]
    assert drawn == ["bad.png.jpg"]


def test_an_interrupted_run_goes_on_and_scores_nothing_twice(parts, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        scored(parts, tmp_path / "out", detector(stops_at=3))
    before = lines_of(tmp_path / "out")
    assert [line["image"] for line in before] == ["late/bad.png", "part-0.png", "part-1.png"]
    assert before[0]["nearest"]
    fitted = detector()
    tally = scored(parts, tmp_path / "out", fitted).tally
    assert fitted.embedder.seen == ["part-2.png", "part-3.png", "part-4.png"]
    assert (tally.kept, tally.scored) == (3, 3)
    uninterrupted = scored(parts, tmp_path / "other").tally.records
    assert lines_of(tmp_path / "out") == uninterrupted


def test_a_line_that_was_cut_off_is_scored_again(parts, tmp_path):
    scored(parts, tmp_path / "out")
    journal = tmp_path / "out/scores.jsonl"
    complete = journal.read_bytes()
    journal.write_bytes(complete[:-20])
    tally = scored(parts, tmp_path / "out").tally
    assert (tally.kept, tally.scored) == (5, 1)
    assert journal.read_bytes() == complete


def test_an_image_that_changed_is_scored_again(parts, tmp_path):
    scored(parts, tmp_path / "out")
    Image.fromarray(with_green(red_image(30, 45), 0, 0)).save(parts / "part-2.png")
    tally = scored(parts, tmp_path / "out").tally
    assert (tally.kept, tally.scored) == (5, 1)
    labels = {line["image"]: line["label"] for line in lines_of(tmp_path / "out")}
    assert labels["part-2.png"] == 1


def test_results_of_other_settings_are_not_mixed(parts, tmp_path):
    scored(parts, tmp_path / "out")
    other = VisionOpenCLIPPatchKNN(embedder=FileEmbedder(), n_neighbors=2)
    other.fit([red_image(30, 45, seed=seed) for seed in range(5)])
    with pytest.raises(ValueError, match=r"different: n_neighbors.*--overwrite"):
        scored(parts, tmp_path / "out", other)
    assert scored(parts, tmp_path / "out", other, overwrite=True).tally.scored == 6


def test_the_canvas_of_a_run_is_kept(tmp_path):
    results = Results(tmp_path, {"a": 1})
    results.start((96, 128))
    results.close()
    assert Results(tmp_path, {"a": 1}).canvas == (96, 128)


def test_results_of_two_thresholds_are_not_mixed(parts, tmp_path):
    scored(parts, tmp_path / "out")
    assert sum("nearest" in line for line in lines_of(tmp_path / "out")) == 1
    fitted = detector()
    fitted.threshold_ = -1.0
    refused = r"different: threshold\).*--out.*--overwrite\. The slider"
    with pytest.raises(ValueError, match=refused):
        scored(parts, tmp_path / "out", fitted)
    assert scored(parts, tmp_path / "out", fitted, overwrite=True).tally.scored == 6
    lines = lines_of(tmp_path / "out")
    assert [line["label"] for line in lines] == [1] * 6
    assert all(line["nearest"] for line in lines)


def test_an_unreadable_image_is_noted_or_stops_the_run(parts, tmp_path):
    (parts / "a.png").write_text("no image")
    whole = (parts / "part-3.png").read_bytes()
    (parts / "part-3.png").write_bytes(whole[: len(whole) // 2])
    done = scored(parts, tmp_path / "out", detector(on_error="nan"))
    assert done.tally.unreadable == ["a.png", "part-3.png"]
    assert done.tally.scored == 5
    lines = {line["image"]: line for line in lines_of(tmp_path / "out")}
    assert "cannot be opened" in lines["a.png"]["error"]
    assert "cannot be decoded" in lines["part-3.png"]["error"]
    assert lines["a.png"]["label"] == 1
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["image"] == "a.png")
    assert (row["score"], row["label"]) == ("nan", "1")
    with pytest.raises(ValueError, match=r"a\.png"):
        scored(parts, tmp_path / "strict")
    (parts / "part-3.png").write_bytes(whole)
    assert scored(parts, tmp_path / "out", detector(on_error="nan")).tally.scored == 1


def test_files_of_one_stem_do_not_overwrite_each_other(parts, tmp_path):
    Image.fromarray(red_image(30, 45)).save(parts / "part-0.jpg")
    scored(parts, tmp_path / "out")
    maps = [path.name for path in (tmp_path / "out/maps").glob("part-0*")]
    assert sorted(maps) == ["part-0.jpg.png", "part-0.png.png"]


FIT = "fit --normal {parts} --out {saved}"
SCORE = "score {parts} --out {out}"
FAILURES = {
    SCORE + " --detector {out}/no": "/no: No such file",
    SCORE + " --detector {parts}/part-0.png": "part-0.png is damaged or not a checkpoint: it is",
    "score {parts} --out {file} --class-name nut --model bundled": "pass a folder for the results",
    "score {parts}/none --out {out} --class-name nut": "does not exist",
    "fit --normal {file} --out {saved} --model bundled": ": {file} cannot be opened",
    "fit --normal {parts} --out {parts}": "is a folder",
}
WRONG_USAGE = {
    SCORE: "--detector FILE, or --class-name",
    SCORE + " --detector {out} --class-name nut": "--detector FILE, or --class-name",
    SCORE + " --detector {out} --model RN50": "A saved detector has its own model; omit --model",
    SCORE + " --detector {out} --set k=3": "of a saved detector",
    SCORE + " --class-name nut --model bundle": "no model 'bundle'; did you mean 'bundled'",
    "fit --normal {parts} --out detector.pt": "must end in .safetensors",
    FIT + " --as-references": "--class-name",
    FIT + " --defects dent": "--class-name",
    FIT + " --contamination 5 --model bundled": "contamination",
    FIT + " --set foo=1 --model bundled": "no argument foo",
    FIT + " --set layers=3 --model bundled": "it must be a list",
    FIT + " --device gpu": "such as 'cpu'",
    FIT + " --model bundled --pretrained openai": "includes its weights",
    FIT + " --model RN50": "--model RN50 needs --pretrained",
    FIT + " --model RN50 --pretrained no": "--pretrained='no'",
    FIT + " --model RN5 --pretrained openai": "pyimgano-openclip towers",
}


@pytest.mark.parametrize(
    ("command", "code"), [*((text, 1) for text in FAILURES), *((text, 2) for text in WRONG_USAGE)]
)
def test_what_goes_wrong_is_said_in_one_line_and_by_the_exit_code(
    parts, tmp_path, capsys, command, code
):
    places = {
        "parts": parts, "out": tmp_path / "out", "file": tmp_path / "notes.txt",
        "saved": tmp_path / "d.safetensors",
    }  # fmt: skip
    places["file"].write_text("no image")
    assert main(command.format(**places).split()) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("pyimgano-openclip: ")
    message = {**FAILURES, **WRONG_USAGE}[command]
    assert message.format(**places) in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit"],
        ["demo", "--set", "3"],
        ["score", "x", "--out", "y", "--threshold", "nan"],
        ["score", "x", "--out", "y", "--threshold", "high"],
        ["score", "x", "--out", "y", "--batch-size", "0"],
        ["score", "x", "--out", "y", "--set", "k"],
    ],
)
def test_wrong_usage_is_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_only_score_says_that_it_can_go_on(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    stopped = SimpleNamespace(run=interrupted)
    monkeypatch.setattr("pyimgano_openclip.cli.import_module", lambda *_: stopped)
    assert main(["score", "x", "--out", "y"]) == 130
    assert "again to resume" in capsys.readouterr().err
    assert main(["fit", "--normal", "x", "--out", "y"]) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


def test_of_many_names_a_few_are_told():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(9)]) == "0, 1, 2, 3, 4 and 4 more"


def test_help_loads_nothing_heavy():
    code = """
import sys
from pyimgano_openclip.cli import main
for command in ([], ["demo"], ["fit"], ["score"], ["towers"], ["doctor"], ["download"]):
    try:
        main([*command, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
heavy = ["torch", "open_clip", "cv2", "numpy", "PIL", "jinja2", "tqdm", "pyimgano"]
print("loaded:", *(name for name in heavy if name in sys.modules))"""
    assert run_python(code).stdout.endswith("loaded:\n")


def leather(folder: Path, count: int, size=(48, 64)) -> Path:
    folder.mkdir()
    for seed in range(count):
        image = red_image(*size, seed=seed)
        Image.fromarray(image).save(folder / f"{seed:03}.png")
    return folder


@pytest.mark.slow
def test_the_demo_ends_with_the_path_of_a_report(tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "demo"), "--device", "cpu"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    report = Path(last.removeprefix("report: "))
    assert "Zero-shot" in report.read_text(encoding="utf-8")
    assert len(lines_of(tmp_path / "demo/few-shot")) == len(lines_of(tmp_path / "demo/zero-shot"))


@pytest.mark.slow
def test_too_few_or_identical_images_are_warned_of(tmp_path, capsys):
    normal, out = leather(tmp_path / "normal", 10), ["--out", str(tmp_path / "d.safetensors")]
    first, *others = map(str, sorted(normal.iterdir()))
    copies = [shutil.copy(first, tmp_path / f"{copy}.png") for copy in "ab"]
    for images, expected in (
        ([first], ["1 image cannot settle a threshold"]),
        ([first, *others[1:]], ["9 images cannot settle a threshold"]),
        ([str(copy) for copy in copies], ["all 2 images are identical"]),
        ([first, *others], []),
    ):
        assert main(["fit", "--normal", *images, *out, "--model", "bundled"]) == 0
        printed = capsys.readouterr()
        warned = [line for line in printed.err.splitlines() if "warning" in line]
        assert len(warned) == len(expected)
        assert all(text in line for text, line in zip(expected, warned, strict=True))
        count = len(images)
        assert f": {count} normal image{'' if count == 1 else 's'}, threshold" in printed.out


@pytest.mark.slow
def test_a_download_without_network_says_so_in_one_line(tmp_path, capfd, monkeypatch):
    from pyimgano_openclip import weights

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
    assert "needs network access" in printed
    assert "openclip_pretrained" not in printed
    assert not folder.exists()
    assert not logging.root.manager.disable


@pytest.mark.slow
def test_a_saved_detector_needs_none_of_its_settings_again(tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 6), tmp_path / "saved.safetensors"
    settings = ["force_image_size=[72,96]", "n_neighbors=3", "layers=[0.5,1.0]"]
    flags = [part for text in settings for part in ("--set", text)]
    command = ["fit", "--normal", str(normal), "--out", str(saved), "--model", "bundled"]
    assert main([*command, *flags, "--json"]) == 0
    fitted = json.loads(capsys.readouterr().out)
    assert fitted["canvas"] == [72, 96]
    out = str(tmp_path / "out")
    assert main(["score", str(normal), "--detector", str(saved), "--out", out, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["threshold"] == fitted["threshold"]
    assert facts["scored"] == 6
    assert Path(facts["report"]).is_file()
    # An image of the bank is at distance 0 from itself.
    assert max(line["score"] for line in lines_of(tmp_path / "out")) < fitted["threshold"]


@pytest.mark.slow
def test_words_and_references_are_saved_and_come_back(tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 4), tmp_path / "saved.safetensors"
    command = ["fit", "--normal", str(normal), "--out", str(saved), "--model", "bundled"]
    words = ["--class-name", "leather", "--defects", "hole,scratch", "--as-references"]
    assert main([*command, *words, "--json"]) == 0
    threshold = json.loads(capsys.readouterr().out)["threshold"]
    out = ["--out", str(tmp_path / "out"), "--json"]
    assert main(["score", str(normal), "--detector", str(saved), *out]) == 0
    assert json.loads(capsys.readouterr().out)["threshold"] == threshold
    settings = json.loads((tmp_path / "out/run.json").read_text())["identity"]
    assert settings["defects"] == ["hole", "scratch"]
    assert settings["class_name"] == "leather"


@pytest.mark.slow
def test_zero_shot_needs_a_class_name_only_and_names_defects(tmp_path, capsys):
    from pyimgano_openclip.samples import make_sample

    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("hole", None):
        image = make_sample("leather", seed=3, size=(120, 160), defect=name).image
        Image.fromarray(image).save(folder / f"{name}.png")
    command = ["score", str(folder), "--class-name", "leather", "--model", "bundled"]
    out = ["--out", str(tmp_path / "out")]
    assert main([*command, *out, "--defects", "hole, scratch", "--threshold", "0.01"]) == 0
    assert "report:" in capsys.readouterr().out
    records = lines_of(tmp_path / "out")
    assert {region["defect"] for record in records for region in record["regions"]} <= {
        "hole",
        "scratch",
    }


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_run_goes_on_and_scores_nothing_twice(tmp_path):
    images, saved = leather(tmp_path / "images", 120), tmp_path / "saved.safetensors"
    few = [str(path) for path in sorted(images.iterdir())[:4]]
    assert main(["fit", "--normal", *few, "--out", str(saved), "--model", "bundled"]) == 0
    out = tmp_path / "out"
    command = [
        sys.executable, "-c", MAIN, "score", str(images), "--detector", str(saved),
        "--out", str(out), "--threshold", "2", "--batch-size", "1", "--json",
    ]  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    run = {"cwd": TESTS, "env": environment, "stdin": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, **run, stdout=subprocess.DEVNULL) as process:
        journal = out / "scores.jsonl"
        end = time.monotonic() + 120
        while not (journal.is_file() and journal.read_bytes().count(b"\n") >= 5):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    before = journal.read_bytes()
    kept = before.count(b"\n")
    assert 5 <= kept < 120
    done = subprocess.run(command, **run, capture_output=True, check=True, timeout=300)
    facts = json.loads(done.stdout)
    assert done.stderr == ""  # no progress bar in a pipe
    assert (facts["kept"], facts["scored"]) == (kept, 120 - kept)
    names = [line["image"] for line in lines_of(out)]
    assert names == sorted(path.name for path in images.iterdir())


@pytest.mark.slow
def test_towers_tells_of_every_model_what_it_can_do(capsys):
    import open_clip

    assert main(["towers", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["towers"]}
    assert sorted(rows) == sorted(open_clip.list_models())
    assert rows["ViT-B-16-plus-240"]["grid"] == [15, 15]
    assert rows["ViT-B-16-SigLIP2"]["grid"] == [14, 14]
    assert (rows["RN50"]["grid"], rows["RN50"]["prompt_grid"]) == ([14, 14], [7, 7])
    assert not rows["MobileCLIP-S1"]["prompts"]
    assert [name for name in ("RN50", "MobileCLIP-S1") if rows[name]["any_shape"]] == ["RN50"]
    assert "cannot be compared with texts" in rows["MobileCLIP-S1"]["why_not"]
    assert all(row["parameters"] > 1e6 for row in rows.values())
    assert main(["towers", "plus-240"]) == 0
    told = capsys.readouterr().out
    assert "laion400m_e31" in told
    assert " 117 M " in told
    assert main(["towers", "MobileCLIP-S1"]) == 0
    header, row, *_ = capsys.readouterr().out.splitlines()
    assert row[header.index("any shape") :].startswith("no ")
    assert main(["towers", "bundled"]) == 0
    assert "--model bundled" in capsys.readouterr().out
    assert main(["towers", "no such model"]) == 1
    assert "'no such model'" in capsys.readouterr().err


@pytest.mark.slow
def test_only_models_with_weights_here_are_listed_if_asked_for(capsys, monkeypatch):
    from pyimgano_openclip.cli import towers

    monkeypatch.setattr(towers, "is_cached", lambda _: False)
    assert main(["towers", "--cached"]) == 0
    assert "No weights" in capsys.readouterr().out
    only = {"hf_hub": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K/"}
    monkeypatch.setattr(towers, "is_cached", lambda known: known["hf_hub"] == only["hf_hub"])
    assert main(["towers", "--cached", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)["towers"]}
    assert names == {"ViT-B-32"}


@pytest.mark.slow
def test_weights_in_the_caches_of_open_clip_are_seen(tmp_path, monkeypatch):
    from huggingface_hub import constants

    from pyimgano_openclip.cli import towers

    monkeypatch.setattr(towers, "URL_CACHE", str(tmp_path))
    plain = {"url": "https://example.org/weights/ViT-B-32.pt", "hf_hub": ""}
    assert not towers.is_cached(plain)
    (tmp_path / "ViT-B-32.pt").touch()
    assert towers.is_cached(plain)

    snapshot = tmp_path / "hub/models--org--repo/snapshots/abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs/main").write_text("abc")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub = {"url": "", "hf_hub": "org/repo/model.bin"}
    assert not towers.is_cached(hub)
    (snapshot / "model.safetensors").touch()
    assert towers.is_cached(hub)


@pytest.mark.slow
def test_the_doctor_tells_which_classes_pyimgano_will_use(capsys, monkeypatch):
    code = main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["versions"]) >= {"pyimgano", "torch", "numpy", "pyimgano-openclip"}
    assert facts["computing"]["device"]
    assert facts["bundled model"]["checksums"] == "correct"
    assert code == (1 if facts["problems"] else 0)
    monkeypatch.setenv("PYIMGANO_OPENCLIP_AUTOLOAD", "0")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "pyimgano uses its own vision_openclip_patchknn" in text
    assert "unset it" in text


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
    images = [red_image(40, 60, seed=seed) for seed in range(3)]
    common = {"class_name": "leather", "device": "cpu"}
    there = VisionOpenCLIPPromptScore(
        openclip_model_name="tiny-clip", openclip_pretrained=str(tiny_model), **common
    )
    here = VisionOpenCLIPPromptScore(openclip_model_name=f"local-dir:{folder}", **common)
    np.testing.assert_array_equal(here.decision_function(images), there.decision_function(images))
    assert main(command) == 1
    assert "not empty" in capsys.readouterr().err


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


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    code = """
import sys
from pyimgano_openclip import cli
from pyimgano_openclip.cli.answer import Answer
from types import SimpleNamespace
cli.import_module = lambda *_: SimpleNamespace(run=lambda _: Answer("x" * 10**6, {}))
sys.exit(cli.main(["doctor"]))"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
