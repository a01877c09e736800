"""The example that measures MVTec AD and VisA, on small folders in their layouts."""

import json

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.samples import make_sample

from helpers.examples import load, run

pytestmark = pytest.mark.slow

METRICS = ("image AUROC", "pixel AUROC", "AUPRO")
TWO_ROWS = {"prompts, zero-shot", "patch-kNN, all normal images"}


def photograph(path, family, seed, defect=None, size=(72, 96)):
    """Write a generated image and return the mask of its defect."""
    sample = make_sample(family, seed=seed, size=size, defect=defect)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sample.image).save(path)
    return sample.mask


def save_mask(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(mask) * 255).save(path)


@pytest.fixture(scope="module")
def mvtec(tmp_path_factory):
    """Two categories; the last defective tile has another size and no mask."""
    root = tmp_path_factory.mktemp("mvtec")
    for name in ("leather", "tile"):
        for seed in range(5):
            photograph(root / name / "train" / "good" / f"{seed:03}.png", name, seed)
        for seed in range(2):
            photograph(root / name / "test" / "good" / f"{seed:03}.png", name, 50 + seed)
            mask = photograph(root / name / "test" / "cut" / f"{seed:03}.png", name, seed, "cut")
            save_mask(root / name / "ground_truth" / "cut" / f"{seed:03}_mask.png", mask)
    photograph(root / "tile" / "test" / "hole" / "000.png", "tile", 70, "hole", size=(96, 96))
    return root


def figures(path):
    return json.loads(path.read_text())["figures"]


def test_both_detectors_are_measured_on_every_category(mvtec, tmp_path, capsys):
    out = tmp_path / "figures.json"
    run("openclip_mvtec_visa", "mvtec", mvtec, "--map-size", 64, "--out", out)
    found = figures(out)
    assert set(found) == TWO_ROWS
    for rows in found.values():
        assert set(rows) == {"leather", "tile"}
        assert all(50 < rows["leather"][metric] <= 100 for metric in METRICS)
    printed = capsys.readouterr().out
    assert "tile: 1 defective images have no mask" in printed
    means = [line for line in printed.splitlines() if "mean of 2 of 15 categories" in line]
    for line, rows in zip(means, found.values(), strict=True):
        mean = np.mean([[row[metric] for metric in METRICS] for row in rows.values()], axis=0)
        assert line.split()[-3:] == [f"{value:.1f}" for value in mean]


def test_only_a_recipe_has_published_figures(mvtec, tmp_path, capsys):
    out = tmp_path / "ours.json"
    options = ("--categories", "leather", "--map-size", 64, "--out")
    run("openclip_mvtec_visa", "mvtec", mvtec, *options, out)
    assert "ublished" not in capsys.readouterr().out
    out = tmp_path / "figures.json"
    run("openclip_mvtec_visa", "mvtec", mvtec, *options, out, "--recipe", "winclip")
    ours, published = capsys.readouterr().out.split("Published, with")
    assert set(figures(out)) == {"prompts, zero-shot"}
    assert "not measured here" in published
    assert (
        "WinCLIP zero-shot (Jeong et al., CVPR 2023)                91.8         85.1" in published
    )
    assert "WinCLIP" not in ours
    assert "WinCLIP zero-shot" not in out.read_text()


def test_an_interrupted_run_goes_on(mvtec, tmp_path, monkeypatch):
    out = tmp_path / "figures.json"
    arguments = ["mvtec", str(mvtec), "--map-size", "64", "--out", str(out)]
    example = load("openclip_mvtec_visa")
    measure, measured = example.measure, []

    def measure_until(limit):
        def measure_and_count(contestant, split, category, options):
            if len(measured) == limit:
                raise KeyboardInterrupt
            measured.append(category)
            return measure(contestant, split, category, options)

        monkeypatch.setattr(example, "measure", measure_and_count)

    measure_until(3)
    with pytest.raises(KeyboardInterrupt):
        example.main(arguments)
    kept = figures(out)
    assert measured == ["leather", "leather", "tile"]

    measure_until(None)
    example.main(arguments)
    assert measured[3:] == ["tile"]
    complete = figures(out)
    assert set(complete) == TWO_ROWS
    assert all(set(rows) == {"leather", "tile"} for rows in complete.values())
    for name, rows in kept.items():
        for category, row in rows.items():
            assert complete[name][category] == row


def test_figures_of_other_settings_are_refused(mvtec, tmp_path):
    out = tmp_path / "figures.json"
    options = ("--categories", "leather", "--out", out)
    run("openclip_mvtec_visa", "mvtec", mvtec, "--map-size", 32, *options)
    before = out.read_bytes()
    with pytest.raises(SystemExit, match="map_size was 32"):
        run("openclip_mvtec_visa", "mvtec", mvtec, "--map-size", 64, *options)
    assert out.read_bytes() == before


def test_visa_with_few_normal_images(tmp_path):
    """As prepare_data.py sorts it: .JPG, which the host does not find by itself on Linux."""
    root, out = tmp_path / "1cls", tmp_path / "figures.json"
    for seed in range(4):
        photograph(root / "pcb1/train/good" / f"{seed:04}.JPG", "circuit board", seed)
    for seed in range(2):
        photograph(root / "pcb1/test/good" / f"{seed:04}.JPG", "circuit board", 50 + seed)
        mask = photograph(root / "pcb1/test/bad" / f"{seed:03}.JPG", "circuit board", seed, "hole")
        save_mask(root / "pcb1/ground_truth/bad" / f"{seed:03}.png", mask)
    run("openclip_mvtec_visa", "visa", root, "--shots", 2, "--map-size", 64, "--out", out)
    found = figures(out)
    trained = {name: rows["pcb1"]["train"] for name, rows in found.items()}
    assert trained == {
        "prompts, zero-shot": 1, "patch-kNN, 2-shot": 2, "prompts and images, 2-shot": 2,
    }  # fmt: skip
    assert all(rows["pcb1"]["test"] == 4 for rows in found.values())
    assert all(rows["pcb1"]["pixel AUROC"] > 50 for rows in found.values())


def test_a_category_that_is_missing_is_named(mvtec, tmp_path):
    with pytest.raises(SystemExit, match="no folder screw/train; it has: leather, tile"):
        run("openclip_mvtec_visa", "mvtec", mvtec, "--categories", "screw")
