"""pyimgano-train with the recipe industrial-adapt, and pyimgano-infer on what it leaves behind."""

import json

import numpy as np
import pytest

from helpers.checks import assert_finite
from helpers.host import BUNDLED, CLASSES, passes
from helpers.parts import CATEGORY

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", CLASSES)]

TILES = {"tile_size": 48, "stride": 32, "map_reduce": "gaussian"}
TRAINING = {"enabled": True, "epochs": 2, "lr": 0.1, "batch_size": 4, "num_workers": 0}


@pytest.fixture
def train(host, parts, tmp_path):
    """Train by a config, with some sections of it changed; what ran, and the run's folder."""

    def train_by(name, *arguments, fails=False, **sections):
        folder = tmp_path / "run"
        config = {
            "recipe": "industrial-adapt",
            "seed": 4,
            "dataset": {
                "name": "mvtec", "root": str(parts.root), "category": CATEGORY, "resize": [64, 96]
            },
            "model": {
                "name": name, "device": "cpu", "contamination": 0.2, "pretrained": False,
                "model_kwargs": BUNDLED,
            },
            "output": {"output_dir": str(folder)},
            **sections,
        }  # fmt: skip
        file = tmp_path / "config.json"
        file.write_text(json.dumps(config))
        run = host.try_run if fails else host.run
        return run("pyimgano-train", "--config", file, *arguments), folder

    return train_by


@pytest.fixture
def infer(host, parts, tmp_path):
    """Score the test images by what a run left; what ran, and the records it wrote."""

    def score(*arguments):
        file = tmp_path / "records.jsonl"
        inputs = ("--input", parts.good, "--input", parts.damaged)
        ran = host.run("pyimgano-infer", *arguments, *inputs, "--save-jsonl", file)
        return ran, lines(file)

    return score


def lines(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def scores_of(records):
    return {record["input"]: record["score"] for record in records}


@pytest.mark.parametrize("training", [{"enabled": False}, TRAINING], ids=["fit", "training"])
def test_a_run_is_written_and_read_back_with_equal_scores(train, infer, name, training):
    ran, folder = train(name, "--export-infer-config", training=training)
    assert ran.settings["random_seed"] == 4
    assert ran.settings["contamination"] == 0.2
    assert ran.settings["device"] == "cpu"
    assert ran.settings["pretrained"] is False
    assert ran.detectors[0]["class"] == CLASSES[name]
    report = json.loads((folder / "categories" / CATEGORY / "report.json").read_text())
    assert report["results"]["auroc"] == 1
    assert_finite(report["results"])
    # Each image once, the two that the host keeps for its threshold too.
    assert ran.encoded == passes(name, fitted=4, scored=6)

    trained = lines(folder / "categories" / CATEGORY / "per_image.jsonl")
    config = folder / "artifacts" / "infer_config.json"
    for source in (("--from-run", folder), ("--infer-config", config)):
        read, records = infer(*source)
        assert read.detectors[0]["class"] == CLASSES[name]
        assert read.detectors[0]["threshold"] == report["threshold"]
        assert scores_of(records) == scores_of(trained)
        assert [record["label"] for record in records] == [record["pred"] for record in trained]


def test_the_checkpoint_is_ours_and_small(train, name):
    _, folder = train(name)
    (file,) = (folder / "checkpoints" / CATEGORY).iterdir()
    assert b"pyimgano-openclip" in file.read_bytes()[:10_000]
    # Patch-kNN stores the patches of five views of each image.
    views = passes(name, fitted=1, scored=0)
    assert file.stat().st_size < 2 * 2**20 * views


def test_tiles_preprocessing_and_maps(train, infer, name):
    adaptation = {"tiling": TILES, "save_maps": True, "postprocess": {"normalize": True}}
    light = {"illumination_contrast": {"white_balance": "gray_world", "clahe": True}}
    ran, folder = train(name, "--export-infer-config", adaptation=adaptation, preprocessing=light)
    assert ran.detectors[0]["class"] == CLASSES[name]
    for file in (folder / "artifacts" / "maps").iterdir():
        heat = np.load(file)
        assert heat.shape == (64, 96)
        assert np.isfinite(heat).all()
    _, records = infer("--infer-config", folder / "artifacts" / "infer_config.json")
    trained = lines(folder / "categories" / CATEGORY / "per_image.jsonl")
    assert scores_of(records) == scores_of(trained)


def test_resuming_from_a_checkpoint(train, name):
    _, folder = train(name)
    (file,) = (folder / "checkpoints" / CATEGORY).iterdir()
    kept = file.rename(folder.parent / "kept.safetensors")
    training = {**TRAINING, "resume_from_checkpoint": str(kept)}
    ran, _ = train(name, training=training)
    assert ran.detectors[0]["class"] == CLASSES[name]


def test_a_deploy_bundle_is_complete_and_runs(train, infer, name):
    _, folder = train(name, "--export-infer-config", "--export-deploy-bundle")
    _, records = infer("--infer-config", folder / "deploy_bundle" / "infer_config.json")
    trained = lines(folder / "categories" / CATEGORY / "per_image.jsonl")
    assert scores_of(records) == scores_of(trained)


def test_an_exported_config_is_valid(train, host, name):
    _, folder = train(name, "--export-infer-config")
    config = folder / "artifacts" / "infer_config.json"
    checked = host.run("pyimgano-validate-infer-config", config, "--json").json
    assert checked["model"]["name"] == name
    assert checked["model"]["model_kwargs"] == BUNDLED


def test_a_misspelt_setting_is_named(train, name):
    model = {"name": name, "model_kwargs": {**BUNDLED, "aggregation": "max"}}
    ran, _ = train(name, model=model, fails=True)
    assert ran.status != 0
    assert "aggregation" in ran.err
    assert ran.detectors == []


def test_preflight_finds_nothing_wrong(train, name):
    light = {"illumination_contrast": {"white_balance": "gray_world"}}
    adaptation = {"tiling": TILES, "save_maps": True}
    ran, folder = train(name, "--preflight", "--json", adaptation=adaptation, preprocessing=light)
    assert ran.json["preflight"]["issues"] == []
    assert ran.detectors == []
    assert not folder.exists()


def test_training_on_arrays(train, parts, name):
    dataset = {"name": "mvtec", "root": str(parts.root), "category": CATEGORY}
    _, folder = train(name, dataset={**dataset, "resize": [64, 96], "input_mode": "numpy"})
    report = json.loads((folder / "categories" / CATEGORY / "report.json").read_text())
    assert report["results"]["auroc"] == 1
