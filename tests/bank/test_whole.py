"""Images that are nothing like the training images as a whole, on generated products."""

import warnings
from contextlib import nullcontext

import cv2
import numpy as np
import pytest

from pyimgano_openclip import samples
from pyimgano_openclip.images.notices import FlatFrameWarning
from pyimgano_openclip.pool.gathering import TooFewError

from helpers.detectors import on_bundled, patchknn
from helpers.embedders import red_images

FAMILIES = ("capsule", "carpet")


def product(family, count, first=0, size=(160, 200)):
    return [
        samples.make_sample(family, seed=first + number, product=5, size=size).image
        for number in range(count)
    ]


def beside(colour, image, width):
    """The left part of an image, pushed to the right by so many pixels of one colour."""
    moved = np.full_like(image, colour.astype(np.uint8))
    moved[:, width:] = image[:, : image.shape[1] - width]
    return moved


def strange(image, other):
    """Images that should never have been taken for this product, and a part of the reason."""
    height, width = image.shape[:2]
    noise = np.random.default_rng(0).integers(0, 256, image.shape, dtype=np.uint8)
    return {
        "black": (np.zeros_like(image), "nearly black"),
        "white": (np.full_like(image, 255), "nearly white"),
        "grey": (np.full_like(image, 127), "nearly one colour"),
        "dark": ((image * 0.02).astype(np.uint8), "nearly black"),
        "noise": (noise, ""),
        "blurred": (cv2.GaussianBlur(image, (0, 0), width / 16), ""),
        "another product": (other, ""),
        "half": (np.concatenate([noise[:, : width // 2] // 9, image[:, width // 2 :]], axis=1), ""),
        "half dark": (beside(image.reshape(-1, 3).min(axis=0), image, width // 2), "empty"),
        "half out of view": (beside(np.median(image[:4], axis=(0, 1)), image, width // 2), "empty"),
        "wide": (np.ascontiguousarray(image[: height // 2]), "other proportions, 80 x 200 pixels"),
        "small": (cv2.resize(image, (30, 24)), "another size, 24 x 30 pixels"),
    }


@pytest.fixture(scope="module", params=FAMILIES)
def fitted(request):
    family = request.param
    detector = on_bundled("patchknn").fit(product(family, 12))
    (other,) = product(next(name for name in FAMILIES if name != family), 1)
    return detector, product(family, 20, first=100), strange(product(family, 1)[0], other)


@pytest.mark.slow
def test_what_is_no_such_product_scores_above_every_threshold_and_says_why(fitted):
    detector, _, strange = fitted
    for name, (image, reason) in strange.items():
        (scored,) = detector.score_iter([image])
        assert scored.image >= 2, name  # the largest cosine distance
        assert scored.unlike.startswith("unlike the training images: "), name
        assert reason in scored.unlike, (name, scored.unlike)
        assert detector.predict([image]) == [1]


@pytest.mark.slow
def test_a_good_image_is_like_the_others_and_light_may_change_a_little(fitted):
    detector, good, _ = fitted
    assert [scored.unlike for scored in detector.score_iter(good)] == [None] * len(good)
    lit = [np.clip(image * gain, 0, 255).astype(np.uint8) for image in good for gain in (0.8, 1.2)]
    assert sum(scored.unlike is not None for scored in detector.score_iter(lit)) <= 1


@pytest.mark.slow
def test_scores_that_are_raised_keep_their_order_and_maps_are_not_raised(fitted):
    detector, good, strange = fitted
    raised = list(detector.score_iter([image for image, _ in strange.values()]))
    for scored in raised:
        hottest = np.sort(scored.patches.ravel())[-2:]
        assert scored.image == pytest.approx(2 + hottest.mean())
        assert scored.anomaly_map().max() < 2
    assert detector.decision_function(good).max() < min(scored.image for scored in raised)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["patchknn", "promptscore"])
def test_a_loaded_detector_refuses_the_same_images_for_the_same_reasons(kind, tmp_path):
    detector = on_bundled(kind).fit(product("capsule", 6))
    path = detector.save_checkpoint(tmp_path / "saved.safetensors")
    twin = on_bundled(kind).load_checkpoint(path)
    images = [image for image, _ in strange(*product("capsule", 2)).values()]
    expected = [(scored.image, scored.unlike) for scored in detector.score_iter(images)]
    assert [(scored.image, scored.unlike) for scored in twin.score_iter(images)] == expected
    assert sum(unlike is not None for _, unlike in expected) > 6


@pytest.mark.slow
def test_a_product_that_is_added_is_not_strange_any_more():
    first, second = product("capsule", 6), product("carpet", 7)
    detector = on_bundled("patchknn").fit(first)
    (before,) = detector.score_iter(second[:1])
    assert before.unlike is not None
    detector.partial_fit(second[1:])
    (after,) = detector.score_iter(second[:1])
    assert after.unlike is None


@pytest.mark.slow
def test_one_image_is_enough_to_tell_a_dead_camera_and_another_size():
    (image,) = product("capsule", 1)
    detector = on_bundled("patchknn").fit([image])
    for name in ("black", "white", "grey", "noise", "wide", "small"):
        (scored,) = detector.score_iter([strange(image, image)[name][0]])
        assert scored.unlike is not None, name
    (another,) = detector.score_iter(product("capsule", 1, first=50))
    assert another.unlike is None


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["probability", "diff", "ratio"])
def test_without_training_images_a_frame_that_shows_nothing_is_warned_of_and_flagged(mode):
    detector = on_bundled("promptscore", mode=mode)
    (image,) = product("capsule", 1)
    frames = [np.zeros_like(image), np.full_like(image, 255), np.full_like(image, 90), image]
    with pytest.warns(FlatFrameWarning, match=r" is nearly black; .*white; .*colour"):
        labels = detector.predict(frames)
    assert labels[:3].tolist() == [1, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (scored,) = detector.score_iter([image])
    assert scored.unlike is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["patchknn", "promptscore"])
def test_a_frame_that_shows_nothing_is_not_learnt_without_a_word(kind):
    normal = product("capsule", 3, size=(80, 100))
    with pytest.warns(FlatFrameWarning, match="learnt as normal; .* is nearly black"):
        on_bundled(kind).fit([*normal, np.zeros_like(normal[0])])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["patchknn", "promptscore", "mutual"])
def test_a_region_in_which_nothing_can_be_seen_on_all_images_is_named(kind):
    normal = [image.copy() for image in product("capsule", 5, size=(80, 100))]
    for image in normal:
        image[:, :50] = 120
    fate = "scored above all thresholds" if kind == "mutual" else "learnt as normal"
    told = rf"within roi \(.*0\.4.* in shares of the sides\) on all 5 images, which are {fate}; "
    unseen = r"on {} of them nothing can be seen within roi \(\[0\.0, 0\.0, 0\.4, 1\.0\] in shares"

    def refusal(count):
        """Of a pool, which needs two images that show something."""
        pool = pytest.raises(TooFewError, match=unseen.format(count))
        return pool if kind == "mutual" else nullcontext()

    with pytest.warns(FlatFrameWarning, match=told) as caught, refusal(5):
        on_bundled(kind, roi=[0.0, 0.0, 0.4, 1.0]).fit(normal)
    (warning,) = [found for found in caught if found.category is FlatFrameWarning]
    assert "choose another roi" in str(warning.message)
    assert "leave them out" not in str(warning.message)
    normal[0][:, :50] = product("carpet", 1, size=(80, 50))[0]
    with (
        pytest.warns(FlatFrameWarning, match=r"Nothing can be seen on 4 images, which are"),
        refusal(4),
    ):
        on_bundled(kind, roi=[0.0, 0.0, 0.4, 1.0]).fit(normal)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["patchknn", "promptscore"])
def test_of_a_region_of_interest_alone_is_told_what_it_looks_like(kind):
    left = [0.0, 0.0, 0.5, 1.0]
    detector = on_bundled(kind, roi=left).fit(product("leather", 6, size=(120, 160)))
    (image,) = product("leather", 1, first=50, size=(120, 160))
    outside, inside, half = image.copy(), image.copy(), image.copy()
    outside[:, 130:] = 0
    inside[:, :80], half[60:, :80] = 0, 0
    usual, without, dead, partly = (
        scored.unlike for scored in detector.score_iter([image, outside, inside, half])
    )
    assert usual is without is None
    assert dead == "unlike the training images: nearly black"
    assert partly is not None


def test_a_custom_embedder_is_judged_by_its_tokens_and_sizes():
    detector = patchknn().fit(red_images(8))
    green = np.zeros((40, 40, 3), np.uint8) + np.array([0, 200, 0], np.uint8)
    scored = list(detector.score_iter([green, red_images(1, 40, 90, first=50)[0]]))
    assert scored[0].unlike == "unlike the training images: as a whole"
    assert scored[1].unlike == "unlike the training images: other proportions, 40 x 90 pixels"
