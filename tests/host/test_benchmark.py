"""pyimgano-benchmark, -robust-benchmark and -evaluate, and the commands that list models."""

import json

import pytest

from helpers.checks import assert_finite
from helpers.host import CLASSES, MODEL, passes
from helpers.parts import CATEGORY

pytestmark = [pytest.mark.slow]

each = pytest.mark.parametrize("name", CLASSES)


@pytest.fixture
def benchmark(host, parts, tmp_path):
    """Benchmark on the plates; what ran, and its report."""

    def run(name, *arguments, script="pyimgano-benchmark"):
        data = ("--dataset", "mvtec", "--root", parts.root, "--category", CATEGORY)
        file = tmp_path / "report.json"
        # The option for images comes last: it takes all that follows.
        size = ("--resize", "64", "96")
        ran = host.run_model(script, name, *data, *size, "--output", file, *arguments)
        return ran, json.loads(file.read_text())

    return run


@each
@pytest.mark.parametrize("mode", ["paths", "numpy"])
def test_image_scores(benchmark, name, mode, tmp_path):
    ran, report = benchmark(
        name, "--input-mode", mode, "--seed", "3", "--contamination", "0.2", "--device", "cpu",
        "--output-dir", tmp_path / "run",
    )  # fmt: skip
    assert report["results"]["auroc"] == 1
    assert_finite(report)
    assert ran.settings["random_seed"] == 3
    assert ran.settings["contamination"] == 0.2
    assert ran.settings["device"] == "cpu"
    assert ran.settings["pretrained"] is False
    records = (tmp_path / "run" / "categories" / CATEGORY / "per_image.jsonl").read_text()
    assert len(records.splitlines()) == 4


@each
def test_pixel_scores_cost_no_second_pass(benchmark, name):
    ran, report = benchmark(name, "--pixel", "--pixel-segf1", "--seed", "3")
    assert ran.encoded == passes(name, fitted=4, scored=6)
    metrics = report["results"]["pixel_metrics"]
    assert metrics["pixel_auroc"] > 0.9
    assert metrics["pixel_segf1"] > 0.3
    assert_finite(report)


@each
@pytest.mark.parametrize("strategy", ["normal_pixel_quantile", "supervised_segf1"])
def test_pixel_scores_after_smoothing(benchmark, name, strategy):
    _, report = benchmark(
        name, "--pixel", "--pixel-segf1", "--pixel-threshold-strategy", strategy,
        "--pixel-postprocess", "--pixel-post-gaussian-sigma", "1",
    )  # fmt: skip
    assert report["results"]["pixel_metrics"]["pixel_auroc"] > 0.9


@each
def test_the_same_seed_gives_the_same_report(benchmark, name):
    first, second = (benchmark(name, "--pixel", "--seed", "3")[1]["results"] for _ in range(2))
    assert first == second


@each
def test_robust_benchmark_on_arrays_and_on_paths(benchmark, name):
    script = "pyimgano-robust-benchmark"
    ran, report = benchmark(
        name, "--severities", "1", "--corruptions", "blur,jpeg", "--input-mode", "numpy",
        "--seed", "3", "--contamination", "0.2", "--device", "cpu", script=script,
    )  # fmt: skip
    assert ran.encoded > 0
    assert_finite(report)
    assert ran.settings["contamination"] == 0.2
    assert ran.settings["device"] == "cpu"
    assert ran.settings["pretrained"] is False
    _, report = benchmark(name, "--input-mode", "paths", script=script)
    assert_finite(report)


@each
@pytest.mark.parametrize("script", ["pyimgano-benchmark", "pyimgano-robust-benchmark"])
def test_a_misspelt_setting_is_named(host, parts, name, script):
    model = json.dumps({"openclip_model_name": "bundled", "aggregation": "max"})
    data = ("--dataset", "mvtec", "--root", parts.root, "--category", CATEGORY)
    ran = host.try_run(script, "--model", name, "--model-kwargs", model, *data)
    assert ran.status != 0
    assert "aggregation" in ran.err
    assert ran.detectors == []


@each
def test_the_host_pickles_no_deep_detector(host, parts, name, tmp_path):
    # Not ours to change: --save-detector takes the host's classical detectors only.
    data = ("--dataset", "mvtec", "--root", parts.root, "--category", CATEGORY)
    file = tmp_path / "detector.pkl"
    ran = host.try_run(
        "pyimgano-benchmark", "--model", name, *MODEL, *data, "--save-detector", file
    )
    assert ran.status == 1
    assert "Unsupported detector for pickle" in ran.err
    assert not file.exists()


def test_evaluate_runs_on_the_default_model_without_network(host, parts, tmp_path):
    # The command takes no arguments of a model: the default one, here with random weights.
    name = "vision_openclip_patchknn"
    config = {
        "output_dir": str(tmp_path / "evaluation"),
        "datasets": [{"name": "mvtec", "root": str(parts.root), "categories": [CATEGORY]}],
        "models": {"include": [name]},
        "runtime": {"device": "cpu", "pretrained": False, "save_run": False},
    }
    file = tmp_path / "evaluate.json"
    file.write_text(json.dumps(config))
    ran = host.run("pyimgano-evaluate", "--config", file, "--json")
    assert ran.json["entries_succeeded"] == 1
    assert {detector["class"] for detector in ran.detectors} == {CLASSES[name]}
    (entry,) = (tmp_path / "evaluation" / "evaluation_matrix.jsonl").read_text().splitlines()
    assert_finite(json.loads(entry)["benchmark"])


def test_pyim_lists_and_finds_them_by_tag(host):
    assert set(CLASSES) <= set(host.run("pyim", "--list", "models", "--json").json)
    tags = ("--tags", "vision,deep,clip,openclip,numpy,pixel_map")
    found = host.run("pyim", "--list", "models", *tags, "--json").json
    assert set(found) == set(CLASSES)


def test_the_audit_of_metadata_finds_nothing_wrong_with_them(host):
    # Its exit status counts the host's own models, some of which lack what it asks for.
    report = host.try_run("pyim", "--audit-metadata", "--json").json
    for kind in ("required_missing", "recommended_missing", "invalid_fields"):
        assert not set(CLASSES) & set(report[f"{kind}_by_model"])


@pytest.mark.parametrize("script", ["pyimgano-infer", "pyimgano-robust-benchmark"])
def test_the_commands_list_them(host, script):
    assert set(CLASSES) <= set(host.run(script, "--list-models").out.split())


@each
def test_the_doctor_misses_nothing_for_them(host, name):
    ran = host.run("pyimgano-doctor", "--json", "--recommend-extras", "--for-model", name)
    advice = ran.json["extras_recommendation"]
    assert advice["supports_pixel_map"] is True
    # The host recommends faiss for everything with a memory bank; ours searches without it too.
    assert set(advice["missing_extras"]) <= {"faiss"}
