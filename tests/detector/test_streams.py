"""Images from a generator: a camera, a folder that grows, a queue."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.maps.gaps import UnreadableImageWarning

from helpers.detectors import EACH, on_bundled, patchknn, promptscore
from helpers.embedders import red_image, red_images

NORMAL = red_images(6)


def camera(count, taken, *, breaks_at=None):
    for number in range(count):
        if number == breaks_at:
            raise ConnectionError("the camera is gone")
        taken.append(number)
        yield red_image(seed=number)


@EACH
def test_an_image_is_taken_when_its_score_is_asked_for(build):
    detector, taken = build().fit(NORMAL), []
    for number, _ in enumerate(detector.score_iter(camera(5, taken)), start=1):
        assert len(taken) == number


@EACH
def test_scores_that_were_taken_come_before_the_error_of_the_camera(build):
    detector, taken, scores = build().fit(NORMAL), [], []
    stream = detector.score_iter(camera(40, taken, breaks_at=31))
    with pytest.raises(ConnectionError, match="the camera is gone"):
        scores.extend(scored.image for scored in stream)
    expected = detector.decision_function([red_image(seed=number) for number in range(31)])
    np.testing.assert_array_equal(scores, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "fitted"), [("patchknn", True), ("promptscore", True), ("promptscore", False)]
)
@pytest.mark.parametrize("breaks_at", [0, 1, 7, 8, 20])
def test_a_tower_looks_ahead_by_a_batch_and_loses_nothing(kind, fitted, breaks_at):
    detector = on_bundled(kind, batch_size=4, max_tokens=24)
    if fitted:
        detector.fit(NORMAL)
    taken, scored = [], []
    stream = detector.score_iter(camera(30, taken, breaks_at=breaks_at))
    for _ in range(breaks_at):
        scored.append(next(stream).image)
        assert len(taken) - len(scored) < 4
    with pytest.raises(ConnectionError, match="the camera is gone"):
        next(stream)
    if breaks_at:
        whole = detector.decision_function([red_image(seed=number) for number in range(breaks_at)])
        np.testing.assert_allclose(scored, whole, atol=1e-6)


@EACH
def test_unreadable_images_of_a_stream_are_named_by_their_place(build):
    detector = build(on_error="nan").fit(NORMAL)
    with pytest.warns(UnreadableImageWarning, match=r"2 images .*x\[1\].*x\[3\]"):
        found = [
            scored.image
            for scored in detector.score_iter(iter([NORMAL[0], None, NORMAL[1], "no.png"]))
        ]
    assert np.isnan(found).tolist() == [False, True, False, True]


@EACH
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("part.png", r"x is the single path 'part\.png'; pass a list"),
        (np.zeros((160, 120, 3), np.uint8), r"x is one array of shape \(160, 120, 3\).*\[image\]"),
        (np.zeros((160, 120), np.uint8), r"x is one array of shape \(160, 120\)"),
        (None, "x is NoneType; pass a list"),
        (Image.new("RGB", (4, 4)), "x is Image; pass a list"),
        (3, "x is int; pass a list"),
        ({"part.png"}, "x is a set, from which no order of images follows"),
        ({"part.png": 0}, "x is a dict, from which no order of images follows"),
        ([], "x is empty; pass at least one image"),
        (np.zeros((0, 4, 4, 3), np.uint8), "x is empty"),
    ],
)
def test_what_is_no_stream_is_refused_as_in_a_list(build, x, message):
    detector = build().fit(NORMAL)
    for call in (detector.score_iter, lambda x: list(detector.iter_anomaly_maps(x))):
        with pytest.raises(ValueError, match=message):
            call(x)


def test_a_stream_without_images_gives_no_scores():
    assert list(patchknn().fit(NORMAL).score_iter(iter([]))) == []
    assert list(promptscore().score_iter(iter([]))) == []


@EACH
def test_maps_of_a_stream_are_computed_as_its_images_come(build):
    taken = []

    def camera():
        for number in range(30):
            taken.append(number)
            yield red_image(seed=100 + number)

    maps = build().fit(red_images(6)).iter_anomaly_maps(camera())
    assert next(maps).shape == red_image().shape[:2]
    assert len(taken) <= 2
    assert len(list(maps)) == 29
