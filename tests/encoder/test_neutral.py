# ruff: noqa: E402 - torch and open_clip are asked for before they are imported
"""Scores do not depend on what the process around has set, nor is any of it changed."""

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from pyimgano_openclip import load_detector
from pyimgano_openclip.bank.search import build_search
from pyimgano_openclip.encoder.neutral import neutral
from pyimgano_openclip.process_wide import ProcessWide

from helpers.detectors import KINDS, on_bundled
from helpers.embedders import red_image, red_images, with_green
from helpers.privates import forget
from helpers.towers import embedder, photograph

pytestmark = pytest.mark.slow

NORMAL = red_images(3, 60, 90)
IMAGES = [red_image(60, 90, seed=9), with_green(NORMAL[1], 20, 30)]


@contextmanager
def changed(write, value, before):
    write(value)
    try:
        yield
    finally:
        write(before)


SURROUNDINGS = {
    "float64": lambda: changed(torch.set_default_dtype, torch.float64, torch.float32),
    "float16": lambda: changed(torch.set_default_dtype, torch.float16, torch.float32),
    "bfloat16": lambda: changed(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device": lambda: changed(torch.set_default_device, "meta", None),
    "the default device named": lambda: changed(torch.set_default_device, "cpu", None),
    "within a device": lambda: torch.device("meta"),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "without gradients": torch.no_grad,
    "with gradients": torch.enable_grad,
    "inference": torch.inference_mode,
    "deterministic": lambda: changed(torch.use_deterministic_algorithms, True, False),
    "half products": lambda: changed(torch.set_float32_matmul_precision, "medium", "highest"),
    "numpy raises": lambda: np.errstate(all="raise"),
}


def results(kind, **settings):
    detector = on_bundled(kind, **settings).fit(NORMAL)
    scores, hot = detector.decision_function(IMAGES), detector.get_anomaly_map(IMAGES[1])
    return [scores, hot, detector.decision_scores_]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What each kind finds in quiet surroundings, and where they are saved."""
    folder, found = tmp_path_factory.mktemp("quiet"), {}
    for kind in ("patchknn", "promptscore", "mutual"):
        detector = on_bundled(kind).fit(NORMAL)
        path = detector.save_checkpoint(folder / f"{kind}.safetensors")
        found[kind] = results(kind), path
    return found


@pytest.mark.parametrize("around", SURROUNDINGS)
@KINDS
def test_scores_are_equal_to_the_last_bit_whatever_is_set_around(kind, around, expected):
    wanted, path = expected[kind]
    with SURROUNDINGS[around]():
        found = results(kind)
        loaded = load_detector(path, device="cpu", precision="float32").decision_function(IMAGES)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(loaded, wanted[0])


@pytest.mark.parametrize("around", SURROUNDINGS)
def test_a_detector_made_in_quiet_surroundings_scores_alike_in_others(around, expected):
    detector = load_detector(expected["patchknn"][1], device="cpu", knn_backend="torch")
    wanted = detector.decision_function(IMAGES)
    with SURROUNDINGS[around]():
        # The images are new objects with equal content, but no score is kept for them.
        forget(detector)
        np.testing.assert_array_equal(detector.decision_function(IMAGES), wanted)


@pytest.mark.parametrize(
    "settings", [{"max_patches": 40}, {"memory_bank_dtype": "float16"}, {"rotations": 2}]
)
def test_a_thinned_or_rounded_bank_is_the_same_where_numpy_raises(settings):
    wanted = results("patchknn", **settings)
    with np.errstate(all="raise"):
        found = results("patchknn", **settings)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("around", ["float64", "bfloat16", "default device", "autocast"])
def test_random_weights_are_float32_and_equal_whatever_is_set_around(around):
    wanted = embedder(random_seed=3)
    with SURROUNDINGS[around]():
        reader = embedder(random_seed=3)
        found = reader.embed(photograph())[0]
    assert {weight.dtype for weight in reader.visual.parameters()} == {torch.float32}
    assert {weight.device.type for weight in reader.visual.parameters()} == {"cpu"}
    np.testing.assert_array_equal(found, wanted.embed(photograph())[0])


def test_what_was_set_is_set_afterwards(tmp_path):
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_float32_matmul_precision("medium")
    try:
        on_bundled("promptscore").fit(NORMAL)
        assert torch.get_default_dtype() == torch.float64
        assert torch.empty(0).device.type == "meta"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        torch.set_float32_matmul_precision("highest")


def test_a_setting_of_the_process_is_neutral_until_the_last_thread_leaves():
    box = {"value": "theirs"}
    setting = ProcessWide(lambda: box["value"], lambda value: box.update(value=value), "ours")
    with setting:
        with setting:
            assert box["value"] == "ours"
        assert box["value"] == "ours"
    assert box["value"] == "theirs"
    with setting:
        box["value"] = "changed meanwhile"
    assert box["value"] == "changed meanwhile"


def test_many_threads_leave_the_default_type_as_it_was():
    def compute(_):
        with neutral():
            return torch.ones(2).dtype

    with changed(torch.set_default_dtype, torch.float64, torch.float32):
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(compute, range(400))) == {torch.float32}
        assert torch.get_default_dtype() == torch.float64


@KINDS
def test_random_states_stay_as_they_were(kind, tmp_path):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the state that others may rely on
    torch.manual_seed(1)
    before = random.getstate(), str(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    detector = on_bundled(kind, random_seed=9).fit(NORMAL)
    detector.decision_function(IMAGES)
    load_detector(detector.save_checkpoint(tmp_path / "a.safetensors"), device="cpu")
    embedder(tokens="aligned", random_seed=4).encode_text(["a nut"])
    assert random.getstate() == before[0]
    assert str(np.random.get_state()) == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_read_only_bank_is_searched_without_a_warning():
    rows = np.eye(5, dtype=np.float32)
    queries = rows[2:3]
    rows.flags.writeable = queries.flags.writeable = False
    similarity, index = build_search("torch", rows, "cpu")(queries, 1, range(0))
    assert (similarity[0, 0], index[0, 0]) == (1.0, 2)
