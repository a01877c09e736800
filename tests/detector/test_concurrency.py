# ruff: noqa: E402 - torch is asked for before it is imported
"""Threads, processes, copies and interruptions: the same scores, and nothing left behind."""

import copy
import multiprocessing
import pickle
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

from helpers.detectors import BUNDLED, KINDS, on_bundled
from helpers.embedders import red_images, save_all, with_green
from helpers.privates import embedder_of, forget, forgetful
from helpers.processes import run_python

pytestmark = pytest.mark.slow

NORMAL = red_images(8, 48, 72)
IMAGES = red_images(12, 48, 72, first=100)
IMAGES[3::4] = [with_green(image, 20, 30) for image in IMAGES[3::4]]
CLASSES = ("leather", "screw", "tile")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals or forks")


@pytest.fixture(scope="module")
def fitted():
    return {kind: on_bundled(kind).fit(NORMAL) for kind in ("patchknn", "promptscore", "mutual")}


@pytest.fixture
def detector(fitted, kind):
    """A detector with nothing remembered; the tower is shared."""
    return forgetful(fitted[kind])


def scores_and_maps(detector, images):
    return detector.decision_function(images), detector.predict_anomaly_map(images)


@KINDS
def test_eight_threads_get_what_one_gets(detector, fitted, kind):
    expected = scores_and_maps(fitted[kind], IMAGES)
    orders = [np.random.default_rng(seed).permutation(len(IMAGES)) for seed in range(8)]

    def work(order):
        return scores_and_maps(detector, [IMAGES[place] for place in order])

    with ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(work, orders), strict=True):
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other[order], rtol=0, atol=1e-6)


@KINDS
def test_a_first_call_from_eight_threads_is_one_canvas_and_one_model(kind):
    detector = on_bundled(kind)
    if kind == "patchknn":
        detector.fit(NORMAL)
        expected = detector.decision_function(IMAGES[:2])
    else:
        expected = on_bundled(kind).decision_function(IMAGES[:2])
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: detector.decision_function(IMAGES[:2]), range(8)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_random_towers_that_are_built_at_once_have_the_weights_of_their_seeds():
    def weights(seed):
        detector = VisionOpenCLIPPatchKNN(
            openclip_model_name="ViT-S-32-alt", openclip_pretrained=None, random_seed=seed
        )
        return embedder_of(detector).fingerprint

    expected = [weights(seed) for seed in range(2)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(weights, range(2))) == expected


@pytest.mark.parametrize("how", ["decision_function", "score_iter"])
def test_a_class_that_changes_while_images_are_scored_is_not_mixed_in(fitted, how, monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.detector.base.AT_FIRST", 3)
    detector = copy.copy(fitted["promptscore"])
    expected = []
    for name in CLASSES:
        detector.set_class_name(name)
        expected.append(_scores(detector, how))
    assert not np.allclose(expected[0], expected[1], atol=1e-4)
    stop = threading.Event()

    def switch():
        while not stop.is_set():
            for name in CLASSES:
                detector.set_class_name(name)
                time.sleep(0.0005)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(switch)
        try:
            found = []
            for _ in range(4):
                forget(detector)
                found.append(_scores(detector, how))
        finally:
            stop.set()
    nearest = [min(np.abs(one - other).max() for other in expected) for one in found]
    assert max(nearest) < 1e-5


def _scores(detector, how):
    found = getattr(detector, how)(IMAGES[:8])
    return np.array([np.max(getattr(scored, "image", scored)) for scored in found])


def test_a_region_is_named_by_the_class_that_found_it(fitted, monkeypatch):
    detector = VisionOpenCLIPPromptScore(
        class_name="leather", defects=["scratch", "hole"], **BUNDLED
    )
    expected = detector.explain(IMAGES[3], threshold=0.1)
    assert expected
    name = detector._name_regions

    def switch_first(*arguments):
        detector.set_class_name("screw")
        return name(*arguments)

    monkeypatch.setattr(detector, "_name_regions", switch_first)
    detector.set_class_name("leather")
    assert detector.explain(IMAGES[3], threshold=0.1) == expected


@KINDS
def test_copies_and_pickles_score_the_same_and_live_on_their_own(fitted, kind):
    original = fitted[kind]
    expected = scores_and_maps(original, IMAGES[:4])
    for twin in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        for one, other in zip(scores_and_maps(twin, IMAGES[:4]), expected, strict=True):
            # Its weights lie elsewhere in memory, and sums of other alignment round otherwise.
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert twin.threshold_ == original.threshold_
        twin.fit(IMAGES[:3])
        twin.threshold_ = -1.0
    np.testing.assert_array_equal(original.decision_function(IMAGES[:4]), expected[0])
    assert len(original.decision_scores_) == len(NORMAL)


def test_a_spawned_process_scores_the_same(fitted):
    expected = [fitted[kind].decision_function(IMAGES[:4]) for kind in sorted(fitted)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        found = [
            pool.apply(fitted[kind].decision_function, (IMAGES[:4],)) for kind in sorted(fitted)
        ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


FORK = """
import multiprocessing, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, from Python 3.12 on
import numpy as np, torch
from helpers.detectors import on_bundled
from helpers.embedders import red_images, with_green
torch.set_num_threads(2)  # whose second thread a child does not have
kinds = ("patchknn", "promptscore", "mutual")
detectors = [on_bundled(kind).fit(red_images(8, 48, 72)) for kind in kinds]
images = red_images(12, 48, 72, first=100)
images[3::4] = [with_green(image, 20, 30) for image in images[3::4]]
work = lambda images: [detector.decision_function(images) for detector in detectors]
work(images[:4])
context = multiprocessing.get_context("fork")
answers = context.Queue()
answer = lambda: answers.put(work(images[4:]))
children = [context.Process(target=answer, daemon=True) for _ in range(2)]
for child in children:
    child.start()
found = [answers.get(timeout=100) for _ in children]
for child in children:
    child.join()
np.testing.assert_allclose(found, [work(images[4:])] * 2, rtol=0, atol=1e-6)
assert torch.get_num_threads() == 2
print("equal")"""


@POSIX
def test_a_forked_process_does_not_hang_and_scores_the_same():
    done = run_python(FORK, OMP_NUM_THREADS="2", OMP_WAIT_POLICY="PASSIVE")
    assert done.stdout.endswith("equal\n")


class Interrupted:
    """Interrupts this thread once, after so long; to be used as a context manager."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def __exit__(self, *_error):
        signal.setitimer(signal.ITIMER_REAL, 0)


@pytest.fixture
def ctrl_c():
    def interrupt(*_arguments):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield Interrupted
    signal.signal(signal.SIGALRM, before)


def left_behind(detector):
    """Threads of this package, hooks of the tower, open files."""
    hooks = 0
    for module in embedder_of(detector).visual.modules():
        hooks += len(module._forward_hooks) + len(module._forward_pre_hooks)
    end = time.monotonic() + 10
    while (threads := _readers()) and time.monotonic() < end:
        time.sleep(0.01)  # one that was just being started needs a moment to see that it is over
    descriptors = Path("/proc/self/fd")
    files = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    return threads, hooks, files


def _readers():
    return [one.name for one in threading.enumerate() if "pyimgano-openclip" in one.name]


def state(detector):
    arrays = (detector.decision_scores_, detector.labels_, *scores_and_maps(detector, IMAGES[:3]))
    return [detector.threshold_, detector.canvas_, *(array.tolist() for array in arrays)]


@POSIX
@KINDS
@pytest.mark.parametrize("how", ["score", "fit"])
def test_an_interruption_at_any_moment_changes_and_leaves_nothing(
    detector, kind, how, ctrl_c, tmp_path
):
    paths = save_all(IMAGES, tmp_path)
    work = {
        "score": lambda: scores_and_maps(detector, paths),
        "fit": lambda: detector.fit(paths),
    }[how]
    before, clean = state(detector), left_behind(detector)
    forget(detector)
    start = time.perf_counter()
    if how == "fit":
        copy.copy(detector).fit(paths)
    else:
        work()
    duration = time.perf_counter() - start
    kept = []  # with their tracebacks, as an interactive session keeps the last one
    for moment in (0.02, 0.1, 0.25, 0.45, 0.7):
        forget(detector)
        try:
            with ctrl_c(moment * duration):
                work()
        except KeyboardInterrupt as error:
            kept.append(error)
            assert left_behind(detector) == clean
            forget(detector)  # scores of another batch, which differ in their last bits
            assert state(detector) == before
        else:
            detector.fit(NORMAL)
    assert len(kept) >= 2
