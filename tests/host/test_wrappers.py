"""What the host's Python interfaces do with both detectors, on the bundled model."""

import inspect

import numpy as np
import pytest
from pyimgano.calibration.pixel_threshold import calibrate_normal_pixel_quantile_threshold
from pyimgano.calibration.score_threshold import resolve_calibration_quantile
from pyimgano.inference.api import calibrate_threshold, infer
from pyimgano.inference.preprocessing import PreprocessingDetector
from pyimgano.inference.tiling import TiledDetector
from pyimgano.models import create_model
from pyimgano.pipelines.mvtec_visa import evaluate_split, load_benchmark_split
from pyimgano.preprocessing.catalog import list_preprocessing_schemes
from pyimgano.preprocessing.industrial_presets import IlluminationContrastKnobs
from pyimgano.serialization import save_detector
from pyimgano.services.infer_options_service import resolve_preprocessing_preset_knobs
from pyimgano.sklearn_adapter import RegistryModelEstimator
from pyimgano.training.checkpointing import save_checkpoint
from pyimgano.training.runner import micro_finetune
from pyimgano.utils import optional_deps
from pyimgano.workbench.checkpoint_restore import load_checkpoint_into_detector

from helpers.checks import assert_told_apart
from helpers.detectors import TEXT
from helpers.embedders import ColourEmbedder, red_image, red_images, with_green
from helpers.host import BUNDLED, CLASSES, passes
from helpers.parts import CATEGORY, part, with_hole
from helpers.privates import embedder_of

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("name", CLASSES)]

LIGHT = IlluminationContrastKnobs(white_balance="gray_world", clahe=True)
NORMAL = [part(seed) for seed in range(6)]
TEST = [part(10), part(11), with_hole(part(20))[0], with_hole(part(21))[0]]


@pytest.fixture(autouse=True)
def _needs_the_bundled_model():
    pytest.importorskip("open_clip")


def create(name, **settings):
    detector = create_model(name, **BUNDLED, **settings)
    assert type(detector).__name__ == CLASSES[name]
    assert type(detector).__module__.startswith("pyimgano_openclip.")
    return detector


def create_light(name, **settings):
    """With an embedder, and so without a model."""
    own = TEXT if "promptscore" in name else {}
    return create_model(name, embedder=ColourEmbedder(), **own, **settings)


class Passes:
    """Counts the images that go through the model."""

    def __init__(self, monkeypatch):
        from pyimgano_openclip.encoder.embedder import OpenCLIPPatchEmbedder as Embedder

        self.images = 0
        encode = Embedder._run

        def count(embedder, frames, request):
            self.images += len(frames)
            return encode(embedder, frames, request)

        monkeypatch.setattr(Embedder, "_run", count)


def test_the_constructor_names_what_the_host_passes_and_nothing_else(name):
    parameters = inspect.signature(type(create_light(name))).parameters
    assert {"device", "contamination", "pretrained", "random_seed"} <= set(parameters)
    kinds = {parameter.kind for parameter in parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}


def test_every_way_the_host_calls_fit(name):
    images = red_images(3)
    expected = create_light(name).fit(images).threshold_
    for way in (
        lambda detector: detector.fit(images, [0, 0, 0]),
        lambda detector: detector.fit(images, y=None),
        lambda detector: detector.fit(X=images),
        lambda detector: detector.fit(np.stack(images)),
        lambda detector: detector.fit(tuple(images)),
    ):
        detector = create_light(name)
        assert way(detector) is detector
        assert detector.threshold_ == expected


def test_an_error_in_fit_is_never_taken_for_a_wrong_signature(name):
    # The host answers a TypeError by fitting once more.
    detector = create_light(name)
    for wrong in ([], None, "a.png", red_image(), 5, object()):
        with pytest.raises(ValueError, match="x is"):
            detector.fit(wrong)
    if "promptscore" not in name:
        return
    with pytest.raises(ValueError, match="defects"):
        create_light(name, defects=["hole"])


def test_two_images_give_two_scores_not_scores_and_maps(name):
    detector = create_light(name).fit(red_images(3))
    scores = detector.decision_function([red_image(seed=4), red_image(seed=5)])
    assert isinstance(scores, np.ndarray)
    assert scores.shape == (2,)
    assert scores.dtype == np.float64


def test_maps_of_different_sizes_do_not_fit_into_one_array(name):
    detector = create_light(name).fit(red_images(2))
    with pytest.raises(ValueError, match="size"):
        detector.predict_anomaly_map([red_image(40, 40), red_image(40, 60)])


def test_the_threshold_is_set_by_fit_and_from_outside(name):
    detector = create_light(name)
    assert not hasattr(detector, "threshold_")
    images = red_images(4)
    detector.fit(images)
    assert isinstance(detector.threshold_, float)
    images = [with_green(images[0], 0, 0, side) for side in (2, 4, 6, 8)]
    scores = detector.decision_function(images)
    detector.threshold_ = float(np.sort(scores)[1])
    labels = detector.predict(images)
    np.testing.assert_array_equal(labels, scores > detector.threshold_)
    assert labels.sum() == 2


def test_nothing_tempts_the_host_to_save_the_model(name):
    detector = create_light(name)
    assert not hasattr(detector, "model")
    assert not hasattr(detector, "load")
    with pytest.raises(TypeError, match="Unsupported detector"):
        save_detector("unused.pkl", detector)


def test_training_settings_change_the_batch_and_nothing_else(name):
    detector = create(name)
    request = {"batch_size": 2, "epochs": 3, "lr": 0.1, "num_workers": 0}
    report = micro_finetune(detector, NORMAL, seed=1, fit_kwargs=request)
    assert report["fit_kwargs_used"] == {}
    assert set(report.get("detector_attr_overrides_used", {})) <= {"batch_size"}
    assert detector.threshold_ == create(name).fit(NORMAL).threshold_


def test_score_then_maps_costs_one_pass(name, monkeypatch, parts):
    split = load_benchmark_split(
        dataset="mvtec", root=str(parts.root), category=CATEGORY, resize=(64, 96)
    )
    seen = Passes(monkeypatch)
    results = evaluate_split(create(name), split, pixel_segf1=True)
    # The host keeps two of the six training images for its threshold.
    assert (len(split.train_paths), len(split.test_paths)) == (6, 4)
    assert seen.images == passes(name, fitted=4, scored=6)
    assert results["auroc"] == 1
    assert results["pixel_metrics"]["pixel_auroc"] > 0.9


@pytest.mark.parametrize("as_paths", [True, False], ids=["paths", "arrays"])
def test_infer_with_maps_costs_one_pass(name, monkeypatch, parts, as_paths):
    detector = create(name).fit(NORMAL)
    paths = [str(path) for folder in (parts.good, parts.damaged) for path in folder.iterdir()]
    images, format_ = (paths, None) if as_paths else (TEST, "rgb_u8_hwc")
    seen = Passes(monkeypatch)
    records = infer(
        detector, images, input_format=format_, include_maps=True, include_confidence=True
    )
    assert seen.images == 4
    assert_told_apart([record.score for record in records])
    assert all(record.anomaly_map.shape == (64, 96) for record in records)
    assert all(0 <= record.label_confidence <= 1 for record in records)


def test_a_model_built_where_the_host_scores_is_as_usable_as_any(name):
    torch = pytest.importorskip("torch")
    plain = create(name).fit(NORMAL)
    detector = create(name)
    with torch.inference_mode():
        detector.fit(NORMAL)
        scores = detector.decision_function(TEST)
    np.testing.assert_array_equal(scores, plain.decision_function(TEST))
    parameters = list(embedder_of(detector).visual.parameters())
    assert not any(parameter.is_inference() for parameter in parameters)
    with torch.enable_grad():  # which tensors of inference mode refuse
        parameters[0].requires_grad_().sum().backward()
    assert parameters[0].grad is not None


def test_calibration_sets_the_threshold(name):
    detector = create(name).fit(NORMAL)
    held_out = [part(seed) for seed in range(30, 36)]
    threshold = calibrate_threshold(
        detector, held_out, input_format="rgb_u8_hwc", quantile=0.8, batch_size=2
    )
    assert detector.threshold_ == threshold
    assert (detector.predict(held_out) == 1).mean() <= 0.34
    pixels = calibrate_normal_pixel_quantile_threshold(detector.predict_anomaly_map(held_out))
    assert np.isfinite(pixels)


def test_the_host_takes_its_quantile_from_the_contamination(name):
    detector = create_light(name, contamination=0.2)
    for asked in (detector, TiledDetector(detector=detector, tile_size=20)):
        found = resolve_calibration_quantile(asked, calibration_quantile=None)
        assert found == (0.8, "contamination")


def test_confidence_probability_and_rejection(name):
    detector = create(name).fit(NORMAL)
    confidence = detector.predict_confidence(TEST)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    probability = detector.predict_proba(TEST)
    assert probability.shape == (4, 2)
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    labels = detector.predict_with_rejection(TEST, confidence_threshold=1.0)
    assert set(labels) <= {0, 1, -2}
    labels, sure = detector.predict(TEST, return_confidence=True)
    np.testing.assert_array_equal(sure, confidence)
    np.testing.assert_array_equal(labels[2:], 1)


def test_get_params_builds_the_same_detector(name):
    detector = create(name, contamination=0.2, aggregation_method="max")
    assert type(detector)(**detector.get_params()).get_params() == detector.get_params()


@pytest.mark.parametrize(
    "preset", [scheme.name for scheme in list_preprocessing_schemes(deployable_only=True)]
)
def test_every_preset_of_preprocessing_that_can_be_deployed(name, preset):
    knobs = resolve_preprocessing_preset_knobs(preset)
    wrapped = PreprocessingDetector(detector=create_light(name), illumination_contrast=knobs)
    images = red_images(3)
    wrapped.fit(images)
    whole, damaged = wrapped.decision_function([red_image(seed=4), with_green(images[0], 10, 10)])
    assert np.isfinite([whole, damaged]).all()
    assert wrapped.get_anomaly_map(images[0]).shape == (40, 40)


def test_tiles_of_an_image_are_put_together(name):
    tiled = TiledDetector(
        detector=create(name), tile_size=48, stride=32, map_reduce="hann", score_reduce="max"
    )
    assert tiled.fit(NORMAL) is not None
    assert_told_apart(tiled.decision_function(TEST))
    maps = tiled.predict_anomaly_map(TEST)
    assert maps.shape == (4, 64, 96)
    assert np.isfinite(maps).all()


def test_preprocessing_before_the_detector(name):
    wrapped = PreprocessingDetector(detector=create(name), illumination_contrast=LIGHT)
    wrapped.fit(NORMAL)
    assert np.isfinite(wrapped.decision_function(TEST)).all()
    assert wrapped.predict_anomaly_map(TEST).shape == (4, 64, 96)
    assert wrapped.get_anomaly_map(TEST[0]).shape == (64, 96)
    wrapped.detector.threshold_ = 0.5
    assert wrapped.threshold_ == 0.5


@pytest.mark.parametrize("wrap", [False, True], ids=["plain", "tiled"])
def test_a_checkpoint_is_written_and_read_back_with_equal_scores(name, wrap, tmp_path):
    def make(seed):
        detector = create(name, random_seed=seed)
        return TiledDetector(detector=detector, tile_size=48) if wrap else detector

    saved = make(seed=5)
    saved.fit(NORMAL)
    path = save_checkpoint(saved, tmp_path / "model.pt")
    # A run is read back without its seed.
    loaded = make(seed=0)
    load_checkpoint_into_detector(loaded, path)
    np.testing.assert_array_equal(loaded.decision_function(TEST), saved.decision_function(TEST))
    np.testing.assert_array_equal(loaded.predict_anomaly_map(TEST), saved.predict_anomaly_map(TEST))
    assert loaded.threshold_ == saved.threshold_


def test_scikit_learn_clones_and_searches(name):
    base = pytest.importorskip("sklearn.base")
    estimator = RegistryModelEstimator(name, **BUNDLED, contamination=0.2)
    copy = base.clone(estimator)
    assert copy.get_params() == estimator.get_params()
    copy.set_params(aggregation_method="max").fit(NORMAL)
    assert copy.detector_.aggregation_method == "max"
    assert copy.detector_.contamination == 0.2
    assert_told_apart(copy.score_samples(TEST))
    np.testing.assert_array_equal(copy.predict(TEST)[2:], 1)


def test_without_open_clip_the_host_says_how_to_get_it(name, monkeypatch):
    original = optional_deps.optional_import

    def missing(module, *arguments):
        if module == "open_clip":
            return None, ModuleNotFoundError("No module named 'open_clip'")
        return original(module, *arguments)

    monkeypatch.setattr(optional_deps, "optional_import", missing)
    with pytest.raises(ImportError, match=r"OpenCLIP detectors[\s\S]*pyimgano\[clip\]"):
        create_model(name)


def test_names_of_settings_that_users_of_the_host_have_in_their_configs(name):
    common = {
        "openclip_model_name": "bundled", "openclip_pretrained": None, "device": "cpu",
        "force_image_size": 64, "contamination": 0.1, "aggregation_method": "topk_mean",
        "aggregation_topk": 0.1, "random_seed": 1,
    }  # fmt: skip
    own = {
        "vision_openclip_patchknn": {
            "knn_backend": "sklearn", "n_neighbors": 1, "coreset_sampling_ratio": 0.5
        },
        "vision_openclip_promptscore": {
            "class_name": "plate", "mode": "diff",
            "text_prompts": {"normal": ["a plate"], "anomaly": ["a plate with a hole"]},
        },
        "vision_openclip_mutual": {"layers": [0.5], "neighbourhoods": [1]},
    }  # fmt: skip
    scores = create_model(name, **common, **own[name]).fit(NORMAL).decision_function(TEST)
    assert np.isfinite(scores).all()


class PathEmbedder:
    """Reads nothing: the name of a file says what is on it."""

    def embed(self, path):
        token = (0.0, 1.0) if "damaged" in path else (1.0, 0.0)
        return np.tile(np.float32(token), (4, 1)), (2, 2), (8, 12)


def test_an_embedder_may_read_paths_that_this_package_cannot(name):
    own = {
        "vision_openclip_patchknn": {"knn_backend": "sklearn", "n_neighbors": 1},
        "vision_openclip_promptscore": {
            "text_features_normal": [1.0, 0.0], "text_features_anomaly": [0.0, 1.0]
        },
    }  # fmt: skip
    settings = {"aggregation_topk": 0.25, **own.get(name, {})}
    detector = create_model(name, embedder=PathEmbedder(), **settings)
    detector.fit(["camera://1", "camera://2"])
    whole, damaged = detector.decision_function(["camera://3", "camera://damaged"])
    assert whole < damaged
    heat = detector.get_anomaly_map("camera://damaged")
    assert heat.shape == (8, 12)
    assert heat.dtype == np.float32


def test_a_green_square_is_found_through_tiles(name):
    images = red_images(3, 60, 80)
    tiled = TiledDetector(detector=create_light(name), tile_size=40, map_reduce="max")
    tiled.fit(images)
    heat = tiled.get_anomaly_map(with_green(images[0], top=45, left=65))
    row, column = np.unravel_index(np.argmax(heat), heat.shape)
    assert 40 <= row < 60
    assert 60 <= column < 80
