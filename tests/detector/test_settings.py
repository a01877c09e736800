"""The arguments of both detectors: read, changed, cloned, or refused."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone, is_outlier_detector
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.detector.base import OpenCLIPDetector

from helpers.detectors import EACH, mutual, patchknn, promptscore
from helpers.embedders import red_images

NORMAL = red_images(12)


@EACH
def test_every_setting_can_be_read_and_changed(build):
    detector = build(contamination=0.2)
    names = set(inspect.signature(type(detector)).parameters)
    assert set(detector.get_params()) == names
    detector.fit(NORMAL)
    detector.set_params(contamination=0.3)
    assert detector.contamination == 0.3
    assert not hasattr(detector, "threshold_")
    with pytest.raises(ValueError, match="contaminaton"):
        detector.set_params(contaminaton=0.1)
    with pytest.raises(ValueError, match="contamination"):
        detector.set_params(contamination=0.7)
    assert detector.contamination == 0.3


@EACH
def test_what_more_than_thresholds_depends_on_cannot_be_assigned(build):
    detector = build()
    free = {"on_error", "channel_order", "contamination", "confidence", "batch_size"}
    for fitted in (False, True):
        if fitted:
            detector.fit(NORMAL)
        for name in detector.get_params().keys() - free:
            before = getattr(detector, name)
            with pytest.raises(AttributeError, match=f"{name}.* cannot be assigned.*use set_"):
                setattr(detector, name, "another")
            assert getattr(detector, name) is before
            setattr(detector, name, before)


@pytest.mark.parametrize("build", [patchknn, promptscore, mutual])
def test_thresholds_follow_what_is_assigned(build):
    images = red_images(12)
    for green, image in enumerate(images):
        image[..., 1] = 4 * green
    detector = build().fit(images)
    for share in (0.4, 0.2, 0.1):
        fresh = build(contamination=share).fit(images)
        detector.contamination = share
        assert detector.threshold_ == fresh.threshold_
        np.testing.assert_array_equal(detector.labels_, fresh.labels_)
    for wrong in (0, -1, 5, "high", None):
        with pytest.raises(ValueError, match="contamination"):
            detector.contamination = wrong
    assert detector.contamination == 0.1
    with pytest.raises(ValueError, match="on_error"):
        detector.on_error = "NaN"
    with pytest.raises(ValueError, match="batch_size"):
        detector.batch_size = 0
    detector.batch_size = 3
    assert detector.batch_size == 3


@pytest.mark.parametrize("build", [patchknn, promptscore, mutual])
@pytest.mark.parametrize("share", [0.1, float("0.1")], ids=["the same object", "an equal one"])
def test_a_share_that_is_assigned_again_takes_effect_as_any_other(build, share):
    """As use_pot_thresholding() says; its facts go with its threshold."""
    same = 0.1
    detector = build(contamination=same).fit(red_images(12))
    by_quantile = detector.threshold_
    detector.use_pot_thresholding(tail_fraction=0.6, min_exceedances=3)
    detector.contamination = same if share is same else share
    assert detector.pot_info_["tail_fraction"] == 0.6
    detector.use_quantile_thresholding()
    detector.contamination = detector.contamination
    assert detector.threshold_ == by_quantile
    assert not hasattr(detector, "pot_info_")


def test_the_threshold_follows_an_assigned_confidence():
    detector = patchknn().fit(NORMAL)
    detector.confidence = 0.5
    assert detector.threshold_ == patchknn(confidence=0.5).fit(NORMAL).threshold_
    with pytest.raises(ValueError, match="confidence"):
        detector.confidence = 1.5
    assert detector.confidence == 0.5


@EACH
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"contamination": 0}, r"\(0, 0.5\]"),
        ({"contamination": 0.6}, r"\(0, 0.5\]"),
        ({"contamination": "high"}, "contamination"),
        ({"batch_size": 0}, "batch_size"),
        ({"aggregation_method": "median"}, "topk_mean, max, mean"),
        ({"aggregation_topk": 0}, "aggregation_topk"),
        ({"aggregation_topk": 1.5}, "aggregation_topk"),
        ({"embedder": object()}, "embed"),
        ({"random_seed": 1.5}, "whole number from 0"),
        ({"random_seed": -1}, "whole number from 0"),
        ({"random_seed": "7"}, "whole number from 0"),
        ({"random_seed": None}, "whole number from 0"),
        ({"random_seed": 2**63}, "whole number from 0"),
    ],
)
def test_wrong_settings_are_refused(build, settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"knn_backend": "annoy"}, "sklearn"),
        ({"coreset_sampling_ratio": 0}, "coreset_sampling_ratio"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"max_patches": 0}, "max_patches"),
    ],
)
def test_wrong_settings_of_patchknn_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        patchknn(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "softmax"}, "probability, diff, ratio"),
        ({"attention": "vq"}, "vv, qq, kk, none"),
        ({"class_name": ""}, "class_name"),
        ({"text_features_anomaly": None}, "text_features_anomaly is missing"),
        ({"text_features_normal": None}, "text_features_normal is missing"),
        ({"text_features_normal": None, "text_features_anomaly": None}, "custom embedder"),
        ({"text_features_normal": [1, 0]}, "differ in length"),
        ({"normal_states": ["good {}"]}, "normal_states are sentences to encode"),
        ({"templates": ["a {}"]}, "templates are sentences to encode"),
        ({"windows": np.array([2, 0])}, "windows=0"),
        ({"windows": np.array([2, 3]), "mode": "diff"}, r"windows=\(2, 3\) need mode"),
        ({"text_prompts": {"normal": ["a"], "anomaly": ["b"]}}, "text_prompts are sentences"),
    ],
)
def test_wrong_settings_of_promptscore_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        promptscore(**settings)


@EACH
def test_numbers_of_numpy_become_those_of_python(build, tmp_path):
    share = np.float32(0.25)
    detector = build(contamination=share, aggregation_topk=share, batch_size=np.int64(2))
    assert type(detector.contamination) is type(detector.aggregation_topk) is float
    path = detector.fit(NORMAL).save_checkpoint(tmp_path / "d")
    assert build(aggregation_topk=0.25).load_checkpoint(path).contamination == 0.25
    for wrong in (np.float32("nan"), np.True_, "0.1", None):
        with pytest.raises(ValueError, match="contamination"):
            build(contamination=wrong)


@EACH
def test_scikit_learn_clones_a_detector(build):
    settings = {"contamination": np.float32(0.25), "openclip_pretrained": Path("w.pt")}
    if build is promptscore:
        settings["windows"] = np.array([2, 3])
    detector = build(**settings)
    twin = clone(detector)
    assert twin.openclip_pretrained == "w.pt"
    assert repr(twin.get_params()["contamination"]) == "0.25"
    assert getattr(twin, "windows", (2, 3)) == (2, 3)


@EACH
def test_misspelt_settings_are_refused(build):
    with pytest.raises(TypeError, match="contaminatoin"):
        build(contaminatoin=0.1)


@EACH
def test_the_class_lists_its_real_arguments(build):
    parameters = inspect.signature(type(build())).parameters.values()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    expected = {
        "embedder", "openclip_model_name", "openclip_pretrained", "device", "force_image_size",
        "contamination", "aggregation_method", "aggregation_topk", "random_seed", "pretrained",
    }  # fmt: skip
    assert expected <= {p.name for p in parameters}


@pytest.mark.parametrize(
    ("backend", "module", "remedy"),
    [
        ("faiss", "faiss", r"pip install 'pyimgano-openclip\[faiss\]'"),
        ("faiss-ivf", "faiss", r"pip install 'pyimgano-openclip\[faiss\]'"),
        ("torch", "torch", "pip install torch"),
    ],
)
def test_a_missing_search_library_is_told_before_any_image_is_read(
    backend, module, remedy, monkeypatch
):
    detector = patchknn().fit(NORMAL)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"knn_backend='{backend}' needs {module}: {remedy}"):
        patchknn(knn_backend=backend)
    with pytest.raises(ImportError, match=remedy):
        detector.set_params(knn_backend=backend)
    assert detector.knn_backend == "auto"


def entries(kind):
    """The entries of a class's arguments in its docstring, by name, without line breaks."""
    text = inspect.cleandoc(kind.__doc__).partition("Args:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n {6,}.*)*)", text, flags=re.MULTILINE)
    return {name: " ".join(entry.split()) for name, entry in found}


def test_every_argument_is_documented_and_shared_ones_word_for_word_alike():
    shared = {field.name for field in dataclasses.fields(OpenCLIPDetector)}
    kinds = (VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore)
    for kind in kinds:
        assert set(entries(kind)) == set(inspect.signature(kind).parameters)
    first, second = map(entries, kinds)
    assert len(shared) == 18
    assert {name: first[name] for name in shared} == {name: second[name] for name in shared}


@EACH
def test_a_pipeline_of_scikit_learn_takes_the_detectors(build):
    pipeline = Pipeline([("same", FunctionTransformer()), ("detector", build())])
    pipeline.fit(NORMAL)
    expected = build().fit(NORMAL)
    np.testing.assert_array_equal(pipeline.predict(NORMAL), expected.labels_)
    np.testing.assert_array_equal(pipeline.decision_function(NORMAL), expected.decision_scores_)
    cloned = clone(pipeline).set_params(detector__contamination=0.3).fit(NORMAL)
    assert cloned.named_steps["detector"].contamination == 0.3
    assert is_outlier_detector(build())
    check_is_fitted(pipeline)


def test_a_pipeline_tells_what_has_to_be_fitted():
    check_is_fitted(promptscore())
    with pytest.raises(NotFittedError):
        check_is_fitted(patchknn())
