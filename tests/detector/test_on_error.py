"""Images that cannot be read: an error with name and place, or a gap and nothing else lost."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.maps.gaps import UnreadableImageWarning

from helpers.broken import BROKEN
from helpers.detectors import BUNDLED, EACH, KINDS, on_bundled, promptscore
from helpers.embedders import ColourEmbedder, red_image, red_images, with_green

NORMAL = red_images(8, 32, 48)
GOOD = [red_image(32, 48, seed=50), with_green(red_image(32, 48, seed=51), 10, 20)]
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def real():
    """The detectors on the bundled model."""
    pytest.importorskip("open_clip")
    return {
        "patchknn": on_bundled("patchknn").fit(NORMAL),
        "promptscore": on_bundled("promptscore"),
        "mutual": on_bundled("mutual").fit(NORMAL),
    }


@pytest.fixture
def detector(real, kind):
    real[kind].on_error = "nan"
    yield real[kind]
    real[kind].on_error = "raise"


def saved(image, path):
    Image.fromarray(image).save(path)
    return path


@slow
@KINDS
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image_is_named_with_its_place(real, kind, what, tmp_path):
    item, name = BROKEN[what](tmp_path)
    for method in ("decision_function", "predict_anomaly_map"):
        with pytest.raises(ValueError, match=rf"x\[1\]: .*{name}"):
            getattr(real[kind], method)([GOOD[0], item])
    with pytest.raises(ValueError, match=name):
        real[kind].explain(item, threshold=0.5)


@slow
@KINDS
@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_image_leaves_a_gap_and_nothing_else_is_lost(detector, what, tmp_path):
    item, name = BROKEN[what](tmp_path)
    expected, maps = detector.decision_function(GOOD), detector.predict_anomaly_map(GOOD)
    mixed = [GOOD[0], item, GOOD[1]]
    with pytest.warns(UnreadableImageWarning, match=rf"^1 image .*x\[1\]: .*{name}") as told:
        scores = detector.decision_function(mixed)
    assert len(told) == 1
    np.testing.assert_array_equal(scores, [expected[0], np.nan, expected[1]])
    with pytest.warns(UnreadableImageWarning):
        found = detector.predict_anomaly_map(mixed)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[[0, 2]], maps)
    with pytest.warns(UnreadableImageWarning):
        one_by_one = list(detector.score_iter(iter(mixed)))
    assert [scored.error is None for scored in one_by_one] == [True, False, True]
    assert re.search(name, one_by_one[1].error)
    with pytest.warns(UnreadableImageWarning):
        assert detector.explain(item, threshold=0.5) == []


@slow
@KINDS
def test_a_first_call_with_nothing_readable_fixes_no_canvas(kind, tmp_path):
    detector = on_bundled(kind, on_error="nan")
    if kind == "patchknn":
        detector.fit(NORMAL)
    canvas = detector.canvas_
    with pytest.warns(UnreadableImageWarning, match="2 images"):
        assert np.isnan(detector.decision_function([tmp_path / "a.png", None])).all()
    assert detector.canvas_ == canvas
    with pytest.warns(UnreadableImageWarning):
        scores = detector.decision_function([tmp_path / "a.png", GOOD[1], GOOD[0]])
    again = on_bundled(kind)
    if kind == "patchknn":
        again.fit(NORMAL)
    np.testing.assert_array_equal(scores[1:], again.decision_function(GOOD[::-1]))
    assert detector.canvas_ == again.canvas_


@slow
@KINDS
def test_the_size_of_a_gap_is_that_of_the_header(detector, tmp_path):
    whole = saved(red_image(40, 70), tmp_path / "whole.png").read_bytes()
    cut, missing = tmp_path / "cut.png", tmp_path / "missing.png"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(UnreadableImageWarning):
        maps = list(detector.iter_anomaly_maps([cut, missing, np.full((5, 6), np.nan), GOOD[0]]))
    assert [found.shape for found in maps] == [(40, 70), (1, 1), (5, 6), (32, 48)]
    assert [np.isnan(found).all() for found in maps] == [True, True, True, False]
    with pytest.warns(UnreadableImageWarning):
        assert detector.get_anomaly_map(cut).shape == (40, 70)


@slow
@KINDS
def test_a_repaired_file_is_scored(detector, tmp_path):
    path = tmp_path / "part.png"
    with pytest.warns(UnreadableImageWarning):
        assert np.isnan(detector.decision_function([path]))
    whole = saved(GOOD[1], tmp_path / "whole.png").read_bytes()
    path.write_bytes(whole[:200])
    with pytest.warns(UnreadableImageWarning):
        assert np.isnan(detector.decision_function([path]))
    path.write_bytes(whole)
    assert detector.decision_function([path]) == detector.decision_function([GOOD[1]])
    path.write_bytes(whole[:200])
    with pytest.warns(UnreadableImageWarning):
        assert np.isnan(detector.decision_function([path]))
    path.unlink()
    with pytest.warns(UnreadableImageWarning):
        assert np.isnan(detector.decision_function([path]))


@EACH
def test_what_could_not_be_inspected_does_not_pass(build):
    detector = build(on_error="nan").fit(NORMAL)
    with pytest.warns(UnreadableImageWarning):
        labels, sure = detector.predict([GOOD[0], None, GOOD[1]], return_confidence=True)
    assert labels.tolist()[1:] == [1, 1]
    assert sure[1] == 0
    with pytest.warns(UnreadableImageWarning):
        rejected = detector.predict_with_rejection([None, GOOD[1]], confidence_threshold=0.01)
    assert rejected[0] == -2
    with pytest.warns(UnreadableImageWarning):
        chances = detector.predict_proba([GOOD[0], None])
    assert np.isfinite(chances[0]).all()
    assert np.isnan(chances[1]).all()
    with pytest.warns(UnreadableImageWarning):
        assert detector.predict_confidence([None]).tolist() == [0]
    percentiles = detector.score_percentile([np.nan, detector.decision_scores_.min() - 1])
    np.testing.assert_array_equal(percentiles, [np.nan, 0])


def test_before_fit_zero_shot_labels_treat_a_gap_the_same():
    with pytest.warns(UnreadableImageWarning):
        assert promptscore(on_error="nan").predict([NORMAL[0], None]).tolist() == [0, 1]


@EACH
def test_the_warning_counts_all_and_names_the_first_few(build):
    detector = build(on_error="nan").fit(NORMAL)
    items = [None if place % 10 == 3 else NORMAL[0] for place in range(200)]
    with pytest.warns(UnreadableImageWarning) as told:
        scores = [scored.image for scored in detector.score_iter(items)]
    assert np.flatnonzero(np.isnan(scores)).tolist() == list(range(3, 200, 10))
    (message,) = (str(warning.message) for warning in told)
    assert message.startswith("20 images could not be read")
    for place in (3, 13, 23):
        assert f"x[{place}]: " in message
    assert "x[33]" not in message
    assert message.endswith("; and 17 more")
    assert told[0].filename == __file__


@EACH
def test_a_stream_that_is_left_early_warns_of_what_it_has_seen(build):
    detector = build(on_error="nan").fit(NORMAL)
    stream = detector.score_iter([None, NORMAL[0], None])
    assert next(stream).error is not None
    with pytest.warns(UnreadableImageWarning, match="^1 image "):
        stream.close()


@EACH
def test_without_gaps_nothing_is_said(build):
    detector = build(on_error="nan").fit(NORMAL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.decision_function(GOOD)
        detector.explain(GOOD[1])


@EACH
def test_training_images_have_to_be_readable(build):
    with pytest.raises(ValueError, match=r"x\[1\]: "):
        build(on_error="nan").fit([NORMAL[0], None])


@slow
def test_training_images_and_references_of_the_bundled_model_are_named_with_their_place(tmp_path):
    path = saved(NORMAL[0], tmp_path / "cut.png")
    path.write_bytes(path.read_bytes()[:-60])
    for rotations in (1, 4):
        detector = VisionOpenCLIPPatchKNN(rotations=rotations, on_error="nan", **BUNDLED)
        with pytest.raises(ValueError, match=r"x\[2\]: .*cut\.png cannot be decoded"):
            detector.fit([*NORMAL[:2], path])
    detector = VisionOpenCLIPPromptScore(references=[NORMAL[0], path], on_error="nan", **BUNDLED)
    with pytest.raises(ValueError, match=r"references\[1\]: .*cut\.png cannot be decoded"):
        detector.decision_function(GOOD)
    with pytest.raises(ValueError, match=r"references\[0\]: .*nothing\.png"):
        VisionOpenCLIPPromptScore(
            references=[tmp_path / "nothing.png"], on_error="nan", **BUNDLED
        ).decision_function(GOOD)


@EACH
@pytest.mark.parametrize("x", ["part.png", b"part.png", None, [], 3])
def test_wrong_calls_are_errors_all_the_same(build, x):
    detector = build(on_error="nan").fit(NORMAL)
    with pytest.raises(ValueError, match=r"x is"):
        detector.decision_function(x)


@EACH
def test_it_may_be_changed_at_any_time_and_is_not_saved(build, tmp_path):
    detector = build().fit(NORMAL)
    threshold = detector.threshold_
    assert detector.set_params(on_error="nan") is detector
    assert (detector.threshold_, detector.on_error) == (threshold, "nan")
    with pytest.raises(ValueError, match="on_error='skip' is unknown; choose from raise, nan"):
        detector.set_params(on_error="skip")
    with pytest.raises(ValueError, match="on_error"):
        build(on_error="skip")
    path = detector.save_checkpoint(tmp_path / "saved")
    assert build().load_checkpoint(path).on_error == "raise"


@EACH
@pytest.mark.parametrize("error", [MemoryError, RuntimeError, KeyboardInterrupt])
def test_what_is_not_the_images_fault_is_raised(build, error):
    class Failing(ColourEmbedder):
        def embed(self, image):
            if image.shape[0] == 7:
                raise error
            return super().embed(image)

    detector = build(embedder=Failing(), on_error="nan").fit(NORMAL)
    with pytest.raises(error):
        detector.decision_function([NORMAL[0], np.zeros((7, 9, 3), np.uint8)])


@slow
def test_a_stream_gives_the_images_before_the_first_that_cannot_be_read():
    stream = VisionOpenCLIPPromptScore(**BUNDLED).score_iter([*GOOD, "nothing.png", *GOOD])
    given = [next(stream), next(stream)]
    with pytest.raises(ValueError, match=r"x\[2\]: nothing\.png"):
        next(stream)
    expected = VisionOpenCLIPPromptScore(**BUNDLED).decision_function(GOOD)
    assert [scored.image for scored in given] == pytest.approx(expected, abs=1e-6)
