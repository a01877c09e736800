"""Whatever images and settings there are: a documented error, or scores and maps as promised.

The same ones every time; ``--fuzz`` asks for more, ``--hypothesis-seed=random`` for others.
"""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pyimgano_openclip import (
    VisionOpenCLIPMutual,
    VisionOpenCLIPPatchKNN,
    VisionOpenCLIPPromptScore,
)
from pyimgano_openclip.images.reading import image_size, read_frame

from helpers.detectors import TEXT
from helpers.embedders import ColourEmbedder

# Images that are drawn can be the same, and dark, and few; words can be long.
WARNINGS = (
    "bank.copies.CopiesWarning",
    "bank.relatives.DependentImagesWarning",
    "detector.promises.FewImagesWarning",
    "encoder.context.CutSentenceWarning",
    "images.notices.FlatFrameWarning",
    "images.notices.MixedProportionsWarning",
    "images.notices.MixedSizesWarning",
    "images.notices.UnusedRangeWarning",
    "maps.gaps.UnreadableImageWarning",
)
pytestmark = [
    pytest.mark.timeout(1800),  # seconds; --fuzz may ask for a lot
    *(pytest.mark.filterwarnings(f"ignore::pyimgano_openclip.{name}") for name in WARNINGS),
]

SIDES = st.sampled_from([1, 2, 3, 5, 16, 41, 97, 300])
ODD = st.sampled_from(
    [None, True, 0, -1, 1.5, float("nan"), float("inf"), 10**30, "", "x", b"x", [], (), {}, [None],
     ["x"], (0,), (1, 2, 3), [[1]], {"normal": 1}, object(), np.zeros(3), np.zeros((2, 2, 2, 2))]
)  # fmt: skip


@pytest.fixture
def examples(fuzz, pytestconfig):
    """A decorator: run with so many examples for every thousand inputs."""

    def run(count):
        return settings(
            max_examples=max(1, count * fuzz // 1000),
            derandomize=pytestconfig.getoption("--hypothesis-seed") is None,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate),  # a failure is small, and told at once
        )

    return run


def filled(shape, kind):
    """An array of a valid image's values."""
    generator = np.random.default_rng(abs(hash(shape)))
    if np.dtype(kind).kind == "f":
        return generator.random(shape).astype(kind)
    if kind == "bool":
        return generator.random(shape) > 0.5
    return generator.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


SHAPES = st.one_of(
    st.tuples(SIDES, SIDES, st.just(3)),
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES, st.sampled_from([1, 4])),
)
IMAGES = st.builds(
    filled, SHAPES, st.sampled_from(["uint8", "uint8", "uint16", "bool", "float32", "float16"])
)
ODD_ARRAYS = arrays.arrays(
    dtype=st.one_of(
        arrays.integer_dtypes(),
        arrays.unsigned_integer_dtypes(),
        arrays.floating_dtypes(),
        arrays.complex_number_dtypes(),
        arrays.boolean_dtypes(),
        arrays.unicode_string_dtypes(),
    ),
    shape=st.lists(st.sampled_from([0, 1, 2, 3, 4, 7]), max_size=4).map(tuple),
)
ODD_ITEMS = st.one_of(
    ODD,
    ODD_ARRAYS,
    st.text(max_size=30),
    st.binary(max_size=30),
    st.sampled_from(
        [".", "/", "missing.png", "a\0b", "\ud800", "/dev/null", "/dev/zero", "x" * 5000]
    ),
)
ITEMS = st.lists(st.one_of(IMAGES, IMAGES, IMAGES, ODD_ITEMS), max_size=5)


def mostly(usual, odd=ODD):
    """A value out of the range one time in forty."""
    return st.integers(0, 39).flatmap(lambda chance: odd if chance == 7 else usual)


SHARE = st.floats(0, 1).map(lambda share: round(share, 2))
ROIS = st.one_of(
    st.tuples(*[st.floats(0, 0.5)] * 2, *[st.floats(0.5, 1)] * 2),
    st.tuples(SHARE, SHARE, SHARE, SHARE),
    st.lists(st.tuples(SHARE, SHARE), min_size=3, max_size=5),
    st.tuples(SIDES, SIDES).map(lambda size: filled(size, "bool")),
    st.just(np.ones((3, 3), bool)),
)
SHARED = {
    "aggregation_method": mostly(st.sampled_from(["topk_mean", "max", "mean"])),
    "aggregation_topk": mostly(st.floats(0.001, 1)),
    "contamination": mostly(st.floats(0.001, 0.5)),
    "random_seed": mostly(st.integers(0, 2**31)),
    "batch_size": mostly(st.none() | st.integers(1, 9)),
    "on_error": mostly(st.sampled_from(["raise", "nan"])),
    "channel_order": mostly(st.sampled_from(["rgb", "bgr"])),
    "roi": mostly(st.none() | ROIS),
}
CALIBRATED = {"confidence": mostly(st.none() | st.floats(0.01, 0.99))}
READING = {
    "resize": mostly(st.sampled_from(["keep", "squash"])),
    "max_tokens": mostly(st.none() | st.integers(1, 300)),
    "force_image_size": mostly(
        st.none() | st.integers(1, 130) | st.tuples(st.integers(1, 130), st.integers(1, 130))
    ),
    "precision": mostly(st.sampled_from(["auto", "float32", "bfloat16", "float16"])),
    "smallest_defect": mostly(st.none() | st.floats(8, 400)),
}
KNN = {
    "n_neighbors": mostly(st.integers(1, 40)),
    "knn_backend": mostly(
        st.sampled_from(["auto", "numpy", "torch", "sklearn", "faiss", "faiss-ivf"])
    ),
    "memory_bank_dtype": mostly(st.sampled_from(["float32", "float16"])),
    "coreset_sampling_ratio": mostly(st.floats(0.001, 1)),
    "max_patches": mostly(st.none() | st.integers(1, 300)),
    "jitter": mostly(st.none() | st.floats(0, 0.25)),
    "rotations": mostly(st.integers(1, 4)),
}
LAYERS = {
    "layers": mostly(st.lists(st.floats(0.01, 1), min_size=1, max_size=4)),
    "neighbourhoods": mostly(st.lists(st.sampled_from([1, 3, 5, 15, 99]), min_size=1, max_size=3)),
}
POOL = {
    "recipe": mostly(st.sampled_from(["fused", "fused", "musc"])),
    "max_comparisons": mostly(st.integers(1, 9)),
    "threshold_rule": mostly(st.sampled_from(["share", "outliers"])),
}
WORDS = {
    "class_name": mostly(st.text(max_size=20)),
    "defects": mostly(st.none() | st.lists(st.text(max_size=10), max_size=3)),
    "normal_states": mostly(st.none() | st.lists(st.text(max_size=10), max_size=2)),
    "templates": mostly(
        st.sampled_from([["{}"], ["a photo of a {}."], ["{0.__class__}"], ["{:>9}"]])
    ),
}
ATTENTION = {
    "attention": mostly(st.sampled_from(["auto", "vv", "qq", "kk", "none"])),
    "stages": mostly(st.integers(1, 8)),
    "windows": mostly(st.sampled_from([(), (), (), (1,), (2, 3), (50,)])),
}
MODE = {
    "mode": mostly(st.sampled_from(["probability", "diff", "ratio"])),
    "references": st.none() | st.lists(IMAGES, max_size=3) | ODD,
}


def some(*choices):
    """A few of the settings; the others keep their defaults."""
    every = {name: values for choice in choices for name, values in choice.items()}
    return st.fixed_dictionaries({}, optional=every)


class Reading(ColourEmbedder):
    """Reads whatever the package reads."""

    def embed(self, image):
        frame = read_frame(image, (16, 16))
        tokens, grid, _ = super().embed(frame.pixels)
        return tokens, grid, frame.size


def refused(call, *errors):
    """What a call returns, or None if it raises a ValueError that says something."""
    try:
        return call()
    except (ValueError, *errors) as error:
        if not str(error):
            raise
        return None


def check_scores(detector, images):
    """Scores, labels and maps of sound images are what the documentation promises."""
    scores = detector.decision_function(images)
    assert scores.shape == (len(images),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert set(detector.predict(images)) <= {0, 1}
    for image, found in zip(images, detector.iter_anomaly_maps(images), strict=True):
        assert found.shape == image.shape[:2]
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
    height, width = images[0].shape[:2]
    for region in detector.explain(images[0], threshold=float(scores[0])):
        left, top, right, bottom = region.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def check_detector(make, items, images, path, tried):
    """Fit on anything; what was fitted scores images, and is the same after it was saved."""
    tried["tried"] += 1
    detector = refused(make, ImportError)
    if detector is None:
        tried["settings refused"] += 1
        return
    if refused(lambda: detector.fit(items)) is None:
        tried["images refused"] += 1
        assert not hasattr(detector, "threshold_")
        if refused(lambda: detector.fit(images)) is None:
            return  # settings that the tower or the references do not go with
    tried["fitted"] += 1
    if refused(lambda: detector.decision_function(images)) is None:
        return  # a region of interest that an image does not have
    check_scores(detector, images)
    refused(lambda: detector.decision_function(items))
    check_scores(detector, images)
    if not isinstance(detector, VisionOpenCLIPPromptScore):
        detector.nearest(images[0])
    if isinstance(detector, VisionOpenCLIPPatchKNN):
        refused(lambda: detector.partial_fit(images[-1:]))  # a bank of one row has no other image
    scores, file = detector.decision_function(images), detector.save_checkpoint(path)
    twin = refused(lambda: make().load_checkpoint(file))
    if twin is not None:
        tried["saved and loaded"] += 1
        np.testing.assert_allclose(twin.threshold_, detector.threshold_)
        np.testing.assert_allclose(twin.decision_function(images), scores, rtol=1e-4, atol=1e-5)


def told(what, tried):
    return f"{what}: " + ", ".join(f"{name} {number}" for name, number in tried.items())


def test_any_item_is_an_image_or_refused(examples, tell):
    tried = Counter()

    @examples(200)
    @given(st.one_of(IMAGES, ODD_ITEMS), st.tuples(st.integers(1, 60), st.integers(1, 60)))
    def check(item, canvas):
        tried["tried"] += 1
        size = refused(lambda: image_size(item))
        frame = refused(lambda: read_frame(item, canvas))
        if frame is not None:
            tried["read"] += 1
            assert frame.size == size
            assert frame.pixels.shape == (*canvas, 3)

    check()
    tell(told("images and what is none", tried))
    assert tried["read"] < tried["tried"]


@pytest.mark.slow
def test_any_setting_with_an_embedder_of_the_callers(examples, tmp_path, tell):
    tried = Counter()
    classes = {
        VisionOpenCLIPPatchKNN: some(SHARED, CALIBRATED, KNN),
        VisionOpenCLIPMutual: some(SHARED, POOL),
        VisionOpenCLIPPromptScore: some(SHARED, CALIBRATED, MODE).map(
            lambda found: {**TEXT, **found}
        ),
    }

    @examples(60)
    @given(
        st.data(), st.sampled_from(list(classes)), ITEMS, st.lists(IMAGES, min_size=1, max_size=4)
    )
    def check(data, cls, items, images):
        chosen = data.draw(classes[cls])
        check_detector(
            lambda: cls(embedder=Reading(), **chosen), items, images, tmp_path / "m", tried
        )

    check()
    tell(told("settings with an embedder", tried))
    assert tried["saved and loaded"] > tried["tried"] / 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "cls", [VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, VisionOpenCLIPMutual]
)
def test_any_setting_with_the_bundled_model(cls, examples, tmp_path, monkeypatch, tell):
    pytest.importorskip("open_clip")
    monkeypatch.setenv("PYIMGANO_OPENCLIP_CACHE", str(tmp_path / "texts"))
    tried = Counter()
    common = {"openclip_model_name": "bundled", "device": "cpu"}
    if cls is VisionOpenCLIPPatchKNN:
        choices = some(SHARED, CALIBRATED, READING, KNN, LAYERS)
    elif cls is VisionOpenCLIPMutual:
        choices = some(SHARED, READING, POOL, LAYERS)
    else:
        choices = some(SHARED, CALIBRATED, READING, WORDS, ATTENTION, MODE)
        common["templates"] = ["{}"]  # few sentences to encode

    @examples(15)
    @given(choices, ITEMS, st.lists(IMAGES, min_size=1, max_size=4))
    def check(chosen, items, images):
        check_detector(lambda: cls(**{**common, **chosen}), items, images, tmp_path / "m", tried)

    check()
    tell(told(f"settings of {cls.__name__}", tried))
    assert tried["saved and loaded"] > tried["tried"] / 10
