"""The example that watches a folder."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, load_detector
from pyimgano_openclip.samples import make_sample

from helpers.examples import EXAMPLES, load

pytestmark = pytest.mark.slow

SETTLE, PATIENCE = 1.0, 10.0  # seconds of a clock that the tests set
HURRY = ("--poll", "0.01", "--settle", "0.05", "--patience", "0.3")


def tile(seed, defect=None):
    """A generated tile as the content of a PNG file."""
    file = io.BytesIO()
    pixels = make_sample("tile", seed=seed, size=(72, 96), defect=defect).image
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A fitted detector in a file."""
    normal = [make_sample("tile", seed=seed, size=(72, 96)).image for seed in range(20, 32)]
    detector = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", contamination=0.05)
    return detector.fit(normal).save_checkpoint(
        tmp_path_factory.mktemp("line") / "tile.safetensors"
    )


@pytest.fixture
def incoming(tmp_path):
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


def lines_of(out):
    return [json.loads(line) for line in out.read_text().splitlines()]


def before_scoring(monkeypatch, act):
    """Do something with the path of each image before it is scored."""
    score_iter = VisionOpenCLIPPatchKNN.score_iter

    def score(detector, images, **how):
        for path in images:
            act(path)
        return score_iter(detector, images, **how)

    monkeypatch.setattr(VisionOpenCLIPPatchKNN, "score_iter", score)


class Watched:
    """A line whose clock stands still until it is told to go on."""

    def __init__(self, example, folder, saved, out, monkeypatch):
        self.now, self.read = 0.0, []
        monkeypatch.setattr(example.time, "monotonic", lambda: self.now)
        before_scoring(monkeypatch, lambda path: self.read.append(path.name))
        self.journal = example.Journal(out)
        self.line = example.Line(folder, load_detector(saved), self.journal, SETTLE, PATIENCE)

    def look(self, seconds):
        """Let time go by, look once, and return how many files are waited for."""
        self.now += seconds
        return self.line.look(threading.Event())


@pytest.fixture
def watched(incoming, saved, tmp_path, monkeypatch):
    line = Watched(load("production_line"), incoming, saved, tmp_path / "line.jsonl", monkeypatch)
    yield line
    line.journal.close()


def test_every_image_becomes_one_line(incoming, saved, tmp_path, capsys):
    out = tmp_path / "line.jsonl"
    for seed in range(3):
        (incoming / f"intact-{seed}.png").write_bytes(tile(seed))
    (incoming / "torn.png").write_bytes(tile(5, "hole"))
    (incoming / "broken.png").write_bytes(tile(6)[:300])
    (incoming / "notes.txt").write_text("no image")
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
    load("production_line").main(arguments)

    lines = {line["file"]: line for line in lines_of(out)}
    assert len(lines) == len(lines_of(out))
    names = ["intact-0.png", "intact-1.png", "intact-2.png", "torn.png"]
    assert sorted(lines) == ["broken.png", *names]
    detector = load_detector(saved)
    expected = detector.decision_function([incoming / name for name in names])
    assert np.allclose([lines[name]["score"] for name in names], expected, atol=1e-6)
    assert [lines[name]["label"] for name in names] == (expected > detector.threshold_).tolist()
    shares = detector.score_percentile(expected).tolist()
    assert [lines[name]["percentile"] for name in names] == shares

    assert lines["torn.png"]["label"] == 1
    mask = make_sample("tile", seed=5, size=(72, 96), defect="hole").mask
    left, top, right, bottom = lines["torn.png"]["regions"][0]["box"]
    assert mask[top:bottom, left:right].any()
    assert "broken.png cannot be decoded" in lines["broken.png"]["error"]
    assert "score" not in lines["broken.png"]
    assert lines["broken.png"]["label"] == 1
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines_of(out)


def test_files_have_their_own_colours_and_masks_by_name(incoming, tmp_path):
    normal = [make_sample("tile", seed=seed, size=(72, 96)).image for seed in range(20, 26)]
    masks = tmp_path / "masks"
    masks.mkdir()
    left = np.arange(96)[None] < np.full((72, 1), 48)
    for number, pixels in enumerate(normal):
        Image.fromarray(pixels).save(incoming / f"{number}.png")
        Image.fromarray(left).save(masks / f"{number}.png")
    seen = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", channel_order="bgr", jitter=0)
    looked = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", roi=masks, jitter=0)
    seen.fit([pixels[..., ::-1] for pixels in normal])
    looked.fit(sorted(incoming.iterdir()))
    for name, detector in {"seen": seen, "looked": looked}.items():
        saved, out = tmp_path / f"{name}.safetensors", tmp_path / f"{name}.jsonl"
        detector.save_checkpoint(saved)
        arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
        load("production_line").main(arguments)
        assert [line["score"] for line in lines_of(out)] == detector.decision_scores_.tolist()
    (incoming / "unknown.png").write_bytes(tile(3))
    load("production_line").main(arguments)
    unknown = lines_of(out)[-1]
    assert unknown["label"] == 1
    assert unknown["error"].startswith(f"{incoming / 'unknown.png'}: there is no mask of it in")


def test_a_file_that_grows_is_not_read(watched, incoming, tmp_path):
    content, path = tile(0), incoming / "part.png"
    for share in (0.2, 0.5, 0.8):
        path.write_bytes(content[: int(share * len(content))])
        assert watched.look(0.9) == 1
    assert watched.read == []
    path.write_bytes(content)
    watched.look(0.9)
    assert watched.read == []
    assert watched.look(1.1) == 0
    assert watched.read == ["part.png"]
    (line,) = lines_of(tmp_path / "line.jsonl")
    assert line["score"] > 0


def test_a_writer_that_pauses_makes_no_error(watched, incoming, tmp_path):
    content, path = tile(0), incoming / "part.png"
    path.write_bytes(content[: len(content) // 2])
    watched.look(0)
    assert watched.look(2) == watched.look(2) == 1
    path.write_bytes(content)
    watched.look(1)
    assert watched.look(1) == 0
    (line,) = lines_of(tmp_path / "line.jsonl")
    assert "score" in line
    assert "error" not in line


def test_a_file_written_to_while_it_is_read_waits(watched, incoming, monkeypatch, tmp_path):
    path = incoming / "part.png"
    path.write_bytes(tile(0))
    changed = tile(1) + b"more"
    with monkeypatch.context() as meanwhile:
        before_scoring(meanwhile, lambda path: path.write_bytes(changed))
        watched.look(0)
        assert watched.look(2) == 1
    watched.look(0)
    assert watched.look(2) == 0
    (line,) = lines_of(tmp_path / "line.jsonl")
    assert line["size"] == len(changed)


def test_what_is_never_finished_is_reported_once_and_scored_when_it_is(watched, incoming, tmp_path):
    growing, renamed = incoming / "growing.png", incoming / "late.png.part"
    renamed.write_bytes(tile(1))
    for size in range(100, 125):
        growing.write_bytes(bytes(size))
        watched.look(0.9)
    assert watched.read == []
    lines = lines_of(tmp_path / "line.jsonl")
    assert sorted(line["file"] for line in lines) == ["growing.png", "late.png.part"]
    assert all("still being written" in line["unfinished"] for line in lines)

    growing.write_bytes(tile(0))
    renamed.rename(incoming / "late.png")
    watched.look(1)
    assert watched.look(2) == 0
    lines = lines_of(tmp_path / "line.jsonl")[2:]
    assert sorted(line["file"] for line in lines) == ["growing.png", "late.png"]
    assert all("score" in line for line in lines)


def test_a_file_finished_at_the_very_moment_of_its_report_is_scored(watched, incoming, tmp_path):
    path, content = incoming / "slow.png", tile(0)
    for cut in range(12, -1, -1):  # the last is written when the patience ends
        path.write_bytes(content[: len(content) - cut])
        watched.look(0.9)
    assert watched.look(0.9) == 0
    assert ["unfinished" in line for line in lines_of(tmp_path / "line.jsonl")] == [True]
    watched.look(0.9)
    reported, scored = lines_of(tmp_path / "line.jsonl")
    assert reported["file"] == scored["file"] == "slow.png"
    assert "score" in scored


def test_a_broken_file_is_given_up_late_and_holds_nothing_up(watched, incoming, tmp_path):
    out = tmp_path / "line.jsonl"
    (incoming / "broken.png").write_bytes(tile(0)[:200])
    watched.look(0)
    watched.look(2)
    (incoming / "good.png").write_bytes(tile(1))
    watched.look(1)
    watched.look(2)
    assert [line["file"] for line in lines_of(out)] == ["good.png"]
    watched.look(6)
    assert [line["file"] for line in lines_of(out)] == ["good.png", "broken.png"]
    assert "broken.png" in lines_of(out)[1]["error"]
    assert watched.look(60) == 0
    assert len(lines_of(out)) == 2


def test_a_file_written_anew_is_another_image(watched, incoming, tmp_path):
    for seed in (0, 7):
        (incoming / "latest.png").write_bytes(tile(seed))
        watched.look(0)
        watched.look(2)
    first, second = lines_of(tmp_path / "line.jsonl")
    assert first["file"] == second["file"]
    assert first["score"] != second["score"]


def copied(content, path, like):
    """Write a file anew with the size and date of another time."""
    path.write_bytes(content)
    os.utime(path, ns=(like.st_atime_ns, like.st_mtime_ns))
    assert path.stat().st_size == like.st_size


def test_a_file_of_the_same_size_and_date_is_another_image(watched, incoming, tmp_path):
    path, contents = incoming / "latest.png", [tile(0), tile(7)]
    longest = max(map(len, contents))
    contents = [content.ljust(longest, b"\0") for content in contents]
    path.write_bytes(contents[0])
    like = path.stat()
    for content in (*contents, contents[0], contents[0]):  # the last is the same image still
        copied(content, path, like)
        watched.look(0)
        watched.look(2)
    scores = [line["score"] for line in lines_of(tmp_path / "line.jsonl")]
    assert len(scores) == 3
    assert scores[0] == scores[2] != scores[1]


def test_what_a_coarse_clock_does_not_tell_is_noticed(watched, incoming, monkeypatch, tmp_path):
    path, example = incoming / "latest.png", sys.modules["production_line"]
    path.write_bytes(tile(0))
    version = example._version(path)
    monkeypatch.setattr(example, "_version", lambda _: version)
    watched.look(0)
    watched.look(1.5)
    path.write_bytes(tile(7))
    for _ in range(4):
        watched.look(2)
    first, second = lines_of(tmp_path / "line.jsonl")
    assert first["digest"] != second["digest"]
    assert first["score"] != second["score"]


def test_lines_of_version_0_1_0_do_not_tell_the_content(incoming, saved, tmp_path):
    out, example = tmp_path / "line.jsonl", load("production_line")
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
    (incoming / "0.png").write_bytes(tile(0))
    status = (incoming / "0.png").stat()
    line = {"file": "0.png", "size": status.st_size, "modified": status.st_mtime_ns, "score": 1}
    out.write_text(json.dumps(line) + "\n")
    for _ in range(2):
        example.main(arguments)
    assert ["digest" in line for line in lines_of(out)] == [False, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_line_in_progress(number, incoming, saved, tmp_path, monkeypatch):
    for seed in range(5):
        (incoming / f"{seed}.png").write_bytes(tile(seed))
    out, example = tmp_path / "line.jsonl", load("production_line")
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), *HURRY]
    before, judge = signal.getsignal(number), example.Line._judge
    scored = []

    def judge_and_signal(line, found, start):
        scored.append(found.size)
        if len(scored) == 3:
            signal.raise_signal(number)
        return judge(line, found, start)

    monkeypatch.setattr(example.Line, "_judge", judge_and_signal)
    example.main(arguments)
    assert [line["file"] for line in lines_of(out)] == ["0.png", "1.png", "2.png"]
    assert signal.getsignal(number) is before

    example.main([*arguments, "--once"])
    assert [line["file"] for line in lines_of(out)] == [f"{n}.png" for n in range(5)]
    assert len(scored) == 5


def test_a_line_cut_off_by_a_crash_is_written_again(incoming, saved, tmp_path):
    for seed in range(3):
        (incoming / f"{seed}.png").write_bytes(tile(seed))
    out, example = tmp_path / "line.jsonl", load("production_line")
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
    example.main(arguments)
    whole = out.read_bytes()
    out.write_bytes(whole[:-40])
    (incoming / "3.png").write_bytes(tile(3))
    example.main(arguments)
    assert out.read_bytes().startswith(whole[: whole[:-1].rfind(b"\n") + 1])
    assert [line["file"] for line in lines_of(out)] == [f"{n}.png" for n in range(4)]


def test_a_restart_tries_unfinished_files_again_and_broken_ones_not(incoming, saved, tmp_path):
    out, example = tmp_path / "line.jsonl", load("production_line")
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
    (incoming / "0.png").write_bytes(tile(0)[:300])
    (incoming / "1.png").write_bytes(tile(1))
    journal, version = example.Journal(out), example._version(incoming / "1.png")
    arrival = example.Arrival(version, first_seen=0, unchanged_since=0)
    journal.add(arrival, {"unfinished": "still being written after 60 s"})
    journal.close()
    for _ in range(2):
        example.main(arguments)
    found = [(line["file"], sorted(line.keys() & {"error", "score"})) for line in lines_of(out)[1:]]
    assert sorted(found) == [("0.png", ["error"]), ("1.png", ["score"])]


def test_once_does_not_wait_for_files_that_nobody_finishes(incoming, saved, tmp_path):
    (incoming / "0.png").write_bytes(tile(0)[:300])
    (incoming / "1.png.part").write_bytes(tile(1))
    out = tmp_path / "line.jsonl"
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--settle", "0.05"]
    start = time.monotonic()
    load("production_line").main([*arguments, "--poll", "0.01", "--once"])
    assert time.monotonic() - start < 30  # its patience with a folder that is watched is 60
    found = {line["file"]: line for line in lines_of(out)}
    assert found["0.png"]["label"] == 1
    assert "unfinished" in found["1.png.part"]


def test_a_process_stops_cleanly_and_nothing_is_scored_twice(incoming, saved, tmp_path):
    out = tmp_path / "line.jsonl"
    command = [sys.executable, EXAMPLES / "production_line.py", incoming, "--detector", saved]
    command = [*map(str, command), "--out", str(out), *HURRY]
    names = [f"{seed:02}.png" for seed in range(60)]
    for seed, name in enumerate(names):
        (incoming / name).write_bytes(tile(seed % 6))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(3):
            process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 0
    stopped = lines_of(out)
    assert [line["file"] for line in stopped] == names[: len(stopped)]
    assert 3 <= len(stopped) < len(names)

    (incoming / "99.png").write_bytes(tile(1))
    load("production_line").main([*command[2:], "--once"])
    assert [line["file"] for line in lines_of(out)] == [*names, "99.png"]
    assert lines_of(out)[: len(stopped)] == stopped


def test_a_folder_that_is_gone_for_a_moment_is_waited_for(watched, incoming, tmp_path, capsys):
    (incoming / "0.png").write_bytes(tile(0))
    watched.look(0)
    watched.look(2)
    elsewhere = incoming.rename(tmp_path / "elsewhere")
    assert watched.look(1) == watched.look(1) == 1  # so that --once does not end
    told = capsys.readouterr().err
    assert told.count("waiting for") == 1
    assert str(incoming) in told
    elsewhere.rename(incoming)
    (incoming / "1.png").write_bytes(tile(1))
    watched.look(0)
    assert watched.look(2) == 0
    assert [line["file"] for line in lines_of(tmp_path / "line.jsonl")] == ["0.png", "1.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
def test_what_is_no_file_is_passed_over(watched, incoming, tmp_path):
    (incoming / "dir.png").mkdir()
    (incoming / "dir.part").mkdir()
    (incoming / "loop.png").symlink_to("loop.png")
    (incoming / "lost.png").symlink_to("nowhere.png")
    os.mkfifo(incoming / "pipe.png")
    (tmp_path / "elsewhere.png").write_bytes(tile(0))
    (incoming / "linked.png").symlink_to(tmp_path / "elsewhere.png")
    watched.look(0)
    for _ in range(3):
        assert watched.look(PATIENCE) == 0
    assert [line["file"] for line in lines_of(tmp_path / "line.jsonl")] == ["linked.png"]
    (incoming / "nowhere.png").write_bytes(tile(1))
    watched.look(0)
    watched.look(2)
    names = [line["file"] for line in lines_of(tmp_path / "line.jsonl")]
    assert names == ["linked.png", "lost.png", "nowhere.png"]


def test_a_file_that_may_not_be_read_has_one_error_until_it_may(
    incoming, saved, tmp_path, monkeypatch
):
    out, example = tmp_path / "line.jsonl", load("production_line")
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
    (incoming / "0.png").write_bytes(tile(0))
    with monkeypatch.context() as meanwhile:

        def refuse(path):
            raise ValueError(f"{path} may not be opened")

        before_scoring(meanwhile, refuse)
        meanwhile.setattr(example, "_digest", lambda _: None)
        for _ in range(2):
            example.main(arguments)
    assert ["error" in line for line in lines_of(out)] == [True]
    for _ in range(2):
        example.main(arguments)
    assert ["error" in line for line in lines_of(out)] == [True, False]


@pytest.mark.parametrize("wrong", ["", "[1]", "{}", '{"file": ', "1"])
def test_a_line_that_is_none_of_its_own_is_named(wrong, incoming, saved, tmp_path):
    out, example = tmp_path / "line.jsonl", load("production_line")
    out.write_text(f'{{"file": "0.png", "digest": null}}\n{wrong}\n')
    before, handler = out.read_bytes(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match=r"line\.jsonl:2: "):
        example.main([str(incoming), "--detector", str(saved), "--out", str(out), "--once"])
    assert out.read_bytes() == before
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_detector_without_a_threshold_is_refused(incoming, saved, tmp_path):
    path = tmp_path / "zero-shot.safetensors"
    VisionOpenCLIPPromptScore(class_name="tile", openclip_model_name="bundled").save_checkpoint(
        path
    )
    with pytest.raises(SystemExit, match="has no threshold that images have told"):
        load("production_line").main(
            [str(incoming), "--detector", str(path), "--out", str(tmp_path / "line.jsonl")]
        )


def test_references_that_have_told_the_threshold_do(incoming, tmp_path):
    references = [make_sample("tile", seed=seed, size=(72, 96)).image for seed in range(3)]
    detector = VisionOpenCLIPPromptScore(
        class_name="tile", openclip_model_name="bundled", references=references
    )
    path = detector.save_checkpoint(tmp_path / "references.safetensors")
    (incoming / "a.png").write_bytes(tile(9))
    out = tmp_path / "line.jsonl"
    arguments = [str(incoming), "--detector", str(path), "--out", str(out), "--once", *HURRY]
    load("production_line").main(arguments)
    (line,) = lines_of(out)
    above = line["score"] > load_detector(path).read_references().label_threshold()
    assert (line["label"], line["percentile"]) == (int(above), None)


def test_all_formats_and_names_have_a_line_after_a_restart_too(incoming, saved, tmp_path):
    picture = Image.open(io.BytesIO(tile(1)))
    for name in ("a.gif", "b.ppm", "c.jp2"):
        picture.save(incoming / name)
    (incoming / "a.gif").rename(incoming / os.fsdecode(b"a\xff.gif"))
    out = tmp_path / "line.jsonl"
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
    for _ in range(2):
        load("production_line").main(arguments)
        assert [line["file"] for line in lines_of(out)] == ["a\udcff.gif", "b.ppm", "c.jp2"]


def test_light_that_leaves_few_to_pass_is_told(incoming, tmp_path):
    normal = [make_sample("tile", seed=seed, size=(72, 96)).image for seed in range(40)]
    detector = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", jitter=0).fit(normal)
    saved = detector.save_checkpoint(tmp_path / "tile.safetensors")
    for seed in range(24):
        pixels = make_sample("tile", seed=100 + seed, size=(72, 96)).image
        Image.fromarray((pixels * 0.6).astype(np.uint8)).save(incoming / f"{seed:02}.png")
    out = tmp_path / "line.jsonl"
    arguments = [str(incoming), "--detector", str(saved), "--out", str(out), "--once", *HURRY]
    load("production_line").main(arguments)
    lines = lines_of(out)
    assert sum(line["label"] for line in lines) > 4
    assert "darker than the training images" in lines[-1]["drift"]


def test_a_folder_that_is_missing_is_named(saved, tmp_path):
    with pytest.raises(SystemExit, match="incoming is no folder"):
        load("production_line").main(
            [str(tmp_path / "incoming"), "--detector", str(saved), "--out", str(tmp_path / "l")]
        )


def test_an_exported_detector_is_refused_in_a_sentence(tmp_path):
    arguments = [str(tmp_path), "--detector", "tile.onnx", "--out", str(tmp_path / "lines.jsonl")]
    with pytest.raises(SystemExit, match=r"tile\.onnx is an exported detector; pass the file that"):
        load("production_line").main(arguments)
