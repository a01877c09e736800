"""The command `add`: what was flagged wrongly is learnt."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, load_detector
from pyimgano_openclip.cli import add, main, threshold

from helpers.embedders import red_image, with_green
from helpers.processes import clean_environment
from helpers.runs import leather


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "few.safetensors"
    normal = str(leather(tmp_path / "normal", 6))
    assert main(["fit", "--normal", normal, "--out", str(path), "--model", "bundled"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.filterwarnings("default::pyimgano_openclip.bank.copies.CopiesWarning")
def test_images_are_added_once_and_what_changed_is_said(saved, tmp_path, capsys):
    more = leather(tmp_path / "more", 9)  # six of them are those of the fit
    command = ["add", str(more), "--detector", str(saved)]
    capsys.readouterr()
    assert main([*command, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["added"]) == (9, 3)
    assert (facts["before"]["images"], facts["after"]["images"]) == (6, 9)
    content = saved.read_bytes()
    loaded = load_detector(saved)
    assert loaded.threshold_ == facts["after"]["threshold"] != facts["before"]["threshold"]
    assert len(loaded.decision_scores_) == 9
    assert main(command) == 0
    assert capsys.readouterr().out.startswith("no image added, 9 known already\n")
    assert saved.read_bytes() == content


@pytest.mark.slow
def test_copies_are_counted_apart(saved, tmp_path, capsys):
    more = leather(tmp_path / "more", 8)
    for known in range(5):
        (more / f"00{known}.png").unlink()
    shutil.copy(more / "006.png", more / "again.png")
    before = shutil.copy(saved, tmp_path / "before.safetensors")
    capsys.readouterr()
    assert main(["add", str(more), "--detector", str(saved), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [facts[name] for name in ("images", "added", "copies", "known")] == [4, 2, 1, 1]
    assert (facts["before"]["images"], facts["after"]["images"]) == (6, 8)
    assert main(["add", str(more), "--detector", str(before)]) == 0
    assert capsys.readouterr().out.startswith("2 images added, 1 a copy, 1 known already\n")


@pytest.mark.slow
@pytest.mark.parametrize("thinned", [False, True])
def test_what_the_threshold_promises_and_which_images_stand_out_is_told(thinned, tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 10), str(tmp_path / "few.safetensors")
    thin = ["--set", f"max_patches={100 if thinned else 100_000}"]
    fit = ["fit", "--normal", str(normal), "--out", saved, "--model", "bundled"]
    assert main([*fit, *thin]) == 0
    more = leather(tmp_path / "more", 12)
    (more / "010.png").unlink()
    Image.fromarray(with_green(red_image(48, 64, seed=90), 10, 20)).save(more / "011.png")
    capsys.readouterr()
    known = shutil.copy(saved, f"{tmp_path}/known.safetensors")
    assert main(["add", str(more), "--detector", saved, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    promised = load_detector(saved).promise()
    assert facts["false_alarms"]["bound"] == promised.bound
    bad = str(more / "011.png")
    assert [*facts["above_before"]] == [bad]
    if thinned:
        assert facts["suspects"] is None
    else:
        (found,) = facts["suspects"]
        assert found["image"] == bad
        assert found["training_score"] == load_detector(saved).decision_scores_[-1]
        assert found["score"] != found["training_score"]  # which is on the threshold's scale
    assert main(["add", str(more), "--detector", saved, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["added"], again["suspects"]) == (0, facts["suspects"])
    assert main(["add", str(more), "--detector", known]) == 0
    printed = capsys.readouterr().out
    assert f"\n{promised}\n" in printed
    (line,) = [line for line in printed.splitlines() if "is it normal?" in line]
    assert line.startswith(bad)


@pytest.mark.slow
def test_an_added_image_that_was_unlike_all_as_a_whole_is_named(saved, tmp_path, capsys):
    more = leather(tmp_path / "more", 7)
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(more / "006.png")
    capsys.readouterr()
    assert main(["add", str(more), "--detector", str(saved)]) == 0
    expected = f"\n{more / '006.png'} was unlike the training images: noise; is it normal?\n"
    assert expected in capsys.readouterr().out


@pytest.mark.slow
def test_added_images_are_judged_by_what_was_learnt_before_any_of_them(
    saved, tmp_path, capsys, monkeypatch
):
    more = leather(tmp_path / "more", 8)
    for number in range(10, 14):  # alike, so that none of them stands out among the others
        spotted = with_green(red_image(48, 64, seed=number), 10, 20)
        Image.fromarray(spotted).save(more / f"0{number}.png")
    before, known = load_detector(saved), shutil.copy(saved, tmp_path / "known.safetensors")
    new = [more / f"0{number:02}.png" for number in (6, 7, *range(10, 14))]
    flagged = {
        str(path): score
        for path, score in zip(new, before.decision_function(new), strict=True)
        if score > before.threshold_
    }
    assert {str(path) for path in new[2:]} <= flagged.keys()
    monkeypatch.setattr(add, "PART", 2)
    capsys.readouterr()
    assert main(["add", str(more), "--detector", str(saved), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["above_before"] == pytest.approx(flagged, abs=1e-4)
    assert main(["add", str(more), "--detector", str(known)]) == 0
    printed = capsys.readouterr().out
    for path in new[2:]:
        assert f"\n{path} was " in printed


@pytest.mark.slow
def test_a_chosen_threshold_stays_and_it_is_said(saved, tmp_path, capsys):
    assert main(["threshold", str(saved), "0.15"]) == 0
    capsys.readouterr()
    more = leather(tmp_path / "more", 9)
    (last,) = more.glob("008.png")
    for images in (more, last):
        assert main(["add", str(images), "--detector", str(saved)]) == 0
        detector = load_detector(saved)
        assert detector.threshold_ == 0.15
        computed = f"by the training images it would be {detector.computed_threshold():.4g}\n"
        assert f"threshold: 0.15, as chosen; {computed}" in capsys.readouterr().out
    assert main(["threshold", str(saved), "--contamination", "0.1"]) == 0
    assert load_detector(saved).threshold_ == detector.computed_threshold()


@pytest.mark.slow
def test_false_alarms_of_a_report_are_added_and_a_failure_leaves_the_file(saved, tmp_path, capsys):
    more = leather(tmp_path / "more", 9)
    images = [
        {"image": "006.png", "score": 0.5, "truth": "normal"},
        {"image": "007.png", "score": 0.5, "truth": "anomalous"},
        {"image": "008.png", "score": 0.1, "truth": "normal"},
        {"image": "000.png", "score": 0.5, "truth": None},
    ]
    exported = {
        "format": "pyimgano-openclip report", "detector": None, "folder": str(more),
        "threshold": 0.3, "images": images,
    }  # fmt: skip
    file = tmp_path / "marks.json"
    file.write_text(json.dumps(exported))
    command = ["add", "--detector", str(saved), "--from-report", str(file)]
    capsys.readouterr()
    before = saved.read_bytes()
    (more / "006.png").rename(more / "gone.png")
    assert main(command) == 1
    assert f"006.png: marked in {file}, but not there" in capsys.readouterr().err
    assert saved.read_bytes() == before
    (more / "gone.png").rename(more / "006.png")
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["added"] == 1
    assert main([*command, str(more)]) == 2


@pytest.mark.slow
def test_a_folder_that_takes_no_file_is_told_before_anything_is_learnt(
    saved, tmp_path, capsys, monkeypatch
):
    def refuse(**_):
        raise PermissionError(13, "Permission denied", str(tmp_path))

    more = leather(tmp_path / "more", 9)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr(add, "_learn", lambda *_: pytest.fail("it learns"))
    assert main(["add", str(more), "--detector", str(saved)]) == 1
    assert f"{saved}: Permission denied" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interruption_leaves_the_file_as_it_was_and_the_same_command_does_it_all(
    saved, tmp_path, monkeypatch, capsys
):
    """Whether while images are encoded, or with the new file complete but not yet in place."""
    command = ["add", str(leather(tmp_path / "more", 9)), "--detector", str(saved)]
    before = saved.read_bytes()

    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    for what in (
        "pyimgano_openclip.patchknn.VisionOpenCLIPPatchKNN._learn_more",
        "pathlib.Path.replace",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(what, interrupted)
            assert main(command) == 130
        assert saved.read_bytes() == before
    assert "Run the same command again" in capsys.readouterr().err
    assert main(command) == 0
    assert "3 images added, 6 known already" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="kills by signal")
def test_a_killed_command_goes_on_where_it_was_and_ends_with_the_same_detector(
    saved, tmp_path, monkeypatch
):
    more = leather(tmp_path / "more", 14)
    at_once = tmp_path / "at-once.safetensors"
    at_once.write_bytes(saved.read_bytes())
    code = """
import sys, time
from pyimgano_openclip.cli import add, main

def digest_of_file(path, count=[0], digest=add.digest_of_file):
    count[0] += 1
    if count[0] == 5:  # it is asked at first, and before and after each part is saved
        print("two parts are saved", flush=True)
        time.sleep(600)
    return digest(path)

add.PART, add.digest_of_file = 2, digest_of_file
main(sys.argv[1:])"""
    command = [sys.executable, "-c", code, "add", more, "--detector", saved]
    with subprocess.Popen(
        command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as killed:
        assert killed.stdout.readline() == b"two parts are saved\n"
        killed.kill()
    assert len(load_detector(saved).memory_bank_.images) == 6 + 4
    monkeypatch.setattr(add, "PART", 2)
    for file in (saved, at_once):
        assert main(["add", str(more), "--detector", str(file)]) == 0
    ends = [load_detector(file) for file in (saved, at_once)]
    assert [len(end.memory_bank_.images) for end in ends] == [14, 14]
    assert ends[0].threshold_ == ends[1].threshold_
    np.testing.assert_array_equal(ends[0].decision_scores_, ends[1].decision_scores_)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::pyimgano_openclip.bank.copies.CopiesWarning")
def test_images_that_are_known_tell_what_names_and_groups_mean(tmp_path, monkeypatch, capsys):
    """Their names are names in the table, and what they share with others is one part."""
    day1, day2 = leather(tmp_path / "day1", 8), leather(tmp_path / "day2", 3, first=20)
    path, table = tmp_path / "few.safetensors", tmp_path / "parts.csv"
    table.write_text("".join(f"{number:03}.png,{number // 2}\n" for number in range(8)))
    command = ["fit", "--normal", str(day1), "--out", str(path), "--model", "bundled"]
    assert main([*command, "--group-by", str(table)]) == 0
    for number in (1, 2):
        (day2 / f"00{number}.png").rename(day2 / f"02{number}.png")
    before = path.read_bytes()
    command = ["add", str(day1), str(day2), "--detector", str(path), "--group-by", str(table)]
    names = "021.png,new\n022.png,new\n"
    table.write_text(f"000.png,other\n{names}")
    assert main(command) == 1
    assert f"000.png fits {day2 / '000.png'} and {day1 / '000.png'};" in capsys.readouterr().err
    assert path.read_bytes() == before
    (day2 / "copy.png").write_bytes((day2 / "021.png").read_bytes())
    table.write_text(f"{day2}/000.png,other\n{day2}/copy.png,other\n{day1}/007.png,new\n{names}")
    monkeypatch.setattr(add, "PART", 1)
    assert main(command) == 0
    printed = capsys.readouterr()
    assert "Groups share an image that was given with both" in printed.err
    assert "learnt once" not in printed.err
    assert "3 images added, 1 a copy, 8 known already" in printed.out
    groups = load_detector(path).groups_
    assert groups[:6] == tuple("001122")
    assert len(set(groups[6:])) == 1
    before = path.read_bytes()
    assert main(command) == 0
    assert path.read_bytes() == before


@pytest.mark.slow
def test_parts_are_told_when_they_were_told_to_fit(tmp_path, monkeypatch, capsys):
    for name, count in (("normal", 6), ("more", 9)):
        folder = leather(tmp_path / name, count)
        for number, image in enumerate(sorted(folder.iterdir())):
            image.rename(folder / f"part{number // 3}_{number % 3}.png")
    path = tmp_path / "few.safetensors"
    command = ["fit", "--normal", tmp_path / "normal", "--out", path, "--model", "bundled"]
    assert main([*map(str, command), "--group-by", "prefix"]) == 0
    before = path.read_bytes()
    command = ["add", str(tmp_path / "more"), "--detector", str(path)]
    assert main(command) == 1
    assert "--group-by" in capsys.readouterr().err
    assert path.read_bytes() == before
    table = tmp_path / "parts.csv"  # of all but the last image, which comes in a part of its own
    table.write_text("part2_0.png,c\npart2_1.png,c\n")
    monkeypatch.setattr(add, "PART", 1)
    assert main([*command, "--group-by", str(table)]) == 1
    assert "does not tell the group of part2_2.png" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert main([*command, "--group-by", "prefix"]) == 0
    printed = capsys.readouterr().out
    assert "3 images added, 6 known already" in printed
    assert "parts:     2 -> 3" in printed
    detector = load_detector(path)
    assert detector.promise().count == 3
    assert set(detector.groups_) == {"part0", "part1", "part2"}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked there")
def test_while_a_detector_is_saved_no_other_command_saves_it(saved, tmp_path, monkeypatch):
    """Each checks first that the file is the one that it has read."""
    import fcntl

    waiting = []

    def kept_out(save):
        def saves(*arguments):
            folder = os.open(tmp_path, os.O_RDONLY)
            with pytest.raises(BlockingIOError):
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.close(folder)
            waiting.append(save)
            return save(*arguments)

        return saves

    for owner, name in (
        (VisionOpenCLIPPatchKNN, "save_checkpoint"),
        (threshold, "write_checkpoint"),
    ):
        monkeypatch.setattr(owner, name, kept_out(getattr(owner, name)))
    more = leather(tmp_path / "more", 2, first=20)
    assert main(["add", str(more), "--detector", str(saved)]) == 0
    assert main(["threshold", str(saved), "0.3"]) == 0
    assert len(waiting) == 2
    assert load_detector(saved).threshold_ == 0.3
