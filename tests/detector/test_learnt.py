"""What is learnt is one value, replaced as a whole; what only looks at it reads no images."""

import copy
import threading

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN

from helpers.detectors import BUNDLED, EACH, patchknn, promptscore
from helpers.embedders import ColourEmbedder, red_image, red_images, with_green
from helpers.privates import fit_halfway

NORMAL = red_images(6)
IMAGES = [red_image(seed=50), with_green(NORMAL[0], 10, 20)]
NORMAL_TOO = [with_green(image, 0, 0, side) for side, image in enumerate(red_images(9))]
UNSURE = [with_green(image, 20, 20, side) for side, image in enumerate(red_images(9, first=50))]
TINY = {**BUNDLED, "max_tokens": 24}


def looks(detector):
    """All that looks at a detector without asking it for scores."""
    names = ("canvas_", "threshold_", "labels_", "decision_scores_", "references")
    found = [getattr(detector, name, None) for name in names]
    return [*found, repr(detector), detector._repr_html_(), detector.get_params()]


@EACH
def test_looking_at_a_detector_reads_no_image(build):
    detector = build()
    looks(detector)
    detector.fit(NORMAL)
    before = detector.embedder.calls
    looks(detector)
    detector.label_threshold(), detector.region_threshold()
    assert detector.embedder.calls == before


def test_references_are_read_when_an_image_is_scored_and_not_for_a_threshold():
    detector = promptscore(references=NORMAL)
    looks(detector)
    for threshold in (detector.label_threshold, detector.region_threshold):
        with pytest.raises(RuntimeError, match=r"not been read yet; .* read_references\(\)"):
            threshold()
    assert detector.embedder.calls == 0
    detector.decision_function(IMAGES)
    assert detector.embedder.calls == len(NORMAL) + len(IMAGES)  # each once
    read = promptscore(references=NORMAL).read_references()
    assert read.label_threshold() == detector.label_threshold()
    assert read.embedder.calls == len(NORMAL)
    assert read.read_references().embedder.calls == len(NORMAL)
    assert (
        read.label_threshold()
        == promptscore().fit(NORMAL, use_as_references=True).label_threshold()
    )


def test_the_threshold_of_references_is_that_of_the_class_in_use():
    detector = promptscore(references=NORMAL)
    detector.predict(IMAGES)
    calls = detector.embedder.calls
    detector.set_class_name("other")
    detector.predict(IMAGES)
    assert detector.embedder.calls >= calls + len(NORMAL)


@EACH
def test_each_image_is_encoded_once_in_a_fit(build):
    assert build().fit(NORMAL).embedder.calls == len(NORMAL)
    if build is promptscore:
        assert build().fit(NORMAL, use_as_references=True).embedder.calls == len(NORMAL)


class Pausing(ColourEmbedder):
    """Calls a function in the middle of a call, before its images are read."""

    def __init__(self):
        super().__init__()
        self.meanwhile = None

    def embed(self, image):
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        return super().embed(image)


@pytest.mark.parametrize("act", ["fit", "partial_fit", "load_checkpoint", "set_params"])
def test_a_call_goes_on_with_what_was_learnt_when_it_began(act, tmp_path):
    others = [with_green(image, 0, 0, 20) for image in NORMAL]
    detector = patchknn(embedder=Pausing()).fit(NORMAL)
    file = patchknn(embedder=Pausing()).fit(others).save_checkpoint(tmp_path / "o.safetensors")
    expected = patchknn().fit(NORMAL).decision_function(IMAGES)
    argument = {"fit": others, "partial_fit": others, "load_checkpoint": file}

    def change():
        if act == "set_params":
            detector.set_params(n_neighbors=3)
        else:
            getattr(detector, act)(argument[act])

    detector.embedder.meanwhile = lambda: _in_a_thread(change)
    np.testing.assert_array_equal(detector.decision_function(IMAGES), expected)
    if act != "set_params":  # which discards what was learnt
        assert not np.array_equal(detector.decision_function(IMAGES), expected)


CALLS = {
    "predict": lambda detector: detector.predict(UNSURE, return_confidence=True),
    "predict_confidence": lambda detector: detector.predict_confidence(UNSURE),
    "predict_proba": lambda detector: detector.predict_proba(UNSURE, return_confidence=True),
    "predict_with_rejection": lambda detector: detector.predict_with_rejection(
        UNSURE, confidence_threshold=0.5, return_confidence=True
    ),
    "explain": lambda detector: detector.explain(UNSURE[-1]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@EACH
def test_a_score_is_compared_with_the_training_scores_of_when_the_call_began(build, call):
    detector = build(embedder=Pausing()).fit(NORMAL)
    expected = call(copy.deepcopy(detector))
    detector.embedder.meanwhile = lambda: _in_a_thread(lambda: detector.fit(NORMAL_TOO))
    np.testing.assert_equal(call(detector), expected)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(call(detector), expected)


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_ends_though_another_class_has_no_training_scores(call):
    detector = promptscore(embedder=Pausing()).fit(NORMAL)
    expected = call(copy.deepcopy(detector))
    detector.embedder.meanwhile = lambda: _in_a_thread(lambda: detector.set_class_name("other"))
    np.testing.assert_equal(call(detector), expected)


LOOKS = {
    "repr": lambda detector, _: repr(detector),
    "copy": lambda detector, _: repr(copy.copy(detector)),
    "save_checkpoint": lambda detector, folder: repr(
        patchknn(embedder=detector.embedder).load_checkpoint(
            detector.save_checkpoint(folder / "d.safetensors")
        )
    ),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_who_looks_while_a_fit_is_put_in_place_sees_one_fit(look, tmp_path):
    detector, found = patchknn().fit(NORMAL), []
    before = look(detector, tmp_path)
    looking = threading.Thread(target=lambda: found.append(look(detector, tmp_path)))

    def meanwhile():
        looking.start()
        looking.join(timeout=0.5)

    fit_halfway(detector, NORMAL_TOO, meanwhile)
    looking.join(timeout=60)
    after = look(detector, tmp_path)
    assert found[0] in (before, after)
    assert before != after


def _in_a_thread(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive()


@pytest.mark.slow
def test_a_fit_in_another_thread_never_mixes_its_canvas_with_the_bank_of_another():
    pytest.importorskip("open_clip")
    wide, tall = red_images(2, 40, 80), red_images(2, 80, 40)
    asked = [red_image(60, 60, seed=9)]
    detector = VisionOpenCLIPPatchKNN(**TINY).fit(wide)
    allowed = {}
    for images in (tall, wide):
        detector.fit(images)
        allowed[detector.canvas_] = (
            detector.decision_function(asked)[0],
            detector.threshold_,
        )
    assert len(allowed) == 2
    done, wrong = threading.Event(), []

    def refit():
        for _ in range(15):
            for images in (tall, wide):
                detector.fit(images)
        done.set()

    def interleaved(act):
        """Let the other thread go as far as it can at the place where a mixture would arise."""

        def slowly(*arguments):
            switch.wait(0.01)
            return act(*arguments)

        return slowly

    switch = threading.Event()
    detector._scorer = interleaved(detector._scorer)
    detector._ready = interleaved(detector._ready)
    thread = threading.Thread(target=refit)
    thread.start()
    scores = {score for score, _ in allowed.values()}
    labels = {int(score > threshold) for score, threshold in allowed.values()}
    tried = 0
    while not done.is_set():
        score = detector.decision_function([red_image(60, 60, seed=9)])[0]
        if not any(abs(score - one) < 1e-6 for one in scores):
            wrong.append(score)
        if detector.predict(asked)[0] not in labels:
            wrong.append("label")
        tried += 1
    thread.join()
    assert wrong == []
    assert tried > 5
