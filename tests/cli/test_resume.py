"""Runs of `score` that were interrupted, killed or started again with other settings."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.results import Results
from pyimgano_openclip.cli.score import score_folder
from pyimgano_openclip.files.lock import locked
from pyimgano_openclip.samples import make_sample

from helpers.detectors import on_bundled, patchknn, promptscore
from helpers.embedders import red_image, red_images, save_all, with_green
from helpers.places import TESTS
from helpers.processes import clean_environment, run_python
from helpers.runs import RecordingEmbedder, find_images, fitted_detector, leather, lines_of, scored


def test_an_interrupted_run_goes_on_and_scores_nothing_twice(parts, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        scored(parts, tmp_path / "out", fitted_detector(stops_at=3))
    before = lines_of(tmp_path / "out")
    assert [line["image"] for line in before] == ["late/bad.png", "part-0.png", "part-1.png"]
    assert before[0]["nearest"]
    fitted = fitted_detector()
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


def test_an_image_of_the_same_size_and_date_with_other_content_is_scored_again(parts, tmp_path):
    path = parts / "part-2.bmp"
    Image.fromarray(red_image(30, 45)).save(path)
    scored(parts, tmp_path / "out")
    before = path.stat()
    Image.fromarray(with_green(red_image(30, 45), 0, 0)).save(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    tally = scored(parts, tmp_path / "out").tally
    assert (tally.kept, tally.scored) == (6, 1)
    assert [line["label"] for line in lines_of(tmp_path / "out") if "2.bmp" in line["image"]] == [1]


def test_a_copy_of_the_folder_with_other_dates_is_not_scored_again(parts, tmp_path):
    scored(parts, tmp_path / "out")
    moved = tmp_path / "moved"
    shutil.copytree(parts, moved, copy_function=shutil.copy)
    shutil.rmtree(parts)
    (tmp_path / "out/overlays/part-0.png.jpg").unlink()  # it is drawn from the copy
    assert scored(moved, tmp_path / "out").tally.kept == 6
    assert lines_of(tmp_path / "out")[1]["file"][0] == str(moved / "part-0.png")


def test_an_image_that_is_written_to_while_it_is_scored_is_scored_again(parts, tmp_path):
    fitted = fitted_detector()
    embed = fitted.embedder.embed

    def written_to(image):
        found = embed(image)
        if image.name == "part-4.png":
            Image.fromarray(with_green(red_image(30, 45), 0, 0)).save(image)
        return found

    fitted.embedder.embed = written_to
    scored(parts, tmp_path / "out", fitted)
    tally = scored(parts, tmp_path / "out").tally
    assert (tally.kept, tally.scored) == (5, 1)
    assert [line["label"] for line in lines_of(tmp_path / "out")] == [1, 0, 0, 0, 0, 1]


def test_a_journal_of_version_0_1_0_is_read_and_its_images_are_scored_again(parts, tmp_path):
    scored(parts, tmp_path / "out")
    journal = tmp_path / "out/scores.jsonl"
    lines = lines_of(tmp_path / "out")
    for line in lines:
        status = Path(line["file"][0]).stat()
        line["file"] = [line["file"][0], status.st_size, status.st_mtime_ns]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    tally = scored(parts, tmp_path / "out").tally
    assert (tally.kept, tally.scored, tally.gone) == (0, 6, 0)
    assert scored(parts, tmp_path / "out").tally.kept == 6


@pytest.mark.parametrize("names", [["one.png"], ["one.png", "two.png"]])
def test_results_with_other_references_are_not_mixed(names, parts, tmp_path):
    normal = [tmp_path / name for name in names]

    def with_references():
        return promptscore(embedder=RecordingEmbedder(), references=[str(path) for path in normal])

    for seed, path in enumerate(normal):
        Image.fromarray(red_image(30, 45, seed=seed)).save(path)
    scored(parts, tmp_path / "out", with_references())
    before = normal[0].stat()
    assert scored(parts, tmp_path / "out", with_references()).tally.kept == 6
    Image.fromarray(red_image(30, 45, seed=5)).save(normal[0])
    os.utime(normal[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="different: --set references"):
        scored(parts, tmp_path / "out", with_references())


def test_results_with_other_text_vectors_are_not_mixed(parts, tmp_path):
    scored(parts, tmp_path / "out", promptscore(embedder=RecordingEmbedder()))
    other = promptscore(embedder=RecordingEmbedder(), text_features_anomaly=[0, 0, 1.0])
    with pytest.raises(ValueError, match="different: --set text_features_anomaly"):
        scored(parts, tmp_path / "out", other)


def test_results_of_other_settings_are_not_mixed(parts, tmp_path):
    scored(parts, tmp_path / "out")
    other = patchknn(embedder=RecordingEmbedder(), n_neighbors=2).fit(red_images(5, 30, 45))
    with pytest.raises(ValueError, match=r"different: --set n_neighbors.*--overwrite"):
        scored(parts, tmp_path / "out", other)
    assert scored(parts, tmp_path / "out", other, overwrite=True).tally.scored == 6


def test_what_differs_is_told_as_it_was_passed(tmp_path):
    earlier = {"detector": "VisionOpenCLIPPromptScore", "class_name": "nut", "defects": ["cut"]}
    earlier |= {"saved": "a", "weights": "b", "roi": None}
    with closing(Results(tmp_path, earlier)) as results:
        results.start(None)
    for changed, told in (
        ({"class_name": "bolt", "defects": None}, "--class-name, --defects"),
        ({"roi": "[0, 0, 8, 8]", "rotations": 8}, "--roi, --set rotations"),
        ({"saved": "c", "rotations": 8}, "the file of --detector"),
        ({"saved": "c", "detector": "VisionOpenCLIPPatchKNN"}, "--detector or --class-name"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"(different: {told}). Choose another")):
            Results(tmp_path, earlier | changed)


def test_the_canvas_of_a_run_is_kept(tmp_path):
    with closing(Results(tmp_path, {"a": 1})) as results:
        results.start((96, 128))
    with closing(Results(tmp_path, {"a": 1})) as results:
        assert results.canvas == (96, 128)


@pytest.mark.parametrize("other", [{"a": 1}, {"a": 2}])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("ended", [False, True])
def test_two_runs_that_begin_at_once_do_not_mix(ended, overwrite, other, tmp_path):
    first, second = Results(tmp_path, {"a": 1}), Results(tmp_path, other, overwrite=overwrite)
    first.start((96, 128))
    if ended:
        first.close()
    with closing(second), pytest.raises(ValueError, match="Another run has begun to write into"):
        second.start((96, 96))
    first.start((96, 128))  # the same run again
    first.close()
    with closing(Results(tmp_path, {"a": 1})) as third:
        assert third.canvas == (96, 128)


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_that_go_on_at_once_do_not_mix(overwrite, tmp_path):
    with closing(Results(tmp_path, {"a": 1})) as interrupted:
        interrupted.start((96, 128))
    with (
        closing(Results(tmp_path, {"a": 1}, overwrite=overwrite)),  # has written nothing so far
        pytest.raises(ValueError, match="Another run has begun to write into"),
    ):
        Results(tmp_path, {"a": 1}, overwrite=overwrite)
    with (
        pytest.raises(ValueError, match="different: --set a"),
        closing(Results(tmp_path, {"a": 2})),
    ):
        pass
    with closing(Results(tmp_path, {"a": 1})) as next_one:
        next_one.start((96, 128))


def test_a_second_run_touches_nothing_until_the_report_of_the_first_is_written(parts, tmp_path):
    def contents():
        return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    out, sources, other = tmp_path / "out", find_images([parts]), fitted_detector()
    other.threshold_ = 2.0  # moves a contour, so that an overlay is to be drawn again
    with score_folder(fitted_detector(), sources, out):
        before = contents()
        for overwrite in (False, True):
            with pytest.raises(ValueError, match="Another run has begun to write into"):
                scored(parts, out, other, overwrite=overwrite)
            assert contents() == before
    assert scored(parts, out, other).tally.kept == 6
    assert contents() != before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_a_second_run_is_refused_before_it_loads_anything(
    command, parts, tmp_path, capsys, monkeypatch
):
    saved, out = tmp_path / "line.safetensors", tmp_path / "out"
    on_bundled("promptscore").choose_canvas(red_images(1, 30, 45)).save_checkpoint(saved)
    places, results = [parts / "late"], out
    if command == "evaluate":
        places, results = [tmp_path / "good", *places], out / "line"
        places[0].mkdir()
        save_all(red_images(2, 30, 45), places[0])
    given = [command, *map(str, places), "--detector", str(saved), "--out", str(out)]
    with closing(Results(results, {"a": 1})) as first, monkeypatch.context() as patch:
        first.start(None)
        patch.setattr(
            "pyimgano_openclip.cli.detectors.load_saved", lambda *_: pytest.fail("it loads")
        )
        for more in ([], ["--overwrite"]):
            assert main([*given, *more]) == 1
            assert f"Another run has begun to write into {results};" in capsys.readouterr().err
    assert main([*given, "--overwrite"]) == 0


def test_a_run_that_is_killed_does_not_keep_the_next_one_out(tmp_path):
    begin = f"""
import os
from pathlib import Path
from pyimgano_openclip.cli.results import Results
results = Results(Path({str(tmp_path)!r}), {{"a": 1}})
results.start((96, 128))
"""
    run_python(f"{begin}os._exit(9)", fails=True)
    with closing(Results(tmp_path, {"a": 1})) as results:
        results.start((96, 128))
        assert "Another run" in run_python(begin, fails=True).stderr  # another process, too
    run_python(begin)


@pytest.mark.skipif(sys.platform == "win32", reason="there are other locks")
def test_folders_that_have_no_locks_are_written_to(parts, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refused)
    assert scored(parts, tmp_path / "out").tally.scored == 6
    assert scored(parts, tmp_path / "out").tally.kept == 6


@pytest.mark.skipif(sys.platform == "win32", reason="there are other errors")
def test_a_folder_that_takes_no_lock_is_named(parts, tmp_path):
    for name in ("folder", "link"):
        (tmp_path / name).mkdir()
    (tmp_path / "folder/.lock").mkdir()
    (tmp_path / "link/.lock").symlink_to(tmp_path / "gone/.lock")
    for name, reason in (("folder", "Is a directory"), ("link", "No such file or directory")):
        with pytest.raises(OSError, match=rf"{name} cannot be written: {reason} \(\.lock\)"):
            scored(parts, tmp_path / name)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no owners of files")
def test_a_lock_of_another_user_keeps_others_out_as_well(tmp_path, monkeypatch):
    place, opened = tmp_path / ".lock", Path.open

    def not_ours(path, mode="r", **more):
        if path == place and mode != "rb":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, mode, **more)

    place.touch()
    monkeypatch.setattr(Path, "open", not_ours)  # root may write whatever the mode of a file
    with closing(locked(place)), pytest.raises(BlockingIOError):
        locked(place)
    place.unlink()
    assert locked(place) is None  # nor may it be created


@pytest.mark.parametrize("lower", [-1.0, 0.001, 0.2])
def test_results_get_the_labels_of_another_threshold_without_being_scored_again(
    lower, parts, tmp_path
):
    scored(parts, tmp_path / "out")
    fitted = fitted_detector()
    fitted.threshold_ = lower
    done = scored(parts, tmp_path / "out", fitted)
    assert (done.tally.kept, done.tally.scored, fitted.embedder.seen) == (6, 0, [])
    afresh = scored(parts, tmp_path / "afresh", fitted)
    assert lines_of(tmp_path / "out") == lines_of(tmp_path / "afresh") == afresh.tally.records
    table = (tmp_path / "out/scores.csv").read_bytes()
    assert table == (tmp_path / "afresh/scores.csv").read_bytes()
    scored(parts, tmp_path / "out")
    assert lines_of(tmp_path / "out") == scored(parts, tmp_path / "third").tally.records


@pytest.mark.slow
def test_names_of_defects_stay_when_another_threshold_moves_the_regions(tmp_path):
    def leathers(seeds, defect):
        return [make_sample("leather", seed=n, size=(120, 160), defect=defect).image for n in seeds]

    folder, boxes = tmp_path / "parts", set()
    folder.mkdir()
    save_all(leathers([1], "discoloration"), folder)
    detector = on_bundled("promptscore", defects=["hole", "scratch", "discoloration"])
    detector.fit(leathers(range(10, 22), "scratch"))  # whose maps have peaks as high as new ones
    for share in (0.5, 0.3, 0.05, 0.5):
        detector.contamination = share
        (kept,) = scored(folder, tmp_path / "out", detector).tally.records
        assert [kept] == scored(folder, tmp_path / f"afresh-{share}", detector).tally.records
        boxes.add(tuple(kept["regions"][0]["box"]))
        assert kept["regions"][0]["defect"] == "discoloration"
    assert len(boxes) == 3


def test_only_overlays_whose_contour_moves_are_drawn_again(parts, tmp_path):
    out, fitted = tmp_path / "out", fitted_detector()
    fitted.threshold_ = 0.1  # above all patches of normal images, below what is hot of the other
    scored(parts, out, fitted)
    drawn = {path: path.stat().st_mtime_ns for path in out.glob("overlays/**/*.jpg")}
    fitted.threshold_ *= 1.01
    scored(parts, out, fitted)
    assert drawn == {path: path.stat().st_mtime_ns for path in out.glob("overlays/**/*.jpg")}
    fitted.threshold_ = 2.0
    scored(parts, out, fitted, overlays="none")
    assert not list(out.glob("overlays/**/*.jpg"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_run_goes_on_and_scores_nothing_twice(tmp_path):
    images, saved = leather(tmp_path / "images", 120), tmp_path / "saved.safetensors"
    few = [str(path) for path in sorted(images.iterdir())[:4]]
    assert main(["fit", "--normal", *few, "--out", str(saved), "--model", "bundled"]) == 0
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "pyimgano_openclip", "score", str(images), "--detector", str(saved),
        "--out", str(out), "--threshold", "2", "--batch-size", "1", "--json",
    ]  # fmt: skip
    run = {"cwd": TESTS, "env": clean_environment(), "stdin": subprocess.DEVNULL, "text": True}
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


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[1, 2]\n",
        b"null\n",
        b'{"image": "part-1.png"}\n',
        b'{"image": 3, "file": []}\n',
        b'{"image": "part-1.png", "file": ["a", 1, 2], "score": "high"}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_a_damaged_line_is_told_with_its_file_its_number_and_a_remedy(line, parts, tmp_path):
    scored(parts, tmp_path / "out")
    journal = tmp_path / "out/scores.jsonl"
    first, *others = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([first, line, *others]))
    with pytest.raises(ValueError, match=r"scores\.jsonl, line 2 is damaged .*--overwrite"):
        scored(parts, tmp_path / "out")
    journal.write_bytes(b"".join([first, *others]))  # the remedy
    assert scored(parts, tmp_path / "out").tally.kept == 6


@pytest.mark.parametrize("damage", [b"", b"no array", b"\x93NUMPY\x01\x00"])
def test_damaged_patch_scores_are_told_with_their_file(damage, parts, tmp_path):
    scored(parts, tmp_path / "out")
    (tmp_path / "out/patches/part-1.png.npy").write_bytes(damage)
    (tmp_path / "out/pictures.json").unlink()
    with pytest.raises(ValueError, match=r"part-1\.png\.npy is damaged .*--overwrite"):
        scored(parts, tmp_path / "out")


@pytest.mark.parametrize("found", [{"identity": [], "canvas": None}, {"identity": {}, "canvas": 3}])
def test_a_damaged_record_of_the_run_is_told_with_its_file(found, parts, tmp_path):
    scored(parts, tmp_path / "out")
    (tmp_path / "out/run.json").write_text(json.dumps(found))
    with pytest.raises(ValueError, match=r"run\.json is damaged; remove it"):
        scored(parts, tmp_path / "out")
