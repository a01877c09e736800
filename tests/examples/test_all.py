"""Every example runs; the larger ones have tests of their own names."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import cli, load_detector
from pyimgano_openclip.samples import make_sample

from helpers.examples import EXAMPLES, run
from helpers.processes import run_python

pytestmark = pytest.mark.slow


def test_quickstart_on_solar_cells(tmp_path, capsys):
    pytest.importorskip("elpv_dataset")
    run("quickstart", "--train", 12, "--test", 12, "--out", tmp_path)
    printed = capsys.readouterr().out
    assert printed.count("image AUROC") == printed.count("false-alarm rate") == 2
    for name, most in (("vision_openclip_patchknn", 12), ("vision_openclip_mutual", 3)):
        assert f"{name}: threshold" in printed
        sheet = np.asarray(Image.open(tmp_path / f"{name}.png"))
        assert sheet.shape[1] == 6 * 160
        assert sheet.shape[0] in [kinds * 360 for kinds in (2, 3, 4)]  # found, missed, ...
        assert sheet.std() > 10
        section = printed.split(f"{name}: ")[1].split("vision_")[0]
        found = round(float(section.split("defects found")[1].split()[0]) * most)
        assert 0 < found <= most


def plates(folder, names):
    """Grey plates; those of a folder "hole" have one."""
    generator = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = generator.integers(90, 160, (60, 90, 3), dtype=np.uint8)
        if "hole" in name:
            image[20:40, 30:50] = 0
        Image.fromarray(image).save(folder / name)


def test_quickstart_on_labelled_folders_of_ones_own(tmp_path, capsys):
    names = [f"train/good/{i}.png" for i in range(4)] + [
        "test/good/a.png",
        "test/hole/b.png",
        "test/good/d.png",
    ]
    plates(tmp_path, [*names, "test/good/c.png"])
    run("quickstart", "--images", tmp_path, "--out", tmp_path / "o")
    assert capsys.readouterr().out.count("image AUROC") == 2


@pytest.mark.parametrize("normal", [True, False], ids=["with normal images", "one folder"])
def test_quickstart_on_images_that_nobody_has_labelled(normal, tmp_path, capsys):
    inside = "test/" if normal else ""
    train = [f"train/good/{i}.png" for i in range(4)] if normal else []
    plates(tmp_path, [*train, *(f"{inside}{i}.png" for i in range(4)), f"{inside}hole.png"])
    run("quickstart", "--images", tmp_path, "--out", tmp_path / "o")
    printed = capsys.readouterr().out
    assert "AUROC" not in printed
    assert "of 5 images" in printed
    first = printed.split("vision_openclip_mutual")[1].splitlines()[2]
    assert first.split()[-1] == "hole.png"
    assert (tmp_path / "o/vision_openclip_patchknn.png").exists() == normal


def test_pyimgano_train_and_its_exported_configuration(tmp_path, capsys):
    run("pyimgano_train", "--out", tmp_path)
    printed = capsys.readouterr().out
    assert "$ pyimgano-train --config" in printed
    assert "$ pyimgano-infer --infer-config" in printed
    saved, theirs = re.findall(r"threshold of .*: (0\.\d{4}),", printed)
    checkpoint = tmp_path / "run/checkpoints/tile/model.pt"
    assert saved == f"{load_detector(checkpoint).threshold_:.4f}" != theirs
    cli.main(["threshold", str(checkpoint), theirs])
    assert f"{load_detector(checkpoint).threshold_:.4f}" == theirs
    last = printed.splitlines()[-6:]
    labels = {line.split()[2].split("test/")[1]: line.split()[1] for line in last}
    assert {name for name, label in labels.items() if name[:4] != "good" if label == "DEFECT"} == {
        "cut/00.png", "hole/00.png", "stain/00.png",
    }  # fmt: skip


def test_the_notebook_runs_from_top_to_bottom(tmp_path):
    """Its cells one after the other in a fresh Python; no server and no kernel are needed."""
    notebook = json.loads((EXAMPLES / "first_steps.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    code = "\n".join("".join(cell["source"]) for cell in cells)
    done = run_python(f"import os; os.chdir({str(tmp_path)!r})\n{code}", "-W", "error")
    lines = [line.split() for line in done.stdout.splitlines()]
    scored = {line[2]: line[1] for line in lines if line[1:2] in (["ok"], ["DEFECT"])}
    assert scored == {
        "intact-a.png": "ok", "intact-b.png": "ok",
        "hole.png": "DEFECT", "cut.png": "DEFECT", "stain.png": "DEFECT",
    }  # fmt: skip
    assert {line[1] for line in lines[-4:]} >= {"hole.png", "cut.png", "stain.png"}


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
    hottest = [row["hottest"] for row in rows if row["label"] == "1"]
    named = {text.split(" at ")[0].split(" (")[0] for text in hottest}
    assert named <= {"hole", "cut", "stain", "scratch", "damage"}


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


def test_large_images_shows_what_the_windows_find(tmp_path, capsys):
    run("large_images", "--out", tmp_path)
    printed = capsys.readouterr().out
    whole, windows = (
        float(line.split("pixel AUROC ")[1].split(",")[0])
        for line in printed.splitlines()
        if "pixel AUROC" in line
    )
    assert windows > max(whole, 0.99)
    assert "20 windows; a patch covers 10.7 x 10.7 pixels" in printed
    with Image.open(tmp_path / "side-by-side.png") as sheet:
        assert sheet.size == (3 * 512, 4 * 384)


def test_few_shot_needs_both_folders_or_none(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("few_shot", "--normal", tmp_path)
    assert "--images" in capsys.readouterr().err


@pytest.mark.parametrize("example", ["few_shot", "zero_shot", "unlabelled", "quickstart"])
def test_what_is_no_folder_is_told(example, tmp_path):
    file = tmp_path / "a.png"
    file.touch()
    arguments = {"few_shot": ["--normal", tmp_path, "--images"], "zero_shot": []}
    for wrong in (file, tmp_path / "missing"):
        given = arguments.get(example, ["--images"])
        with pytest.raises(SystemExit, match=f"{wrong.name} is no folder"):
            run(example, *given, wrong, "--out", tmp_path / "o")


def test_unlabelled_names_the_damaged_pieces_first(tmp_path, capsys):
    run("unlabelled", "--out", tmp_path)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {name for _, name, *_ in lines[:3]} == {"hole.png", "cut.png", "stain.png"}
    assert all("odd" in line for line in lines[:3])
    assert (tmp_path / "pool.safetensors").is_file()


def test_the_picture_of_the_readme_is_what_its_example_draws(tmp_path):
    run("heat_maps", "--out", tmp_path / "heat-maps.jpg")
    kept, drawn = (
        np.asarray(Image.open(folder / "heat-maps.jpg")).astype(int)
        for folder in (EXAMPLES / "pictures", tmp_path)
    )
    assert kept.shape == drawn.shape
    assert np.abs(kept - drawn).mean() < 3  # machines round differently
    assert (EXAMPLES / "pictures" / "heat-maps.jpg").stat().st_size < 150_000


def test_the_pictures_of_the_readme_are_small():
    for name in ("report.jpg", "heat-maps.jpg"):
        with Image.open(EXAMPLES / "pictures" / name) as picture:
            assert picture.width <= 1200
        assert (EXAMPLES / "pictures" / name).stat().st_size < 200_000


def test_the_list_of_examples_is_complete():
    listed = (EXAMPLES / "README.md").read_text()
    for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")):
        assert f"examples/{path.name}" in listed
