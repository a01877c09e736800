"""What commands write, replace and remove in the folder or file of ``--out``."""

import json
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.places import KINDS, Places
from pyimgano_openclip.cli.score import score_folder
from pyimgano_openclip.detector.base import OpenCLIPDetector

from helpers import runs
from helpers.embedders import red_image, with_green
from helpers.runs import find_images, fitted_detector, lines_of, lock, scored

SAVED = Path(__file__).parents[1] / "detector/version_0_1_0/patchknn.safetensors"
NAMES_OF_RESULTS = ("scores.csv", "scores.jsonl", "report.html", "run.json", "pictures.json")


def files_below(folder):
    """The content of every file, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_images_beside_the_current_folder_are_left_as_they_are(parts, tmp_path, monkeypatch):
    other = tmp_path / "line2/img"
    shutil.copytree(parts, other)
    (other / "part-0.png.jpg").write_bytes((parts / "part-0.png").read_bytes())
    (tmp_path / "p/line1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "p/line1")
    before = files_below(tmp_path)
    sources = find_images([Path("../../parts"), Path("../../line2/img")])
    for kept in (0, 13):
        with score_folder(fitted_detector(), sources, Path("../../results")) as done:
            assert (done.tally.kept, len(done.tally.records)) == (kept, 13)
        after = files_below(tmp_path)
        assert {name: after.pop(name) for name in before} == before
        assert all(name.startswith("results/") for name in after)
        assert sum(name.startswith("results/overlays/") for name in after) == 13
        assert sum(name.startswith("results/thumbnails/") for name in after) == 13


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "b/../../a.png", "a/./b.png", "a//b.png"])
def test_a_name_that_leads_elsewhere_is_no_place(name, tmp_path):
    with pytest.raises(ValueError, match="no name of an image"):
        Places(tmp_path).path("maps", name, "png")


@pytest.mark.parametrize("link", ["maps", "overlays/late", "patches", "thumbnails"])
def test_nothing_is_written_through_a_link_that_leads_out(link, parts, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    place = tmp_path / "out" / link
    place.parent.mkdir(parents=True)
    place.symlink_to(mine)
    with pytest.raises(ValueError, match=rf"{link}\S* leads out of the results folder, to .*mine"):
        scored(parts, tmp_path / "out", overwrite=True)
    assert list(mine.iterdir()) == []


def test_the_folder_itself_may_be_a_link(parts, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    scored(parts, tmp_path / "out")
    assert (tmp_path / "disk/scores.csv").is_file()
    assert len(find_images([tmp_path], leave_out=tmp_path / "out")) == 6


def test_names_that_some_file_system_takes_for_one_get_files_of_their_own(tmp_path):
    umlaut = "ä.png"
    names = [
        "A.png", "a.png", "a.PNG", "b.png", "Late/c.png", "late/C.png", "late/c.png", "x./d.png",
        "x/d.png", unicodedata.normalize("NFC", umlaut), unicodedata.normalize("NFD", umlaut),
        "e.png", "e.png.png", "e.png.png/inside.png", "straße.png", "STRASSE.png",
    ]  # fmt: skip
    places = Places(tmp_path, names)
    for kind, suffix in (("maps", "png"), ("patches", "npy"), ("overlays", "jpg")):
        found = [str(places.path(kind, name, suffix)) for name in names]
        assert len({unicodedata.normalize("NFC", path.casefold()) for path in found}) == len(names)
        folders = {str(parent) for path in found for parent in Path(path).parents}
        assert not folders.intersection(found)
    assert places.path("maps", "b.png", "png") == tmp_path / "maps/b.png.png"


def test_a_name_that_reads_like_a_shortened_one_is_another_image(tmp_path):
    long = "l" * 300 + ".png"
    short = Places(tmp_path).path("maps", long, "png").name.removesuffix(".png")
    forged = [long, short, "A.png", "a.png"]
    forged += [Places(tmp_path, forged).path("maps", "a.png", "png").name.removesuffix(".png")]
    places = Places(tmp_path, forged)
    assert len({places.path("maps", name, "png") for name in forged}) == len(forged)
    assert all(len(places.path("maps", name, "png").name) <= 255 for name in forged)


def test_nothing_stays_of_a_name_that_was_spelled_otherwise(parts, tmp_path):
    out = tmp_path / "out"
    if (parts / "PART-0.png").exists():
        pytest.skip("this file system takes both spellings for one file")
    scored(parts, out)
    before = {path.name for path in out.rglob("*part-0*")}
    (parts / "part-0.png").rename(parts / "PART-0.png")
    scored(parts, out)
    assert {path.name.replace("PART", "part") for path in out.rglob("*PART-0*")} == before
    assert not list(out.rglob("*part-0*"))


def test_results_stay_right_when_an_image_of_nearly_the_same_name_comes_and_goes(parts, tmp_path):
    out = tmp_path / "out"
    scored(parts, out)
    Image.fromarray(with_green(red_image(30, 45), 0, 0)).save(parts / "PART-0.png")
    assert scored(parts, out).tally.scored >= 1
    maps = sorted(path.name for path in (out / "maps").iterdir() if path.name[:4].lower() == "part")
    assert len(maps) == 6
    assert "part-0.png.png" not in maps
    labels = {line["image"]: line["label"] for line in lines_of(out)}
    assert (labels["PART-0.png"], labels["part-0.png"]) == (1, 0)
    (parts / "PART-0.png").unlink()
    done = scored(parts, out)
    assert done.tally.gone == 1
    assert sorted(path.name for path in (out / "maps").glob("*.png")) == [
        f"part-{n}.png.png" for n in range(5)
    ]


@pytest.mark.parametrize("name", [*NAMES_OF_RESULTS, *KINDS])
def test_files_of_others_are_kept_unless_told_otherwise(name, parts, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    if name in KINDS:
        (out / name).mkdir()
        mine = out / name / "mine.png"
    else:
        mine = out / name
    mine.write_text('{"mine": 1}')
    (out / "notes.txt").write_text("mine")
    before = files_below(out)
    with pytest.raises(ValueError, match=rf"{name}.* --overwrite"):
        scored(parts, out)
    assert files_below(out) == before
    assert scored(parts, out, overwrite=True).tally.scored == 6
    assert (out / "notes.txt").read_text() == "mine"
    if name in KINDS:
        assert mine.read_text() == '{"mine": 1}'


def test_overwriting_discards_what_was_drawn_and_nothing_else(parts, tmp_path):
    out = tmp_path / "out"
    scored(parts, out, maps="npy")
    (out / "maps/mine.png").write_text("mine")
    (out / "late").mkdir()
    (parts / "late/bad.png").unlink()
    assert scored(parts, out, overwrite=True).tally.scored == 5
    kept = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert kept == {
        *(f"{kind}/part-{n}.png.{suffix}" for n in range(5) for kind, suffix in
          (("maps", "png"), ("patches", "npy"), ("overlays", "jpg"), ("thumbnails", "jpg"))),
        "maps/mine.png", ".lock", "run.json", "scores.csv", "scores.jsonl", "pictures.json",
    }  # fmt: skip
    assert not (out / "maps/late").exists()
    assert (out / "late").is_dir()


@pytest.mark.parametrize("damage", [b"", b"no JSON", b"[]", b"[" * 100_000, b"\xff",
                                    b'{"identity": [], "canvas": null}'])  # fmt: skip
def test_overwriting_gets_out_of_a_damaged_record(damage, parts, tmp_path):
    out = tmp_path / "out"
    scored(parts, out)
    (out / "run.json").write_bytes(damage)
    with pytest.raises(ValueError, match=r"run\.json .*--overwrite"):
        scored(parts, out)
    journal = out / "scores.jsonl"
    journal.write_bytes(b"damaged\n" + journal.read_bytes())
    assert scored(parts, out, overwrite=True).tally.scored == 6
    assert scored(parts, out).tally.kept == 6


def test_a_run_that_fails_at_once_discards_nothing(parts, tmp_path):
    out = tmp_path / "out"
    scored(parts, out)
    before = files_below(out)
    with pytest.raises(KeyboardInterrupt):
        scored(parts, out, fitted_detector(stops_at=0), overwrite=True)
    assert files_below(out) == before


def test_pictures_of_images_that_are_gone_are_removed_and_it_is_said(parts, tmp_path):
    out = tmp_path / "out"
    scored(parts, out)
    (out / "overlays/late/mine.jpg").write_text("mine")
    (parts / "late/bad.png").rename(tmp_path / "bad.png")
    done = scored(parts, out)
    assert done.tally.gone == 1
    left = [path.name for path in out.rglob("*") if "bad" in path.name]
    assert left == []
    assert not (out / "maps/late").exists()
    assert (out / "overlays/late/mine.jpg").is_file()


def test_a_journal_with_names_that_lead_out_removes_nothing_there(parts, tmp_path):
    out = tmp_path / "out"
    scored(parts, out)
    mine = tmp_path / "mine.png.png"
    mine.write_text("mine")
    journal = out / "scores.jsonl"
    line = {**lines_of(out)[1], "image": "../../mine.png"}
    journal.write_bytes(journal.read_bytes() + json.dumps(line).encode() + b"\n")
    scored(parts, out)
    assert mine.read_text() == "mine"
    journal.write_bytes(journal.read_bytes() + json.dumps(line).encode() + b"\n")
    scored(parts, out, overwrite=True)
    assert mine.read_text() == "mine"


def test_an_image_whose_patch_scores_are_missing_is_scored_again(parts, tmp_path):
    scored(parts, tmp_path / "out")
    (tmp_path / "out/patches/part-1.png.npy").unlink()
    assert scored(parts, tmp_path / "out").tally.scored == 1


def test_a_detector_that_was_saved_is_replaced_only_when_told(parts, tmp_path, capsys):
    saved = tmp_path / "d.safetensors"
    command = ["fit", "--normal", str(parts), "--out", str(saved)]
    for make in (lambda: saved.write_text("mine"), lambda: saved.symlink_to("nowhere")):
        make()
        assert main(command) == 1
        assert f"{saved} exists; " in capsys.readouterr().err
        assert os.path.lexists(saved)
        saved.unlink()


def test_a_folder_that_cannot_be_searched_stops_fit(parts, tmp_path, capsys, monkeypatch):
    lock(monkeypatch, parts / "late")
    assert main(["fit", "--normal", str(parts), "--out", str(tmp_path / "d.safetensors")]) == 1
    assert f"{parts}/late cannot be searched for images: Permission denied" in (
        capsys.readouterr().err
    )


def test_a_folder_that_cannot_be_searched_is_reported_in_results(parts, tmp_path, monkeypatch):
    lock(monkeypatch, parts / "late")
    for kept in (0, 5):
        done = scored(parts, tmp_path / "out", fitted_detector(on_error="nan"))
        assert done.tally.kept == kept
        assert done.tally.unreadable == ["late/"]
    table = (tmp_path / "out/scores.csv").read_text("utf-8-sig").splitlines()
    assert table[1].startswith("late/,nan,1,,,,,")
    with pytest.raises(ValueError, match="late cannot be searched"):
        scored(parts, tmp_path / "strict")
    lock(monkeypatch, parts)
    alone = scored(parts, tmp_path / "alone", fitted_detector(on_error="nan"))
    assert alone.tally.unreadable == ["./"]


@pytest.mark.slow
def test_a_demo_and_a_download_go_to_new_folders_only(tmp_path, capsys):
    (tmp_path / "report.html").write_text("mine")
    download = ["download", "ViT-B-32", "--pretrained", "openai", "--to"]
    for command in (["demo", "--out"], download):
        assert main([*command, str(tmp_path)]) == 1
        assert "is not empty" in capsys.readouterr().err
        assert main([*command, str(tmp_path / "report.html"), "--overwrite"]) == 1
        assert "is not a folder" in capsys.readouterr().err
    assert (tmp_path / "report.html").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems limit files in other ways")
@pytest.mark.parametrize(("room", "name"), [(10, "run.json"), (2000, "scores.jsonl")])
def test_a_file_that_has_no_room_is_named(room, name, parts, tmp_path):
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    fitted = fitted_detector()
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            scored(parts, tmp_path / "out", fitted)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.filename == str(tmp_path / "out" / name)
    assert scored(parts, tmp_path / "out").tally.scored >= 1  # the cut line is scored again
    assert len(lines_of(tmp_path / "out")) == 6


def test_a_map_keeps_its_value_whatever_the_name(parts, tmp_path):
    Image.fromarray(red_image(30, 45)).save(parts / "late.png")
    (parts / "late.png.png").mkdir()
    Image.fromarray(with_green(red_image(30, 45), 5, 5)).save(parts / "late.png.png/x.png")
    fitted = fitted_detector()
    done = scored(parts, tmp_path / "out", fitted)
    assert done.tally.scored == 8
    for name in ("late.png", "late.png.png/x.png"):
        with Image.open(done.results.place("maps", name, "png")) as grey:
            expected = fitted.get_anomaly_map(parts / name)
            np.testing.assert_allclose(np.asarray(grey) / 65535 * 2, expected, atol=2e-5)


@pytest.mark.slow
def test_results_of_other_images_are_not_discarded_unasked(tmp_path, capsys, monkeypatch):
    def fail(_):
        pytest.fail("the model was loaded")

    morning, evening = runs.leather(tmp_path / "a", 2), tmp_path / "b"
    evening.mkdir()
    for number, path in enumerate(sorted(runs.leather(tmp_path / "c", 2, first=9).iterdir())):
        path.rename(evening / f"late{number}.png")
    out = tmp_path / "out"
    command = ["--class-name", "leather", "--model", "bundled", "--device", "cpu"]
    assert main(["score", str(morning), "--out", str(out), *command]) == 0
    kept = sorted(path.name for path in out.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(OpenCLIPDetector, "model_identity", property(fail))
        assert main(["score", str(evening), "--out", str(out), *command]) == 1
        assert main(["score", str(evening), "--out", str(out), *command[2:]]) == 1  # as a pool
    told = capsys.readouterr().err
    message = f"{out} holds results of 2 images, none of which is among these. Choose another"
    assert told.count(message) == 2
    assert sorted(path.name for path in out.rglob("*")) == kept
    (evening / "000.png").write_bytes((morning / "000.png").read_bytes())  # one is shared
    assert main(["score", str(evening), "--out", str(out), *command]) == 0
    assert "1 image of an earlier run not among these: results removed" in capsys.readouterr().out
    assert main(["score", str(morning), "--out", str(out), *command, "--overwrite"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
@pytest.mark.parametrize(
    "command",
    [
        ["fit", "--normal", "none", "--out", "/proc/part.safetensors"],
        ["export", str(SAVED), "--to", "/proc/part.onnx"],
    ],
)
def test_a_place_that_takes_no_file_is_told_before_anything_is_read(command, capsys):
    assert main(command) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"pyimgano-openclip: {command[-1]}: No such file or directory"
