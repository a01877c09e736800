"""pyimgano-infer, as a user runs it, with the plugin only installed; nothing here has a network."""

import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.checks import assert_told_apart
from helpers.host import BUNDLED, CLASSES, MODEL, passes
from helpers.parts import part, save
from helpers.processes import run

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", CLASSES)]

INFER = "pyimgano-infer"
SIZE = (64, 96)  # pixels, height and width


@pytest.fixture
def infer(host, parts, tmp_path):
    """Fit on the whole plates and score the others; what ran, and the records it wrote."""

    def fit_and_score(name, *arguments, inputs=(), fails=False):
        file = tmp_path / "records.jsonl"
        told = [
            part for path in inputs or (parts.good, parts.damaged) for part in ("--input", path)
        ]
        fit = () if "--train-dir" in arguments else ("--train-dir", parts.train)
        command = (INFER, "--model", name, *MODEL, *fit, *told, "--save-jsonl", file, *arguments)
        ran = host.try_run(*command) if fails else host.run(*command)
        assert {detector["class"] for detector in ran.detectors} == {CLASSES[name]}
        return ran, [json.loads(line) for line in file.read_text().splitlines()]

    return fit_and_score


def scores_of(records):
    return np.array([record["score"] for record in records])


def test_the_installed_command_finds_the_damaged_plates(name, parts, tmp_path):
    script = Path(sysconfig.get_path("scripts")) / INFER
    inputs = ("--input", parts.good, "--input", parts.damaged)
    file = tmp_path / "records.jsonl"
    run(script, "--model", name, *MODEL, "--train-dir", parts.train, *inputs, "--save-jsonl", file)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    assert_told_apart(scores_of(records))
    assert [record["label"] for record in records][2:] == [1, 1]


def test_maps_have_the_size_of_the_images_and_cost_no_second_pass(infer, name, tmp_path):
    ran, records = infer(name, "--include-maps", "--save-maps", tmp_path / "maps")
    assert_told_apart(scores_of(records))
    assert ran.encoded == passes(name, fitted=6, scored=4)
    for record in records:
        heat = np.load(record["anomaly_map"]["path"])
        assert heat.shape == SIZE
        assert heat.dtype == np.float32
        assert np.isfinite(heat).all()
    assert heat[20:36, 50:72].mean() > 2 * heat.mean()


def test_a_published_method_is_chosen_by_the_models_arguments(infer, name):
    if name != "vision_openclip_promptscore":
        pytest.skip("recipes of prompts")
    kwargs = json.dumps({**BUNDLED, "recipe": "winclip", "class_name": "steel"})
    ran, records = infer(name, "--model-kwargs", kwargs)
    assert ran.settings["recipe"] == "winclip"
    assert np.isfinite(scores_of(records)).all()


def test_settings_of_the_command_line_arrive(infer, name):
    ran, _ = infer(name, "--seed", "5", "--contamination", "0.2", "--device", "cpu")
    assert ran.settings["random_seed"] == 5
    assert ran.settings["contamination"] == 0.2
    assert ran.settings["device"] == "cpu"
    assert ran.settings["pretrained"] is False
    ran, _ = infer(name, "--pretrained")
    assert ran.settings["pretrained"] is True


def test_the_same_seed_gives_the_same_scores(infer, name):
    first, second = (scores_of(infer(name, "--seed", "5")[1]) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_the_threshold_of_fit_decides(infer, name):
    ran, records = infer(name)
    threshold = ran.detectors[0]["threshold"]
    assert [record["label"] for record in records] == (scores_of(records) > threshold).tolist()
    assert [record["label"] for record in records][2:] == [1, 1]


def test_contamination_and_a_quantile_of_the_calibration_move_the_threshold(infer, name):
    high, middle, low = (
        infer(name, *arguments)[0].detectors[0]["threshold"]
        for arguments in (
            ("--contamination", "0.1"),
            ("--contamination", "0.4"),
            ("--contamination", "0.4", "--calibration-quantile", "0.05"),
        )
    )
    assert high > middle > low > 0


def test_without_a_file_the_records_are_printed(host, name, parts):
    command = (INFER, "--model", name, *MODEL, "--train-dir", parts.train)
    ran = host.run(*command, "--input", parts.good, "--input", parts.damaged)
    records = [json.loads(line) for line in ran.out.splitlines() if line[:1] == "{"]
    assert_told_apart(scores_of(records))


def test_confidence_and_rejection(infer, name):
    ran, records = infer(name, "--include-confidence")
    confidence = np.array([record["label_confidence"] for record in records])
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert ran.encoded == passes(name, fitted=6, scored=4)
    _, records = infer(name, "--reject-confidence-below", "1", "--reject-label", "-9")
    unsure = (confidence < 1).tolist()
    assert [record["rejected"] for record in records] == unsure
    assert [record["label"] == -9 for record in records] == unsure


def test_defects_and_masks_by_a_given_threshold(infer, name, tmp_path):
    ran, records = infer(
        name, "--defects", "--pixel-threshold", "0.3", "--save-masks", tmp_path / "masks",
        "--save-overlays", tmp_path / "overlays", "--defects-image-space",
        "--include-maps", "--save-maps", tmp_path / "maps",
    )  # fmt: skip
    assert ran.encoded == passes(name, fitted=6, scored=4)
    for record in records:
        heat = np.load(record["anomaly_map"]["path"])
        mask = np.asarray(Image.open(record["defects"]["mask"]["path"]))
        np.testing.assert_array_equal(mask > 0, heat >= 0.3)
        assert bool(record["defects"]["regions"]) == mask.any()
    assert len(list((tmp_path / "overlays").iterdir())) == 4


def test_the_default_threshold_of_pixels_is_a_quantile_of_the_training_maps(infer, name):
    _, records = infer(name, "--defects")
    threshold = records[0]["defects"]["pixel_threshold"]
    assert np.isfinite(threshold)
    if "patchknn" in name:
        # The host scores the training images once more; they keep the scores of their training.
        assert threshold > 1e-3


@pytest.mark.parametrize(
    "wrapper",
    [
        ("--tile-size", "48", "--tile-stride", "32", "--tile-map-reduce", "hann"),
        ("--preprocessing-preset", "illumination-contrast-balanced"),
        ("--preprocessing-preset", "illumination-contrast-balanced", "--tile-size", "48"),
    ],
    ids=["tiles", "preprocessing", "both"],
)
def test_tiles_and_preprocessing(infer, name, wrapper, tmp_path):
    _, records = infer(name, "--include-maps", "--save-maps", tmp_path / "maps", *wrapper)
    assert np.isfinite(scores_of(records)).all()
    assert all(record["label"] in (0, 1) for record in records)
    for record in records:
        heat = np.load(record["anomaly_map"]["path"])
        assert heat.shape == SIZE
        assert np.isfinite(heat).all()


def test_images_of_mixed_sizes_one_at_a_time(infer, name, parts, tmp_path):
    wide = save(tmp_path / "wide.png", part(30, 60, 140))
    _, records = infer(
        name, "--include-maps", "--save-maps", tmp_path / "maps", "--batch-size", "1",
        inputs=(parts.good, wide),
    )  # fmt: skip
    shapes = [np.load(record["anomaly_map"]["path"]).shape for record in records]
    assert shapes == [SIZE, SIZE, (60, 140)]


def test_mixed_sizes_are_scored_at_once_without_maps(infer, name, parts, tmp_path):
    wide = save(tmp_path / "wide.png", part(30, 60, 140))
    _, records = infer(name, inputs=(parts.good, wide))
    assert np.isfinite(scores_of(records)).all()


def test_a_broken_file_is_named_and_the_others_are_scored(infer, name, parts, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((parts.good / "0.png").read_bytes()[:200])
    ran, records = infer(name, "--continue-on-error", inputs=(broken, parts.damaged), fails=True)
    assert ran.status == 1
    assert [record["status"] for record in records] == ["error", "ok", "ok"]
    assert "broken.png" in records[0]["error"]["message"]


def test_no_pretrained_never_reaches_for_the_network(host, name, parts, tmp_path):
    # Weights of this model would have to be fetched.
    model = json.dumps({"openclip_model_name": "ViT-S-32-alt", "openclip_pretrained": "openai"})
    command = (INFER, "--model", name, "--model-kwargs", model, "--train-dir", parts.train)
    command = (*command, "--input", parts.good, "--save-jsonl", tmp_path / "records.jsonl")
    ran = host.run(*command, "--no-pretrained")
    assert "random weights" in ran.err
    assert ran.settings["pretrained"] is False
    records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert np.isfinite(scores_of(records)).all()


def test_pretrained_asks_the_network_and_says_what_to_do_without(host, name, parts):
    # The other half of the test above: there is something to forbid.
    model = json.dumps({"openclip_model_name": "ViT-B-32", "openclip_pretrained": "laion400m_e31"})
    command = (INFER, "--model", name, "--model-kwargs", model, "--pretrained")
    ran = host.try_run(*command, "--train-dir", parts.train, "--input", parts.good)
    assert ran.status != 0
    assert ran.network
    assert "local-dir:" in ran.err


def test_a_misspelt_setting_is_named(host, name, parts):
    model = json.dumps({"openclip_model_name": "bundled", "aggregation": "max"})
    ran = host.try_run(INFER, "--model", name, "--model-kwargs", model, "--input", parts.good)
    assert ran.status != 0
    assert "aggregation" in ran.err
