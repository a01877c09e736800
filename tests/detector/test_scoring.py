"""Both detectors with a custom embedder: no torch, no open_clip, no weights."""

import copy
import pickle

import numpy as np
import pytest
from PIL import Image
from pyimgano.models.base_detector import BaseDetector

from helpers.detectors import EACH, promptscore
from helpers.embedders import ColourEmbedder, FileEmbedder, red_image, red_images, with_green

NORMAL = red_images(12)


@EACH
def test_a_damaged_image_scores_higher_and_is_flagged(build):
    detector = build().fit(NORMAL)
    scores = detector.decision_function([red_image(seed=99), with_green(NORMAL[0], 10, 20)])
    assert scores.shape == (2,)
    assert scores.dtype == np.float64
    assert scores[1] > scores[0]
    assert detector.predict([with_green(NORMAL[0], 10, 20)]).tolist() == [1]


@EACH
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


@EACH
def test_score_then_map_embeds_each_image_once(build):
    detector = build().fit(NORMAL)
    embedder = detector.embedder
    embedder.calls = 0
    images = [with_green(image, 10, 20) for image in NORMAL[:4]]
    detector.decision_function(images)
    detector.predict_anomaly_map(images)
    detector.predict(images)
    assert embedder.calls == 4


@EACH
def test_given_patch_scores_cannot_be_changed_for_later_calls(build):
    detector, image = build().fit(NORMAL), with_green(NORMAL[0], 10, 20)
    for asked in (image, NORMAL[0]):
        (scored,) = detector.score_iter([asked])
        with pytest.raises(ValueError, match="read-only"):
            scored.patches[:] = 0


def test_a_changed_file_is_read_again(tmp_path):
    detector, path = promptscore(embedder=FileEmbedder()), tmp_path / "part.png"
    Image.fromarray(NORMAL[0]).save(path)
    before = detector.decision_function([path])
    Image.fromarray(with_green(NORMAL[0], 10, 20)).save(path)
    assert detector.decision_function([path])[0] > before[0]


def test_changed_settings_do_not_answer_from_memory():
    detector, image = promptscore(), with_green(NORMAL[0], 10, 20)
    detector.decision_function([image])
    detector.set_params(mode="diff", aggregation_method="mean")
    fresh = promptscore(mode="diff", aggregation_method="mean").decision_function([image])
    assert detector.decision_function([image]) == fresh


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


@EACH
def test_maps_of_mixed_sizes_come_one_by_one(build):
    detector = build().fit(NORMAL)
    small, large = red_image(20, 30, seed=50), red_image(60, 40, seed=51)
    with pytest.raises(ValueError, match=r"20 x 30.*60 x 40"):
        detector.predict_anomaly_map([small, large])
    assert [m.shape for m in detector.iter_anomaly_maps([small, large])] == [(20, 30), (60, 40)]
    assert detector.predict_anomaly_map([small, small]).shape == (2, 20, 30)


def test_maps_of_mixed_sizes_name_both_files(tmp_path):
    paths = [tmp_path / "wide.png", tmp_path / "high.png"]
    Image.fromarray(red_image(20, 30)).save(paths[0])
    Image.fromarray(red_image(30, 20)).save(paths[1])
    with pytest.raises(ValueError, match=r"wide\.png.*high\.png"):
        promptscore(embedder=FileEmbedder()).predict_anomaly_map(paths)


@EACH
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


@EACH
def test_a_pickled_detector_gives_equal_scores(build):
    detector = build().fit(NORMAL)
    twin = pickle.loads(pickle.dumps(detector))
    images = [NORMAL[0], with_green(NORMAL[0], 10, 20)]
    np.testing.assert_array_equal(
        twin.decision_function(images), detector.decision_function(images)
    )
    assert twin.threshold_ == detector.threshold_


@EACH
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


SMALL, LARGE = red_images(6), red_images(6, 400, 400)  # to each of which the other is unlike
ASKED = [red_image(seed=99), red_image(400, 400, seed=99)]


@EACH
@pytest.mark.parametrize("copied", [False, True])
def test_a_pass_that_ends_after_fit_leaves_no_scores_of_what_was_learnt_before(build, copied):
    detector = build().fit(SMALL)
    running = detector.score_iter(ASKED)
    next(running)
    again = copy.copy(detector) if copied else detector
    again.fit(LARGE)
    list(running)
    expected = build().fit(LARGE).decision_function(ASKED)
    np.testing.assert_array_equal(again.decision_function(ASKED), expected)
    detector.fit(SMALL)
    expected = build().fit(SMALL).decision_function(ASKED)
    np.testing.assert_array_equal(detector.decision_function(ASKED), expected)


def test_a_pass_without_images_to_learn_from_that_ends_after_fit_leaves_no_scores():
    detector = promptscore()
    running = detector.score_iter(ASKED[::-1])
    next(running)
    detector.fit(LARGE)
    list(running)
    small, large = detector.score_iter(ASKED)
    assert "another size" in small.unlike
    assert large.unlike is None


@EACH
def test_a_pass_that_ends_after_loading_leaves_no_scores_of_what_was_learnt_before(build, tmp_path):
    saved = build().fit(LARGE)
    path = saved.save_checkpoint(tmp_path / "d.safetensors")
    detector = build().fit(SMALL)
    running = detector.score_iter(ASKED)
    next(running)
    detector.load_checkpoint(path)
    list(running)
    expected = saved.decision_function(ASKED)
    np.testing.assert_allclose(detector.decision_function(ASKED), expected, rtol=0, atol=1e-6)
