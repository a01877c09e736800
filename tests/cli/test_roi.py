"""The option --roi: where `fit` and `score` look, and what the report shows of it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import load_detector
from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.arguments.shared import roi

from helpers.detectors import on_bundled, patchknn
from helpers.runs import RecordingEmbedder, fitted_detector, leather, lines_of, scored

ABOVE = np.arange(30)[:, None] < np.full((1, 45), 15)  # of parts of 30 x 45; defects are below


def looking(where):
    """A detector that looks at a region only."""
    return fitted_detector(roi=where)


def test_results_show_where_was_looked(parts, tmp_path):
    done = scored(parts, tmp_path / "out", looking(ABOVE), maps="npy")
    assert {line["label"] for line in lines_of(tmp_path / "out")} == {0}
    name = "late/bad.png"
    found = np.load(tmp_path / f"out/maps/{name}.npy")
    np.testing.assert_array_equal(found, done.detector.get_anomaly_map(parts / name))
    assert (found[15:] == 0).all()
    for kind in ("overlays", "thumbnails"):
        picture = np.asarray(Image.open(tmp_path / f"out/{kind}/{name}.jpg")).astype(int)
        plain = np.asarray(Image.open(parts / name)).astype(int)
        assert picture[20:, :25].mean() < 0.6 * plain[20:, :25].mean()  # dimmed
        assert abs(picture[3:11, 3:-3] - plain[3:11, 3:-3]).mean() < 25
    assert done.settings["roi"] == "mask of 30 x 45 pixels, 50 % inside"


def test_results_of_another_region_are_not_gone_on_with(parts, tmp_path):
    scored(parts, tmp_path / "out", looking(ABOVE))
    with pytest.raises(ValueError, match="roi"):
        scored(parts, tmp_path / "out", looking(~ABOVE))
    assert scored(parts, tmp_path / "out", looking(ABOVE)).tally.kept == 6


def test_an_image_of_another_size_than_the_pixels_are_for_is_an_error_in_its_line(tmp_path):
    folder = leather(tmp_path / "new", 2, (30, 45))
    leather(tmp_path / "larger", 1, (60, 90)).joinpath("000.png").rename(folder / "larger.png")
    found = scored(folder, tmp_path / "out", fitted_detector("nan", roi=[0, 0, 20, 15]))
    first, second, larger = found.tally.records
    assert (first["label"], second["label"], larger["label"]) == (0, 0, 1)
    assert "60 x 90 pixels, those that were learnt from have 30 x 45" in larger["error"]


def test_results_with_masks_by_name_depend_on_the_masks(parts, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in parts.rglob("*.png"):
        Image.fromarray(ABOVE).save(masks / path.name)
    fitted = patchknn(embedder=RecordingEmbedder(), roi=masks).fit(sorted(parts.glob("*.png")))
    fitted.threshold_ *= 3
    records = scored(parts, tmp_path / "out", fitted).tally.records
    assert [record["label"] for record in records] == [0] * 6
    Image.fromarray(~ABOVE).save(masks / "bad.png")
    with pytest.raises(ValueError, match="roi"):
        scored(parts, tmp_path / "out", fitted)
    bad, *others = scored(parts, tmp_path / "new", fitted).tally.records
    assert bad["label"] == 1
    assert not any(record["label"] for record in others)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mask.png", "mask.png"),
        ("[0, 0, 10, 20]", [0, 0, 10, 20]),
        ("[[0.0, 0, 0.5, 1]]", [[0.0, 0, 0.5, 1]]),
    ],
)
def test_a_region_is_a_path_or_a_list(text, expected):
    assert roi(text) == expected


@pytest.mark.slow
def test_fit_and_score_look_at_a_region(tmp_path, capsys):
    normal, saved = leather(tmp_path / "normal", 4), str(tmp_path / "saved.safetensors")
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    where = ["--roi", str(tmp_path / "mask.png")]
    command = ["fit", "--normal", str(normal), "--out", saved, "--model", "bundled"]
    assert main([*command, *where]) == 0
    assert "roi: mask of 48 x 64 pixels, 50 % inside" in capsys.readouterr().out
    (tmp_path / "mask.png").unlink()  # it is in the detector
    out = ["--out", str(tmp_path / "out")]
    assert main(["score", str(normal), "--detector", saved, *out, "--maps", "npy", "--json"]) == 0
    capsys.readouterr()
    found = np.load(tmp_path / "out/maps/000.png.npy")
    assert (found[:, 32:] == 0).all()
    assert (found[:, :32] > 0).all()
    report = (tmp_path / "out/report.html").read_text()
    assert "50 % inside" in report
    again = ["score", str(normal), "--detector", saved, *out, "--maps", "npy"]
    assert main([*again, "--threshold", "0.00001"]) == 0  # without the model
    for line in lines_of(tmp_path / "out"):
        assert line["label"] == 1
        assert all(region["box"][2] <= 32 for region in line["regions"])
    other = ["--roi", "[0, 0, 8, 8]", "--out", str(tmp_path / "other")]
    assert main(["score", str(normal), "--detector", saved, *other]) == 1
    assert "was saved with roi" in capsys.readouterr().err
    assert main([*command, "--overwrite", "--roi", "[0, 0, 65, 8]"]) == 1
    assert "reaches beyond it: the image has 48 x 64 pixels" in capsys.readouterr().err


@pytest.mark.slow
def test_masks_below_the_images_are_not_learnt_nor_scored(tmp_path, capsys):
    images, saved = leather(tmp_path / "images", 4), tmp_path / "few.safetensors"
    masks = images / "masks"
    masks.mkdir()
    for path in images.glob("*.png"):
        Image.fromarray(np.arange(64)[None] < np.full((48, 1), 32)).save(masks / path.name)
    fit = ["fit", "--normal", str(images), "--model", "bundled", "--out", str(saved)]
    assert main([*fit, "--roi", str(masks), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["images"], facts["masks_skipped"]) == (4, [str(masks)])
    bad = str(leather(tmp_path / "bad", 1, first=50))
    by_file = ["--detector", str(saved), "--json"]  # which knows where the masks are
    for command, count in (
        (["score", str(images), "--out", str(tmp_path / "out")], 4),
        (["add", str(images)], 4),
        (["evaluate", str(images), bad], 5),
    ):
        assert main([*command, *by_file]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert (facts["images"], facts.get("unreadable", [])) == (count, [])
    assert main(["score", str(images), "--out", str(tmp_path / "new"), *by_file[:2]]) == 0
    assert f"skipped: masks in {masks}\n" in capsys.readouterr().out


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Images, a detector that was fitted with their masks, and another place with the masks."""
    folder = tmp_path_factory.mktemp("moved")
    images, masks = leather(folder / "images", 6), folder / "masks"
    masks.mkdir()
    left = np.arange(64)[None] < np.full((48, 1), 32)
    for path in images.iterdir():
        Image.fromarray(left).save(masks / path.name)
    saved = folder / "few.safetensors"
    detector = on_bundled("patchknn", roi=masks).fit(sorted(images.iterdir())[:4])
    detector.save_checkpoint(saved)
    on_bundled("patchknn", roi=left).fit(sorted(images.iterdir())[:4]).save_checkpoint(
        folder / "one.safetensors"
    )
    return images, saved, masks.rename(folder / "elsewhere")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "add", "score"])
def test_masks_that_have_moved_are_asked_for_by_the_option(command, moved, tmp_path, capsys):
    images, saved, masks = moved
    saved = shutil.copy(saved, tmp_path)
    places = [str(images), str(leather(tmp_path / "bad", 1, first=50))][
        : 2 if command == "evaluate" else 1
    ]
    arguments = [command, *places, "--detector", saved, "--json"]
    if command == "score":
        arguments += ["--out", str(tmp_path / "out")]
    assert main(arguments) == 1
    message = "masks; pass the one that there is here: --roi DIR."
    assert message in capsys.readouterr().err
    assert main([*arguments, "--roi", str(masks)]) == 0


@pytest.mark.slow
def test_a_detector_put_beside_is_told_of_masks_only_if_it_has_some(moved, tmp_path, capsys):
    images, saved, masks = moved
    command = [
        "evaluate",
        str(images),
        str(leather(tmp_path / "bad", 1, first=50)),
        "--roi",
        str(masks),
    ]
    one = saved.with_name("one.safetensors")
    for pair in ((saved, saved), (saved, one), (one, saved)):
        first, second = map(str, pair)
        assert main([*command, "--detector", first, "--compare", second, "--json"]) == 0
        measured = json.loads(capsys.readouterr().out)["detectors"].values()
        assert len({found["auroc"] for found in measured}) == 1
    assert main([*command, "--detector", str(one)]) == 1
    assert "one.safetensors was saved with roi = mask of 48 x 64" in capsys.readouterr().err


@pytest.mark.slow
def test_images_with_masks_are_added_once(moved, tmp_path, capsys):
    images, saved, masks = moved
    saved = shutil.copy(saved, tmp_path)
    command = ["add", str(images), "--detector", saved, "--json", "--roi", str(masks)]
    for added in (2, 0):
        assert main(command) == 0
        assert json.loads(capsys.readouterr().out)["added"] == added
    assert load_detector(saved).roi_.path == masks  # which the file now names
    extra = leather(tmp_path / "extra", 7)
    for path in sorted(extra.iterdir())[:6]:
        path.unlink()
    assert main([*command[:1], str(extra), *command[2:]]) == 1
    assert "006.png: there is no mask of it in" in capsys.readouterr().err


@pytest.mark.slow
def test_a_detector_with_masks_by_name_is_not_exported_wherever_they_are(moved, tmp_path, capsys):
    _, saved, _ = moved
    assert main(["export", str(saved), "--to", str(tmp_path / "few.onnx")]) == 1
    assert "has a mask for each image, which a file cannot hold" in capsys.readouterr().err


@pytest.mark.slow
def test_images_compared_with_each_other_are_looked_at_where_and_as_closely_as_asked(
    tmp_path, capsys
):
    images = leather(tmp_path / "images", 5, (72, 96))
    command = ["score", str(images), "--model", "bundled", "--out", str(tmp_path / "out")]
    closely = ["--smallest-defect", "4.5", "--roi", "[0, 0, 48, 72]", "--maps", "npy"]
    assert main([*command, *closely]) == 0
    assert "windows" in (tmp_path / "out/report.html").read_text()
    found = np.load(tmp_path / "out/maps/000.png.npy")
    assert (found[:, 48:] == 0).all()
    assert found.any()
    capsys.readouterr()


@pytest.mark.slow
def test_all_images_without_a_mask_are_told_of_those_that_are_not_learnt_or_scored(
    moved, tmp_path, capsys
):
    images, _, masks = moved
    more = leather(tmp_path / "more", 3, first=50)
    for number, path in enumerate(sorted(more.iterdir())):
        path.rename(more / f"late{number}.png")
    (more / "late3.png").write_bytes(b"")
    by_mask = ["--model", "bundled", "--roi", str(masks), "--out"]
    fit = ["fit", "--normal", str(images), str(more)]
    assert main([*fit, *by_mask, str(tmp_path / "d.safetensors")]) == 1
    told = capsys.readouterr().err
    assert "4 images cannot be read; what a detector learns from must be complete" in told
    assert told.count(f"there is no mask of it in {masks}:") == 3
    assert main(["score", str(more), "--class-name", "nut", *by_mask, str(tmp_path / "out")]) == 3
    told = capsys.readouterr().out
    assert f"3 images, such as late0.png and late1.png: there is no mask of it in {masks}" in told
    assert "late3.png cannot be opened as an image" in told
