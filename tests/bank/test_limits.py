"""What tells an image that is unlike the training images: its size, its look, its patch scores."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pyimgano_openclip import load_detector
from pyimgano_openclip.bank.limits import FAR_OVER_MOST, Limits
from pyimgano_openclip.bank.whole import REACH, Whole
from pyimgano_openclip.encoder.tokens import PatchTokens
from pyimgano_openclip.files.checkpoint import read_checkpoint
from pyimgano_openclip.images.look import look_of, shrunk
from pyimgano_openclip.images.roi import roi_of
from pyimgano_openclip.runtime.network import LikenessInside

from helpers.detectors import on_bundled, patchknn
from helpers.embedders import red_images

SIZE = (90, 120)
NOTHING = np.zeros((3, 4), np.float32)


def texture(seed, size=SIZE, *, down=1, right=1, contrast=40):
    """Grey blocks of random brightness, of so many pixels."""
    rows, cols = -(-size[0] // down), -(-size[1] // right)
    grey = np.random.default_rng(seed).normal(128, contrast, (rows, cols))
    grey = np.repeat(np.repeat(grey, down, axis=0), right, axis=1)[: size[0], : size[1]]
    return np.stack([grey.clip(0, 255)] * 3, axis=-1).astype(np.uint8)


def fading(seed, where):
    """An image that has hardly any contrast in one half."""
    image = texture(seed, down=2, right=2).astype(np.float32)
    image[where] = 128 + (image[where] - 128) * 0.3
    return image.astype(np.uint8)


@pytest.fixture(scope="module")
def limits():
    looks = [look_of(texture(seed, down=2, right=2)) for seed in range(8)]
    return Limits.of([SIZE] * 8, looks, 0.1)


def reason(limits, image, distance=1.0, scores=NOTHING):
    unlike = limits.unlike(SIZE, look_of(image), distance, scores)
    return unlike and unlike.removeprefix("unlike the training images: ")


def test_an_image_of_the_same_texture_is_like_the_others_in_other_light_too(limits):
    assert reason(limits, texture(50, down=2, right=2)) is None
    assert reason(limits, texture(51, down=2, right=2, contrast=30)) is None


@pytest.mark.parametrize(
    ("half", "where"),
    [
        ("left", np.s_[:, :60]),
        ("right", np.s_[:, 60:]),
        ("upper", np.s_[:45]),
        ("lower", np.s_[45:]),
    ],
)
def test_the_half_in_which_nothing_can_be_seen_is_named(limits, half, where):
    assert reason(limits, fading(60, where)) == f"blurred or empty in its {half} half"


def test_a_noisy_half_is_named():
    looks = [look_of(texture(seed, contrast=8 + seed % 2 * 4)) for seed in range(8)]
    image = texture(70, contrast=7)
    image[:, 60:] = texture(71, contrast=39)[:, 60:]
    found = reason(Limits.of([SIZE] * 8, looks, math.inf), image)
    assert found == "noise in its right half"


def test_only_where_is_looked_at_has_a_look(limits):
    image = fading(60, np.s_[:, :60])
    given = PatchTokens(np.ones((4, 6, 3), np.float32), SIZE, None, small=shrunk(image))
    right = given.within("part.png", roi_of((0.5, 0.0, 1.0, 1.0)))
    assert limits.unlike(SIZE, given.look, 1.0, NOTHING) is not None
    assert limits.unlike(SIZE, right.look, 1.0, NOTHING) is None
    np.testing.assert_allclose(right.look, look_of(image[:, image.shape[1] // 2 :]), rtol=1e-5)
    left = given.within("part.png", roi_of((0.0, 0.0, 0.5, 1.0)))
    assert "blurred or empty" in limits.unlike(SIZE, left.look, 1.0, NOTHING)


def test_a_smooth_image_out_of_focus_is_told_by_its_sharpest_edges():
    """Its differences are small on average, in focus or not; a defect may have sharper edges."""

    def cell(seed, blur=0.0):
        shade = np.linspace(60, 180, SIZE[1]) + np.random.default_rng(seed).uniform(-5, 5)
        image = np.tile(shade, (SIZE[0], 1))
        image[:, 40:44] = 30
        image = cv2.GaussianBlur(image, (0, 0), blur) if blur else image
        return np.stack([image] * 3, axis=-1).astype(np.uint8)

    usual = Limits.of([SIZE] * 8, [look_of(cell(seed)) for seed in range(8)], math.inf)
    image, blurred = cell(20), cell(20, blur=8)
    assert look_of(blurred).detail > usual.ranges["detail"][0]
    assert reason(usual, blurred) == "blurred or empty"
    image[30:34, 80:84] = 255
    assert reason(usual, image) is None


def test_another_texture_of_the_same_detail_is_named(limits):
    """Blocks whose differences are as large on average, but that are finer or lie otherwise."""
    detail = look_of(texture(0, down=2, right=2)).detail
    for down, right, contrast in ((1, 1, 20), (1, 8, 40), (8, 1, 40)):
        image = texture(80, down=down, right=right, contrast=contrast)
        assert abs(look_of(image).detail - detail) < math.log(2)
        assert reason(limits, image) == "another texture"


@pytest.mark.parametrize("where", [np.s_[45:], np.s_[:45]])
def test_repeated_rows_are_named(where):
    looks = [look_of(texture(n, down=1 + n % 2, right=2 - n % 2)) for n in range(8)]
    image = texture(90)
    assert reason(Limits.of([SIZE] * 8, looks, 0.1), image) is None
    image[where] = image[45]
    assert reason(Limits.of([SIZE] * 8, looks, 0.1), image) == "repeated rows or columns"


def test_a_dark_frame_is_called_black_whatever_else_is_strange_about_it(limits):
    grey = np.random.default_rng(0).normal(6, 8, (*SIZE, 1)).clip(0, 255).astype(np.uint8)
    noise = np.repeat(grey, 3, axis=2)
    assert look_of(noise).flat is None
    assert reason(limits, noise) == "nearly black"


def test_a_slightly_smaller_image_is_not_refused_for_its_coarser_grain(limits):
    image = texture(80, down=2, right=2)
    small = cv2.resize(image, (90, 68), interpolation=cv2.INTER_AREA)
    assert reason(limits, cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)) is None
    assert reason(limits, texture(80, down=6, right=6, contrast=110)) is None


def test_an_image_of_which_most_is_rather_far_is_named_but_not_one_with_a_defect(limits):
    image, scores = texture(50, down=2, right=2), np.full((4, 6), 0.25, np.float32)
    assert reason(limits, image, 2.0, scores) == "over most of it"
    assert reason(limits, image, 1.5, scores) is None  # 1.5 x 2.5 is not beyond 4
    scores[:2, :] = np.nan
    assert reason(limits, image, 2.0, scores) == "over most of it"
    scores[:] = 0.05
    scores[1:3, 1:3] = 1.5
    assert reason(limits, image, 2.0, scores) is None
    assert reason(limits, image, 2.3, scores) == "as a whole"


def test_exported_limits_tell_the_same_and_older_ones_what_they_know(limits):
    read = Limits.of_json(limits.as_json())
    assert read == limits
    far, look = np.full((4, 6), 0.25, np.float32), look_of(texture(50, down=2, right=2))
    small, pooled = shrunk(texture(50, down=2, right=2)), np.array([0.3, 2.0])
    found = PatchTokens(far[..., None], SIZE, None, pooled=pooled, small=small)
    assert LikenessInside(read).unlike(found, far) == limits.unlike(SIZE, look, 2.0, far)
    assert limits.unlike(SIZE, look, 2.0, far) is not None
    first = {"proportions", "sides", "distance", "detail", "red", "blue"}
    older = Limits({name: both for name, both in limits.ranges.items() if name in first})
    assert Limits.of_json(older.as_json()) == older
    assert reason(older, fading(60, np.s_[:, :60]), 2, far) is None
    assert reason(older, np.full_like(fading(0, np.s_[:]), 9)) == "nearly black"


def test_what_is_usual_is_the_largest_median_of_a_training_image_and_saved(tmp_path):
    detector = patchknn().fit(red_images(8))
    scores = [known.patches for known in detector._learnt.scores]
    usual = max(float(np.median(each)) for each in scores)
    whole = detector._learnt.whole
    assert whole.usual == pytest.approx(usual)
    assert whole.limits.ranges["most"] == (0, pytest.approx(FAR_OVER_MOST * usual))
    twin = patchknn().load_checkpoint(detector.save_checkpoint(tmp_path / "saved.safetensors"))
    assert twin._learnt.whole.limits == whole.limits
    saved = read_checkpoint(tmp_path / "saved.safetensors")
    earlier = replace(saved, arrays={**saved.arrays, REACH: saved.arrays[REACH][:2]})
    known = Whole.restored(earlier)
    assert known.reach.tolist() == whole.reach.tolist()
    assert "most" not in known.limits.ranges
    more = detector.partial_fit(red_images(4, first=20))._learnt
    assert more.whole.usual == max(float(np.median(known.patches)) for known in more.scores)


def test_without_patch_scores_of_training_images_nothing_is_said_of_them():
    looks = [look_of(texture(seed)) for seed in range(8)]
    assert "most" not in Limits.of([SIZE] * 8, looks, math.inf).ranges


def test_a_part_that_may_lie_in_any_direction_may_have_its_texture_across():
    looks = [look_of(texture(seed, down=1, right=8, contrast=40)) for seed in range(8)]
    across = texture(81, down=8, right=1, contrast=40)
    assert reason(Limits.of([SIZE] * 8, looks, math.inf), across) == "another texture"
    assert reason(Limits.of([SIZE] * 8, looks, math.inf, turned=True), across) is None
    finer = texture(82, down=1, right=1, contrast=40)
    assert reason(Limits.of([SIZE] * 8, looks, math.inf, turned=True), finer) is not None


@pytest.mark.slow
def test_turned_parts_are_like_the_others_after_loading_as_well(tmp_path):
    images = [texture(seed, down=1, right=8, contrast=40)[:, :90] for seed in range(8)]
    turned = np.rot90(texture(90, down=1, right=8, contrast=40)[:, :90]).copy()
    for rotations, like in ((1, False), (4, True)):
        detector = on_bundled("patchknn", rotations=rotations).fit(images)
        loaded = load_detector(detector.save_checkpoint(tmp_path / "d.safetensors"))
        for one in (detector, loaded):
            (scored,) = one.score_iter([turned])
            assert (scored.unlike is None) is like
