"""The command line: what it writes, how it goes on after an interruption, how it fails."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.drawing import fair_side

from helpers.embedders import red_image
from helpers.processes import run_python
from helpers.runs import find_images, fitted_detector, lines_of, lock, scored


@pytest.mark.slow
def test_a_second_run_does_not_score_the_pictures_of_the_first(parts, tmp_path, capsys):
    command = ["score", str(tmp_path), "--class-name", "nut", "--model", "bundled", "--json"]
    for kept in (0, 6):
        assert main([*command, "--out", str(tmp_path / "results")]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["images"], facts["kept"]) == (6, kept)
        assert facts["anomalous"] + facts["normal"] == 6
        assert (facts["images_per_second"] is None) == bool(kept)
        if not kept:
            pace = facts["images_per_second"] * facts["milliseconds_per_image"]
            assert pace == pytest.approx(1000)


def test_a_folder_of_results_is_complete(parts, tmp_path):
    done = scored(parts, tmp_path / "out")
    with (tmp_path / "out/scores.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [source.name for source in find_images([parts])]
    assert [row["label"] for row in rows] == ["1", "0", "0", "0", "0", "0"]
    bad = lines_of(tmp_path / "out")[0]
    assert bad["score"] > done.detector.threshold_
    left, top, right, bottom = bad["regions"][0]["box"]
    assert 20 <= left <= 32 < 38 <= right <= 45
    assert 10 <= top <= 20 < 26 <= bottom <= 30
    assert len(bad["nearest"]) == 3
    for kind, name in (("overlays", "late/bad.png.jpg"), ("thumbnails", "part-0.png.jpg")):
        with Image.open(tmp_path / "out" / kind / name) as picture:
            assert picture.size == (45, 30)


def test_the_regions_of_a_folder_of_results_are_those_that_the_detector_explains(parts, tmp_path):
    fitted = fitted_detector()
    bad, *_ = scored(parts, tmp_path / "out", fitted).tally.records
    explained = fitted.explain(parts / "late/bad.png")
    assert [region["box"] for region in bad["regions"]] == [list(r.box) for r in explained]
    assert bad["region_threshold"] == fitted.region_threshold()
    found = fitted.get_anomaly_map(parts / "late/bad.png")
    assert explained[0].area == (found >= 0.7 * found.max()).sum()
    assert explained[0].area < (found > fitted.region_threshold()).sum()


def test_the_table_counts_no_region_where_only_the_hottest_patch_is_shown(parts, tmp_path):
    fitted = fitted_detector()
    for threshold, regions in ((fitted.threshold_, "1"), (2.0, "0")):  # no map exceeds 2
        fitted.threshold_ = threshold
        scored(parts, tmp_path / "out", fitted)
        (box,) = (region["box"] for region in lines_of(tmp_path / "out")[0]["regions"])
        with (tmp_path / "out/scores.csv").open(newline="", encoding="utf-8-sig") as file:
            bad, *passed = csv.DictReader(file)
        assert (bad["label"], bad["regions"]) == ("1", regions)  # unlike the training images
        assert bad["hottest"] == " ".join(map(str, box))
        assert {row["regions"] for row in passed} == {"0"}


def test_maps_of_16_bits_are_the_maps_of_the_detector(parts, tmp_path):
    fitted = fitted_detector()
    scored(parts, tmp_path / "out", fitted)
    expected = fitted.get_anomaly_map(parts / "late/bad.png")
    with Image.open(tmp_path / "out/maps/late/bad.png.png") as grey:
        np.testing.assert_allclose(np.asarray(grey) / 65535 * 2, expected, atol=2e-5)
    scored(parts, tmp_path / "out", fitted, maps="npy", overlays="none")
    found = np.load(tmp_path / "out/maps/late/bad.png.npy")
    np.testing.assert_array_equal(found, expected)
    for kind in ("npy", "png", "npy"):  # those of another format do not stay
        scored(parts, tmp_path / "out", fitted, maps=kind)
        maps = [path for path in (tmp_path / "out/maps").rglob("*") if path.is_file()]
        assert {path.suffix for path in maps} == {f".{kind}"}
        assert len(maps) == len(find_images([parts]))


def test_only_what_is_asked_for_is_drawn(parts, tmp_path):
    scored(parts, tmp_path / "out", maps="none", overlays="flagged")
    assert not (tmp_path / "out/maps").exists()
    drawn = [path.name for path in (tmp_path / "out/overlays").rglob("*.jpg")]
    assert drawn == ["bad.png.jpg"]


def test_the_reason_for_an_unreadable_image_has_its_path_as_it_is(parts, tmp_path):
    file = parts / "roi=1" / "a mode=1 smallest_defect b.png"
    file.parent.mkdir()
    file.write_text("no image")
    scored(parts, tmp_path / "out", fitted_detector(on_error="nan"))
    (told,) = (line["error"] for line in lines_of(tmp_path / "out") if "error" in line)
    assert told.startswith(f"{file}: {file} cannot be opened")


def test_an_unreadable_image_is_noted_or_stops_the_run(parts, tmp_path):
    (parts / "a.png").write_text("no image")
    whole = (parts / "part-3.png").read_bytes()
    (parts / "part-3.png").write_bytes(whole[: len(whole) // 2])
    done = scored(parts, tmp_path / "out", fitted_detector(on_error="nan"))
    assert done.tally.unreadable == ["a.png", "part-3.png"]
    assert done.tally.scored == 5
    lines = {line["image"]: line for line in lines_of(tmp_path / "out")}
    assert "cannot be opened" in lines["a.png"]["error"]
    assert "cannot be decoded" in lines["part-3.png"]["error"]
    assert lines["a.png"]["label"] == 1
    with (tmp_path / "out/scores.csv").open(newline="", encoding="utf-8-sig") as file:
        row = next(row for row in csv.DictReader(file) if row["image"] == "a.png")
    assert (row["score"], row["label"]) == ("nan", "1")
    with pytest.raises(ValueError, match=r"a\.png"):
        scored(parts, tmp_path / "strict")
    (parts / "part-3.png").write_bytes(whole)
    assert scored(parts, tmp_path / "out", fitted_detector(on_error="nan")).tally.scored == 1


def test_files_of_one_stem_do_not_overwrite_each_other(parts, tmp_path):
    Image.fromarray(red_image(30, 45)).save(parts / "part-0.jpg")
    scored(parts, tmp_path / "out")
    maps = [path.name for path in (tmp_path / "out/maps").glob("part-0*")]
    assert sorted(maps) == ["part-0.jpg.png", "part-0.png.png"]


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
    found = {region["defect"] for record in records for region in record["regions"]}
    assert found == {"hole", None}  # only the hottest region of an image can have a name


def test_small_pictures_of_oblong_images_keep_some_of_the_short_side():
    assert fair_side(960, 300, 400) == fair_side(960, 100, 400) == 960
    assert fair_side(960, 100, 3000) == fair_side(960, 3000, 100) == 2629


@pytest.mark.slow
def test_a_folder_that_cannot_be_searched_is_code_3_and_named(parts, tmp_path, capsys, monkeypatch):
    lock(monkeypatch, parts / "late")
    command = ["score", str(parts), "--class-name", "nut", "--model", "bundled"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 3
    printed = capsys.readouterr().out
    assert printed.startswith("6 images, 0 anomalous, 1 unreadable")
    assert "unreadable, labelled 1: late/\n" in printed
    assert f"  {parts}/late cannot be searched for images: Permission denied\n" in printed
    assert "late cannot be searched" in (tmp_path / "out/report.html").read_text("utf-8")
    assert main([*command, "--out", str(tmp_path / "strict"), "--on-error", "raise"]) == 1
    assert "late cannot be searched for images: Permission denied" in capsys.readouterr().err


@pytest.mark.slow
def test_what_was_left_out_is_said(parts, tmp_path, capsys):
    command = ["score", str(parts), "--class-name", "nut", "--model", "bundled"]
    assert main([*command, "--out", str(parts / "old")]) == 0
    (parts / "again.png").symlink_to("part-0.png")
    (parts / "notes.txt").write_text("no image")
    capsys.readouterr()
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[2:5] == [
        "1 file skipped: not an image by the suffix",
        "1 link skipped: to images that are listed",
        f"skipped: results in {parts / 'old'}",
    ]
    (parts / "late/bad.png").unlink()
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "1 image of an earlier run not among these: results removed" in capsys.readouterr().out


@pytest.mark.slow
def test_scoring_starts_without_the_registry_of_the_host_which_works_afterwards(parts, tmp_path):
    saved = tmp_path / "d.safetensors"
    command = ["fit", "--normal", str(parts), "--out", str(saved), "--model", "bundled"]
    assert main(command) == 0
    words = [
        "score",
        str(parts),
        "--detector",
        str(saved),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    code = f"""
import sys
from pyimgano_openclip.cli import main
sys.argv = ["pyimgano-openclip", *{words}]
assert main() == 0
print([name for name in ("pyimgano.models", "scipy") if name in sys.modules])
from pyimgano.models import create_model
print(type(create_model("vision_openclip_patchknn", openclip_model_name="bundled")).__module__)"""
    *_, loaded, ours = run_python(code).stdout.splitlines()
    assert (loaded, ours) == ("[]", "pyimgano_openclip.patchknn")
