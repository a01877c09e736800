"""Pictures that are drawn while other images are scored."""

import json

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPromptScore
from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.drawing import Drawing
from pyimgano_openclip.cli.easel import SAMPLE
from pyimgano_openclip.cli.outcome import section_of, summary
from pyimgano_openclip.cli.reporting import write_report
from pyimgano_openclip.cli.score import score_folder
from pyimgano_openclip.detector.base import AT_FIRST
from pyimgano_openclip.maps.pictures import colour_range

from helpers.embedders import red_image, with_green
from helpers.reports import data_of
from helpers.runs import find_images, fitted_detector, leather, lines_of, scored

KINDS = ("maps", "overlays", "thumbnails")


def drawn(out):
    return {
        path.relative_to(out): path.read_bytes()
        for kind in KINDS
        for path in (out / kind).iterdir()
    }


def colours(out):
    found = Drawing(**json.loads((out / "pictures.json").read_text()))
    return found.low, found.high


def colours_by_all(out, detector):
    grids = [np.load(path) for path in sorted((out / "patches").iterdir())]
    return colour_range(grids, detector.region_threshold())


def test_pictures_drawn_on_the_way_are_those_drawn_afterwards(tmp_path):
    folder, out = leather(tmp_path / "images", SAMPLE + 4), tmp_path / "out"
    scored(folder, out)
    on_the_way = drawn(out)
    assert len(on_the_way) == 3 * (SAMPLE + 4)
    for path in on_the_way:
        (out / path).unlink()
    scored(folder, out)
    assert drawn(out) == on_the_way


def test_few_images_have_the_colours_that_all_of_them_give(parts, tmp_path):
    fitted = fitted_detector()
    scored(parts, tmp_path / "out", fitted)
    grids = [np.load(path) for path in sorted((tmp_path / "out/patches").rglob("*.npy"))]
    expected = colour_range(grids, fitted.region_threshold())
    assert colours(tmp_path / "out") == pytest.approx(expected)


def test_colours_that_turn_out_not_to_do_for_all_are_chosen_anew(tmp_path):
    folder, out, fitted = (
        leather(tmp_path / "images", 2 * SAMPLE),
        tmp_path / "out",
        fitted_detector(),
    )
    for number in range(1, 2 * SAMPLE, 8):  # none of those that are scored first
        bad = with_green(red_image(48, 64, seed=number), 18, 30)
        Image.fromarray(bad).save(folder / f"{number:03}.png")
    scored(folder, out, fitted)
    assert colours(out) == pytest.approx(colours_by_all(out, fitted))
    few = drawn(out)
    (out / "pictures.json").unlink()  # all are drawn anew, in colours that all images give
    scored(folder, out, fitted)
    assert drawn(out) == few


def test_pictures_stay_when_images_are_added_that_look_the_same(tmp_path):
    folder, out = leather(tmp_path / "images", SAMPLE + 4), tmp_path / "out"
    scored(folder, out)
    before = {path: (out / path).stat().st_mtime_ns for path in drawn(out)}
    for seed in (100, 101):
        Image.fromarray(red_image(48, 64, seed=seed)).save(folder / f"{seed}.png")
    assert scored(folder, out).tally.scored == 2
    assert {path: (out / path).stat().st_mtime_ns for path in before} == before
    assert len(drawn(out)) == 3 * (SAMPLE + 6)


def test_some_images_from_all_over_are_scored_first_and_told_in_order(tmp_path):
    folder, fitted = leather(tmp_path / "images", 2 * SAMPLE), fitted_detector()
    scored(folder, tmp_path / "out", fitted)
    names = [path.name for path in sorted(folder.iterdir())]
    assert fitted.embedder.seen == [*names[::2], *names[1::2]]
    assert [line["image"] for line in lines_of(tmp_path / "out")] == names


@pytest.mark.slow
def test_the_canvas_is_that_of_the_first_images_in_whatever_order_they_are_scored(tmp_path):
    folder, out = leather(tmp_path / "images", 2 * AT_FIRST, (32, 32)), tmp_path / "out"
    for seed in range(AT_FIRST // 2 - 1, AT_FIRST):  # most of the first, few of all
        Image.fromarray(red_image(32, 96, seed=seed)).save(folder / f"{seed:03}.png")
    words = ["--class-name", "leather", "--model", "bundled", "--overlays", "none"]
    assert main(["score", str(folder), *words, "--maps", "none", "--out", str(out)]) == 0
    paths = sorted(folder.iterdir())
    by_first, by_all = (
        VisionOpenCLIPPromptScore(openclip_model_name="bundled").choose_canvas(some).canvas_
        for some in (paths[:AT_FIRST], paths)
    )
    assert tuple(json.loads((out / "run.json").read_text())["canvas"]) == by_first != by_all


def test_a_disk_that_is_full_while_drawing_is_told(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("pyimgano_openclip.cli.drawing.write_atomically", full)
    with pytest.raises(OSError, match="No space left on device"):
        scored(leather(tmp_path / "images", SAMPLE + 4), tmp_path / "out")


def test_images_that_are_gone_or_changed_before_they_are_drawn_keep_their_scores(parts, tmp_path):
    fitted, out = fitted_detector(), tmp_path / "out"
    bad, embed = parts / "late/bad.png", fitted.embedder.embed

    def moved_on(image):
        found = embed(image)
        if image.name == "part-4.png":  # the last one
            bad.rename(tmp_path / "bad.png")
            Image.fromarray(red_image(60, 20)).save(parts / "part-0.png")
        return found

    fitted.embedder.embed = moved_on
    with score_folder(fitted, find_images([parts]), out) as done:
        write_report(out / "report.html", "parts", [section_of("parts", done)], [done.results])
    assert summary(done)["doubts"][-1] == (
        "2 images could not be drawn, because the files are gone or have changed since they were "
        "scored: late/bad.png, part-0.png"
    )
    assert [line["label"] for line in lines_of(out)] == [1, 0, 0, 0, 0, 0]
    kinds = [{path.name for path in (out / kind).rglob("*.*")} for kind in KINDS]
    assert [len(names) for names in kinds] == [6, 4, 4]
    assert len(data_of((out / "report.html").read_text())["pictures"]) == 6
    (tmp_path / "bad.png").rename(bad)
    scored(parts, out)
    assert {len(list((out / kind).rglob("*.*"))) for kind in KINDS} == {6}  # the rest was drawn
