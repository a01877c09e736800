"""Both detectors with a custom embedder: no torch, no open_clip, no weights."""

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyimgano.models.base_detector import BaseDetector
from sklearn.base import clone

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

from embedders import GREEN, RED, ColourEmbedder, red_image, with_green


def patchknn(**settings):
    return VisionOpenCLIPPatchKNN(**{"embedder": ColourEmbedder(), **settings})


def promptscore(**settings):
    text = {"text_features_normal": RED, "text_features_anomaly": GREEN}
    return VisionOpenCLIPPromptScore(**{"embedder": ColourEmbedder(), **text, **settings})


NORMAL = [red_image(seed=seed) for seed in range(12)]
BOTH = pytest.mark.parametrize("build", [patchknn, promptscore])


@BOTH
def test_a_damaged_image_scores_higher_and_is_flagged(build):
    detector = build().fit(NORMAL)
    scores = detector.decision_function([red_image(seed=99), with_green(NORMAL[0], 10, 20)])
    assert scores.shape == (2,)
    assert scores.dtype == np.float64
    assert scores[1] > scores[0]
    assert detector.predict([with_green(NORMAL[0], 10, 20)]).tolist() == [1]


@BOTH
def test_the_map_is_hot_where_the_damage_is(build):
    detector = build(embedder=ColourEmbedder(4, 8)).fit(
        [red_image(40, 160, seed=s) for s in (1, 2)]
    )
    found = detector.get_anomaly_map(with_green(red_image(40, 160, seed=3), 30, 100, side=12))
    assert found.shape == (40, 160)
    assert found.dtype == np.float32
    row, col = np.unravel_index(found.argmax(), found.shape)
    assert 30 <= row < 40
    assert 100 <= col < 120


@BOTH
def test_paths_and_one_stacked_array_give_the_scores_of_the_arrays(build, tmp_path):
    class Reader(ColourEmbedder):
        def embed(self, image):
            pixels = image if isinstance(image, np.ndarray) else np.asarray(Image.open(image))
            return super().embed(pixels)

    detector = build(embedder=Reader()).fit(NORMAL[3:])
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, image in zip(paths, NORMAL, strict=False):
        Image.fromarray(image).save(path)
    expected = detector.decision_function(NORMAL[:3])
    np.testing.assert_array_equal(detector.decision_function(paths), expected)
    np.testing.assert_array_equal(detector.decision_function([str(p) for p in paths]), expected)
    np.testing.assert_array_equal(detector.decision_function(np.array(paths)), expected)
    np.testing.assert_array_equal(detector.decision_function(np.stack(NORMAL[:3])), expected)
    np.testing.assert_array_equal(detector.decision_function(X=tuple(NORMAL[:3])), expected)


@BOTH
def test_score_then_map_embeds_each_image_once(build):
    detector = build().fit(NORMAL)
    embedder = detector.embedder
    embedder.calls = 0
    images = [with_green(image, 10, 20) for image in NORMAL[:4]]
    detector.decision_function(images)
    detector.predict_anomaly_map(images)
    detector.predict(images)
    assert embedder.calls == 4


@BOTH
def test_given_patch_scores_cannot_be_changed_for_later_calls(build):
    detector, image = build().fit(NORMAL), with_green(NORMAL[0], 10, 20)
    for asked in (image, NORMAL[0]):
        (scored,) = detector.score_iter([asked])
        with pytest.raises(ValueError, match="read-only"):
            scored.patches[:] = 0


def test_a_changed_file_is_read_again(tmp_path):
    class Reader(ColourEmbedder):
        def embed(self, image):
            return super().embed(np.asarray(Image.open(image)))

    detector, path = promptscore(embedder=Reader()), tmp_path / "part.png"
    Image.fromarray(NORMAL[0]).save(path)
    before = detector.decision_function([path])
    Image.fromarray(with_green(NORMAL[0], 10, 20)).save(path)
    assert detector.decision_function([path])[0] > before[0]


def test_changed_settings_do_not_answer_from_memory():
    detector, image = promptscore(), with_green(NORMAL[0], 10, 20)
    detector.decision_function([image])
    detector.mode = "diff"
    detector.aggregation_method = "mean"
    fresh = promptscore(mode="diff", aggregation_method="mean").decision_function([image])
    assert detector.decision_function([image]) == fresh


def test_training_scores_leave_the_image_itself_out():
    detector = patchknn().fit(NORMAL)
    for index in (0, 5, 11):
        others = NORMAL[:index] + NORMAL[index + 1 :]
        expected = patchknn().fit(others).decision_function([NORMAL[index]])[0]
        assert detector.decision_scores_[index] == pytest.approx(expected, abs=1e-6)
    np.testing.assert_array_equal(detector.decision_function(NORMAL), detector.decision_scores_)
    unknown_twins = [image.copy() for image in NORMAL]
    unknown_twins[0][0, 0] += 1  # other content: found in the bank
    assert detector.decision_function(unknown_twins)[0] < detector.threshold_ / 10


def test_new_normal_images_are_not_all_flagged():
    detector = patchknn(contamination=0.1).fit([red_image(seed=s) for s in range(40)])
    flagged = detector.predict([red_image(seed=1000 + s) for s in range(40)]).mean()
    assert flagged < 0.35


@BOTH
def test_the_threshold_is_the_quantile_of_the_training_scores(build):
    detector = build(contamination=0.25).fit(NORMAL)
    assert detector.decision_scores_.shape == (12,)
    ranked = np.sort(detector.decision_scores_)  # the rank is 0.75 * 13 = 9.75
    assert detector.threshold_ == pytest.approx(0.25 * ranked[8] + 0.75 * ranked[9])
    assert detector.labels_.sum() == 3


@BOTH
def test_the_threshold_may_be_set_from_outside(build):
    detector = build().fit(NORMAL)
    detector.threshold_ = -1.0
    assert detector.predict(NORMAL).tolist() == [1] * 12


@BOTH
def test_one_training_image_is_enough(build):
    detector = build().fit(NORMAL[:1])
    assert np.isfinite(detector.threshold_)
    assert detector.predict([with_green(NORMAL[0], 10, 20)]).tolist() == [1]


def test_promptscore_needs_no_fit():
    detector = promptscore()
    assert not hasattr(detector, "threshold_")
    assert detector.predict([NORMAL[0], with_green(NORMAL[0], 0, 0, 40)]).tolist() == [0, 1]
    assert detector.get_anomaly_map(NORMAL[0]).shape == (40, 40)


@pytest.mark.parametrize(("mode", "low", "high"), [("probability", 0, 1), ("ratio", 0, 1)])
def test_promptscore_stays_within_bounds(mode, low, high):
    images = [NORMAL[0], with_green(NORMAL[0], 0, 0, 40), np.zeros((8, 8, 3), np.uint8)]
    scores = promptscore(mode=mode).decision_function(images)
    assert (scores > low).all()
    assert (scores < high).all()


def test_patchknn_before_fit_says_what_to_do():
    with pytest.raises(RuntimeError, match=r"call fit\(\)"):
        patchknn().decision_function(NORMAL)
    with pytest.raises(RuntimeError, match="fit"):
        patchknn().predict(NORMAL)


@BOTH
def test_a_failed_fit_leaves_the_detector_as_it_was(build):
    detector = build().fit(NORMAL)
    before = (detector.threshold_, detector.decision_function(NORMAL[:2]).tolist())
    with pytest.raises(Exception, match=r".+"):
        detector.fit([NORMAL[0], "no such file.png"])
    assert (detector.threshold_, detector.decision_function(NORMAL[:2]).tolist()) == before


@BOTH
def test_maps_of_mixed_sizes_come_one_by_one(build):
    detector = build().fit(NORMAL)
    small, large = red_image(20, 30, seed=50), red_image(60, 40, seed=51)
    with pytest.raises(ValueError, match=r"20 x 30.*60 x 40"):
        detector.predict_anomaly_map([small, large])
    assert [m.shape for m in detector.iter_anomaly_maps([small, large])] == [(20, 30), (60, 40)]
    assert detector.predict_anomaly_map([small, small]).shape == (2, 20, 30)


def test_maps_of_mixed_sizes_name_both_files(tmp_path):
    class Reader(ColourEmbedder):
        def embed(self, image):
            return super().embed(np.asarray(Image.open(image)))

    paths = [tmp_path / "wide.png", tmp_path / "high.png"]
    Image.fromarray(red_image(20, 30)).save(paths[0])
    Image.fromarray(red_image(30, 20)).save(paths[1])
    with pytest.raises(ValueError, match=r"wide\.png.*high\.png"):
        promptscore(embedder=Reader()).predict_anomaly_map(paths)


@BOTH
def test_confidence_rejection_and_probability_are_the_hosts(build):
    detector = build().fit(NORMAL)
    images = [*NORMAL[:3], with_green(NORMAL[0], 10, 20)]
    assert isinstance(detector, BaseDetector)
    confidence = detector.predict_confidence(images)
    assert confidence.shape == (4,)
    assert ((confidence >= 0) & (confidence <= 1)).all()
    labels, sure = detector.predict(images, return_confidence=True)
    assert labels[-1] == 1
    np.testing.assert_array_equal(sure, confidence)
    assert detector.predict_proba(images).shape == (4, 2)
    rejected = detector.predict_with_rejection(images, confidence_threshold=1.0)
    assert set(rejected) <= {-2, 0, 1}


@BOTH
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


@BOTH
def test_a_pickled_detector_gives_equal_scores(build):
    detector = build().fit(NORMAL)
    twin = pickle.loads(pickle.dumps(detector))
    images = [NORMAL[0], with_green(NORMAL[0], 10, 20)]
    np.testing.assert_array_equal(
        twin.decision_function(images), detector.decision_function(images)
    )
    assert twin.threshold_ == detector.threshold_


@BOTH
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


def test_a_threshold_that_is_set_decides_labels_and_only_of_distances_the_regions():
    unfitted = patchknn()
    for threshold in (unfitted.label_threshold, unfitted.region_threshold):
        with pytest.raises(RuntimeError, match="no threshold yet"):
            threshold()
    words = promptscore(mode="diff")
    assert (words.label_threshold(), words.region_threshold()) == (0.0, 0.0)
    for detector, region in ((unfitted, 0.2), (words, 0.0)):
        detector.threshold_ = 0.2
        assert (detector.label_threshold(), detector.region_threshold()) == (0.2, region)


@BOTH
def test_numbers_of_numpy_become_those_of_python(build, tmp_path):
    share = np.float32(0.25)
    detector = build(contamination=share, aggregation_topk=share, batch_size=np.int64(2))
    assert type(detector.contamination) is type(detector.aggregation_topk) is float
    path = detector.fit(NORMAL).save_checkpoint(tmp_path / "d")
    assert build(aggregation_topk=0.25).load_checkpoint(path).contamination == 0.25
    for wrong in (np.float32("nan"), np.True_, "0.1", None):
        with pytest.raises(ValueError, match="contamination"):
            build(contamination=wrong)


@BOTH
def test_scikit_learn_clones_a_detector(build):
    settings = {"contamination": np.float32(0.25), "openclip_pretrained": Path("w.pt")}
    if build is promptscore:
        settings["windows"] = np.array([2, 3])
    detector = build(**settings)
    twin = clone(detector)
    assert twin.openclip_pretrained == "w.pt"
    assert repr(twin.get_params()["contamination"]) == "0.25"
    assert getattr(twin, "windows", (2, 3)) == (2, 3)


@BOTH
def test_misspelt_settings_are_refused(build):
    with pytest.raises(TypeError, match="contaminatoin"):
        build(contaminatoin=0.1)


@BOTH
@pytest.mark.parametrize("empty", [[], (), np.empty((0, 8, 8, 3), np.uint8)])
def test_empty_input_is_refused(build, empty):
    detector = build().fit(NORMAL)
    for method in (detector.fit, detector.decision_function, detector.predict_anomaly_map):
        with pytest.raises(ValueError, match="empty"):
            method(empty)


@BOTH
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("part.png", "single path"),
        (Path("part.png"), "single path"),
        (b"part.png", "single path"),
        (None, "NoneType"),
        (3, "int"),
        (NORMAL[0], "one array of shape"),
    ],
)
def test_a_single_image_instead_of_a_list_is_refused(build, x, message):
    with pytest.raises(ValueError, match=message):
        build().fit(x)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ((np.ones((4, 3)), (2, 3), (8, 8)), "4 patches for a grid of 2 x 3"),
        ((np.ones((2, 2, 3)), (2, 2), (8, 8)), "not .N, D."),
        ((np.full((4, 3), np.nan), (2, 2), (8, 8)), "not finite"),
        ((np.ones((4, 3)), (2, 2), (0, 8)), "image size"),
        ((np.ones((0, 3)), (0, 2), (8, 8)), "grid of 0 x 2"),
    ],
)
def test_an_inconsistent_embedder_is_reported(result, message):
    class Wrong:
        def embed(self, image):
            return result

    with pytest.raises(ValueError, match=message):
        patchknn(embedder=Wrong()).fit(["part.png"])


def test_text_of_another_length_than_the_patches_is_reported():
    with pytest.raises(ValueError, match="length 3"):
        promptscore(text_features_normal=[1, 0], text_features_anomaly=[0, 1]).decision_function(
            NORMAL[:1]
        )


@pytest.mark.parametrize("settings", [{"coreset_sampling_ratio": 0.25}, {"max_patches": 48}])
def test_the_bank_can_be_thinned(settings):
    detector = patchknn(**settings).fit(NORMAL)
    assert len(detector.memory_bank_) == 48
    assert detector.predict([with_green(NORMAL[0], 10, 20)]).tolist() == [1]


@BOTH
def test_the_class_lists_its_real_arguments(build):
    parameters = inspect.signature(type(build())).parameters.values()
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters)
    expected = {
        "embedder", "openclip_model_name", "openclip_pretrained", "device", "force_image_size",
        "contamination", "aggregation_method", "aggregation_topk", "random_seed", "pretrained",
    }  # fmt: skip
    assert expected <= {p.name for p in parameters}


@BOTH
def test_streaming_gives_the_scores_and_maps_of_a_list(build):
    detector = build().fit(NORMAL)
    images = [with_green(image, 10, 20) for image in NORMAL]
    streamed = list(detector.score_iter(image for image in images))
    np.testing.assert_array_equal(
        [scored.image for scored in streamed], detector.decision_function(images)
    )
    np.testing.assert_array_equal(
        np.stack([scored.anomaly_map() for scored in streamed]),
        detector.predict_anomaly_map(images),
    )


def test_streaming_reads_only_a_chunk_ahead():
    detector, given = promptscore(), []

    def source():
        for seed in range(1000):
            given.append(seed)
            yield red_image(8, 8, seed=seed)

    next(detector.score_iter(source()))
    assert len(given) <= 64


def test_streaming_a_single_path_is_refused():
    with pytest.raises(ValueError, match="single path"):
        next(promptscore().score_iter("part.png"))
