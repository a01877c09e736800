"""Every example runs; the larger ones have tests of their own names."""

import csv

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import load_detector
from pyimgano_openclip.samples import make_sample

from example import EXAMPLES, run

pytestmark = pytest.mark.slow


def test_quickstart_on_solar_cells(tmp_path, capsys):
    pytest.importorskip("elpv_dataset")
    run("quickstart", "--train", 12, "--test", 12, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("image AUROC") == 2
    assert printed.count("false-alarm rate") == 2
    few_shot, zero_shot = printed.split("Zero-shot compares images with words")
    assert "vision_openclip_patchknn: threshold" in few_shot
    assert "vision_openclip_promptscore: threshold" in zero_shot
    for name in ("vision_openclip_promptscore", "vision_openclip_patchknn"):
        sheet = np.asarray(Image.open(tmp_path / name / "contact-sheet.png"))
        assert sheet.shape == (640, 1280, 3)
        assert sheet.std() > 10


def test_quickstart_on_folders_of_ones_own(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for folder, count in (("train/good", 4), ("test/good", 2), ("test/hole", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for index in range(count):
            image = generator.integers(90, 160, (60, 90, 3), dtype=np.uint8)
            if folder == "test/hole":
                image[20:40, 30:50] = 0
            Image.fromarray(image).save(tmp_path / folder / f"{index}.png")
    run("quickstart", "--images", tmp_path, "--class-name", "metal plate", "--out", tmp_path / "o")
    assert capsys.readouterr().out.count("image AUROC") == 2


def scores_in(folder):
    return list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def leather(tmp_path_factory):
    """What the zero-shot example writes without a folder."""
    out = tmp_path_factory.mktemp("leather")
    run("zero_shot", "--out", out)
    return out


def test_zero_shot_on_generated_leather(leather):
    rows = scores_in(leather)
    assert {row["image"]: row["label"] for row in rows} == {
        "0-intact.png": "0", "1-intact.png": "0",
        "2-hole.png": "1", "3-cut.png": "1", "4-stain.png": "1", "5-scratch.png": "1",
    }  # fmt: skip
    named = {row["hottest"].split(" (")[0] for row in rows if row["label"] == "1"}
    assert named <= {"hole", "cut", "stain", "scratch"}


def test_zero_shot_maps_are_hot_where_the_defect_is(leather):
    mask = make_sample("leather", seed=3, size=(240, 320), defect="cut").mask
    found = np.asarray(Image.open(leather / "maps" / "3-cut.png.tif"))
    assert found.shape == mask.shape
    assert found[mask].mean() > 0.5 > found[~mask].mean()
    before = np.asarray(Image.open(leather / "images" / "3-cut.png")).astype(int)
    after = np.asarray(Image.open(leather / "overlays" / "3-cut.png.png"))
    changed = np.abs(after - before).max(axis=2) > 8
    assert changed[mask].mean() > 0.5 > changed[~mask].mean()


def test_zero_shot_takes_words_of_ones_own(tmp_path):
    """Swapped, they turn the scores round."""
    images = tmp_path / "images"
    images.mkdir()
    for name, defect in (("intact", None), ("torn", "cut")):
        pixels = make_sample("leather", seed=3, size=(96, 128), defect=defect).image
        Image.fromarray(pixels).save(images / f"{name}.png")

    def scores(normal, anomalous):
        words = ("--normal", normal, "--anomalous", anomalous, "--defects", "cut")
        run("zero_shot", images, "--class-name", "leather", *words, "--out", tmp_path / "o")
        return {row["image"]: float(row["score"]) for row in scores_in(tmp_path / "o")}

    right = scores("flawless {}", "{} with a cut")
    swapped = scores("{} with a cut", "flawless {}")
    assert right["torn.png"] > right["intact.png"]
    assert swapped["torn.png"] < swapped["intact.png"]


def test_few_shot_learns_saves_and_explains(tmp_path, capsys):
    run("few_shot", "--out", tmp_path)
    printed = capsys.readouterr().out
    detector = load_detector(tmp_path / "detector.safetensors")
    assert f"threshold {detector.threshold_:.4f} from 20 images" in printed
    labels = {line.split()[0]: line.split()[2] for line in printed.splitlines() if "above" in line}
    damaged = {"hole.png", "cut.png", "stain.png", "scratch.png"}
    assert {name for name, label in labels.items() if label == "DEFECT"} == damaged
    assert len(labels) == 8
    hot, normal = np.split(np.asarray(Image.open(tmp_path / "nearest.png")), 2, axis=1)
    assert hot.shape == normal.shape
    assert not np.array_equal(hot, normal)


def test_few_shot_needs_both_folders_or_none(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("few_shot", "--normal", tmp_path)
    assert "--images" in capsys.readouterr().err


def test_the_picture_of_the_readme_is_what_its_example_draws(tmp_path):
    run("heat_maps", "--out", tmp_path / "heat-maps.jpg")
    kept, drawn = (
        np.asarray(Image.open(folder / "heat-maps.jpg")).astype(int)
        for folder in (EXAMPLES / "pictures", tmp_path)
    )
    assert kept.shape == drawn.shape
    assert np.abs(kept - drawn).mean() < 3  # machines round differently
    assert (EXAMPLES / "pictures" / "heat-maps.jpg").stat().st_size < 150_000


def test_the_list_of_examples_is_complete():
    listed = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f"examples/{path.name}" in listed
