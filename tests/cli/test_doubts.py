"""What `score` finds doubtful: images of another kind, frames of a dead camera, drift."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.doubts import doubts
from pyimgano_openclip.cli.judging import Stored
from pyimgano_openclip.samples import make_sample

from helpers.runs import leather, lines_of

BUNDLED = ["--model", "bundled"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    normal, path = leather(folder / "normal", 10), folder / "leather.safetensors"
    assert main(["fit", "--normal", str(normal), "--out", str(path), *BUNDLED]) == 0
    return path


@pytest.mark.slow
def test_a_wrong_folder_is_told_from_a_bad_batch(saved, tmp_path, capsys):
    folder = tmp_path / "carpets"
    folder.mkdir()
    for seed in range(6):
        image = make_sample("carpet", seed=seed, size=(48, 64)).image
        Image.fromarray(image).save(folder / f"{seed}.png")
    main(["score", str(folder), "--detector", str(saved), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "check:  nearly all images are anomalous (6 of 6): are camera, light, product" in printed


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.images.notices.SeveralPagesWarning")
def test_pages_that_are_not_inspected_are_told_by_every_run(saved, tmp_path, capsys):
    folder = leather(tmp_path / "new", 3)
    first, second = (Image.open(path) for path in sorted(folder.iterdir())[:2])
    first.save(folder / "two.tif", save_all=True, append_images=[second])
    command = ["score", str(folder), "--detector", str(saved), "--out", str(tmp_path / "out")]
    told = (
        "1 file with several pages or frames, of which only the first was scored: two.tif (2 pages)"
    )
    for _ in range(2):
        assert main(command) == 0
        assert f"check:  {told}" in capsys.readouterr().out
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["doubts"][0] == told


@pytest.mark.slow
def test_a_dead_camera_is_anomalous_in_every_file_whatever_the_threshold(saved, tmp_path, capsys):
    folder, out = leather(tmp_path / "new", 3), tmp_path / "out"
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "black.png")
    command = ["score", str(folder), "--detector", str(saved), "--out", str(out)]
    why = "unlike the training images: nearly black"
    for more in ([], ["--threshold", "1.9"], ["--threshold", "1.8"]):
        capsys.readouterr()
        assert main([*command, *more]) == 0
        assert f"black.png ({why})" in capsys.readouterr().out
        (line,) = (line for line in lines_of(out) if line["image"].endswith("black.png"))
        assert (line["label"], line["unlike"]) == (1, why)
        (row,) = (
            row
            for row in csv.DictReader((out / "scores.csv").read_text().splitlines())
            if row["unlike"]
        )
        assert (row["label"], row["unlike"]) == ("1", why)
        assert why in (out / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("always::pyimgano_openclip.images.notices.FlatFrameWarning")
def test_without_normal_images_a_black_frame_is_anomalous_too(tmp_path, capsys):
    folder = leather(tmp_path / "new", 5)
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(folder / "black.png")
    for number, words in enumerate((["--class-name", "leather"], [])):
        out = tmp_path / str(number)
        main(["score", str(folder), "--out", str(out), *words, *BUNDLED])
        told = capsys.readouterr().err
        assert told.count("warning: Nothing can be seen on 1 image, ") == 1
        black = next(line for line in lines_of(out) if "black" in line["image"])
        assert (black["label"], black["unlike"]) == (1, "nearly black")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.images.notices.UnusedRangeWarning")
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.images.notices.FlatFrameWarning")
def test_twelve_bits_in_sixteen_are_told_by_every_run_in_place_of_what_follows(
    saved, tmp_path, capsys
):
    folder = leather(tmp_path / "new", 5)
    for path in folder.iterdir():
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        grey[0, 0] = 255  # or fewer bits would hold it
        Image.fromarray(grey * 16).save(path)
    for number, how in enumerate((["--detector", str(saved)], ["--class-name", "leather"])):
        more = BUNDLED if number else []
        command = ["score", str(folder), *how, *more, "--out", str(tmp_path / str(number))]
        for _ in range(2):
            main([*command, "--json"])
            (doubt,) = json.loads(capsys.readouterr().out)["doubts"]
            assert doubt.startswith("the highest value of all scored images is ")
            assert doubt.endswith("If so, multiply the values of all images by 16")


def test_drift_is_told_of_results_whose_detector_is_not_loaded():
    training, looks = np.linspace(0, 1, 50), tuple((100.0 + n, 9, 1, 0, 0) for n in range(50))
    known = {"training": tuple(training), "looks": looks, "parts": 50}
    judge = Stored("VisionOpenCLIPPatchKNN", 1.0, 1.0, None, roi=None, **known)
    judge = Stored.read(json.loads(json.dumps(judge.facts())))
    same = [
        {"score": score, "label": 0, "look": look}
        for score, look in zip(training, looks, strict=True)
    ]
    assert doubts(judge, same) == []
    higher = [{"score": score, "label": 0} for score in np.linspace(0.8, 1, 50)]
    (doubt,) = doubts(judge, higher)
    assert doubt.startswith("normal images have moved away: the 50 that passed score higher than")
    darker = [{**one, "look": (80.0 + n, 9, 1, 0, 0)} for n, one in enumerate(same)]
    (doubt,) = doubts(judge, darker)
    assert "the 50 that passed are darker than the training images in" in doubt


def test_light_that_leaves_few_to_pass_is_told_by_the_looks_of_all():
    training, looks = np.linspace(0, 1, 50), tuple((100.0 + n, 9, 1, 0, 0) for n in range(50))
    known = {"training": tuple(training), "looks": looks, "parts": 50}
    judge = Stored("VisionOpenCLIPPatchKNN", 1.0, 1.0, None, roi=None, **known)
    darker = [
        {"score": 0.5 if n < 7 else 1.5, "label": int(n >= 7), "look": (60.0 + n, 9, 1, 0, 0)}
        for n in range(30)
    ]
    (doubt,) = doubts(judge, darker)
    assert doubt.startswith("images have moved away: all 30 are darker than the training images")
    alike = [{**one, "look": look} for one, look in zip(darker, looks[::2], strict=False)]
    assert doubts(judge, alike) == []
    assert doubts(judge, darker[:18]) == []
    older = [{"score": 0.5, "label": 0, "look": look} for look in looks * 8]
    assert doubts(judge, [*older, *darker]) == []
    (doubt,) = doubts(judge, [*older, *darker], darker)
    assert doubt.startswith("of those scored by this run, images have moved away: all 30 are dark")


@pytest.mark.parametrize(
    ("kind", "which", "parts"),
    [("PatchKNN", "the detector was fitted on", 4), ("Mutual", "were compared with each other", 0)],
)
def test_a_threshold_below_most_of_the_images_known_is_doubted_and_no_camera(kind, which, parts):
    known = {"training": (0.2, 0.3, 0.4, 0.5), "parts": parts}
    judge = Stored(f"VisionOpenCLIP{kind}", 1.0, 0.25, None, roi=None, **known)
    records = [{"score": 0.6, "label": 1}] * 6
    (doubt,) = doubts(judge, records)
    assert doubt == (
        f"nearly all images are anomalous (6 of 6): so are 3 of the 4 that {which}; is 0.25 the "
        "threshold that is meant?"
    )
    (changed,) = doubts(replace(judge, threshold=0.45), records)
    assert "are camera, light, product" in changed


def test_a_threshold_that_no_images_have_told_is_doubted_first():
    judge = Stored("VisionOpenCLIPPromptScore", 1.0, 0.5, None, (), None)
    (doubt,) = doubts(judge, [{"score": 0.9, "label": 1}] * 6)
    assert doubt.startswith("nearly all images are anomalous (6 of 6): no images have told whether")
    assert "0.5 is a threshold for them; 'fit' with normal images" in doubt
