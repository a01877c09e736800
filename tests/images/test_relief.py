"""The relief of an image tells frames of one scene."""

import numpy as np
import pytest

from pyimgano_openclip.bank.copies import near_copies, sketch
from pyimgano_openclip.bank.masked import NO_MASK, UNKNOWN, of_one_scene
from pyimgano_openclip.images.relief import relief_in_cells, relief_of
from pyimgano_openclip.samples import make_sample

SIZE = (120, 160)
GRID = (4, 5)


def picture(family="leather", seed=0):
    return make_sample(family, seed=seed, size=SIZE).image


def frame(image, seed, *, noise=2.0, gain=1.0):
    noisy = gain * image + np.random.default_rng(seed).normal(0, noise, image.shape)
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def told(images, inside=None):
    """Near copies by their reliefs alone: all tokens are far apart."""
    tokens = np.random.default_rng(0).normal(size=(len(images), 20, 64)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=2, keepdims=True)
    each = zip(tokens, images, strict=True)
    sketches = [sketch(own, relief=relief_of(image, inside)) for own, image in each]
    return [near.tolist() for near in near_copies(np.array(sketches), [GRID] * len(images))]


def test_a_relief_is_the_block_less_its_surroundings():
    image = np.full((40, 60, 3), 100, np.uint8)
    image[16:20, 24:28] = 125
    found = relief_of(image) * (10 * 15) ** 0.5
    assert found.shape == (10, 15)
    assert found[4, 6] == pytest.approx(24)
    assert found[4, 8] == pytest.approx(-1)
    assert found[4, 9] == pytest.approx(0, abs=1e-3)
    assert found[0, 0] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("family", ["leather", "paper", "plastic", "screw"])
def test_frames_of_one_scene_are_told_and_other_images_of_the_product_are_not(family):
    first, second = picture(family, 1), picture(family, 2)
    frames = [frame(first, seed, gain=gain) for seed, gain in enumerate((1, 1.08, 0.9))]
    assert told([first, second, *frames]) == [[0, 2, 3, 4], [1], *[[0, 2, 3, 4]] * 3]


def test_light_that_falls_from_another_side_makes_no_other_scene():
    image = picture()
    slope = np.linspace(0.93, 1.07, SIZE[1])[:, None]
    assert told([image, frame(image * slope, 1), picture(seed=1)]) == [[0, 1], [0, 1], [2]]


def test_even_surfaces_under_one_lamp_are_no_frames_of_one_scene():
    rows, cols = np.ogrid[: SIZE[0], : SIZE[1]]
    lamp = 150 - 0.002 * ((rows - 60) ** 2 + (cols - 80) ** 2)
    surfaces = [frame(np.repeat(lamp[..., None], 3, axis=2), seed) for seed in range(4)]
    assert told(surfaces) == [[0], [1], [2], [3]]


def test_a_small_region_differs_as_much_as_a_large_one():
    inside = np.zeros(SIZE, bool)
    inside[40:72, 60:92] = True
    first, second = (np.where(inside[..., None], picture(seed=s), np.uint8(120)) for s in (1, 2))
    again = np.where(inside[..., None], frame(first, 3), np.uint8(120))
    assert told([first, second, again], inside) == [[0, 2], [1], [0, 2]]


def test_frames_on_which_nothing_can_be_seen_are_not_told():
    black = np.zeros((*SIZE, 3), np.uint8)
    assert told([frame(black, seed) for seed in range(3)]) == [[0], [1], [2]]
    assert told([black, black]) == [[0], [1]]


def test_images_smaller_than_two_blocks_have_a_relief_of_pixels():
    assert relief_of(np.zeros((3, 5, 3), np.uint8)).shape == (3, 5)


def test_in_too_few_blocks_nothing_is_told():
    inside = np.zeros(SIZE, bool)
    inside[40:56, 60:80] = True
    first, second = (np.where(inside[..., None], picture(seed=s), np.uint8(120)) for s in (1, 2))
    assert told([first, second, first], inside) == [[0], [1], [2]]


def under_mask(image, left, right):
    """The cells of an image of which only some columns are looked at."""
    inside = np.zeros(SIZE, bool)
    inside[:, left:right] = True
    return relief_in_cells(np.where(inside[..., None], image, np.uint8(120)), inside)


def test_cells_within_a_mask_are_those_of_the_whole_image():
    whole, found = relief_in_cells(picture()), under_mask(picture(), 13, 130)
    known = ~np.isnan(found)
    assert known.sum() == 8 * 8
    np.testing.assert_allclose(found[known], whole[known], rtol=0, atol=1e-4)
    assert not np.isnan(whole).any()
    assert np.square(whole).mean() == pytest.approx(np.square(relief_of(picture())).sum(), rel=0.3)


@pytest.mark.parametrize("family", ["leather", "paper", "plastic", "screw"])
def test_frames_under_masks_that_differ_are_told_and_other_images_are_not(family):
    first, second = picture(family, 1), picture(family, 2)
    frames = [
        (first, 8, 150),
        (second, 8, 150),
        (frame(first, 3), 12, 154),
        (frame(first, 4), 0, 90),
    ]
    numbers = np.tile(NO_MASK, (4, 1))
    cells = [under_mask(*one).ravel() for one in frames]
    numbers[:, :128] = np.nan_to_num(cells, nan=UNKNOWN)
    found = of_one_scene(numbers, numbers)
    assert found.tolist() == [[a == b or 1 not in (a, b) for a in range(4)] for b in range(4)]


def test_masks_with_little_in_common_tell_nothing():
    cells = [under_mask(picture(), *columns).ravel() for columns in ((0, 70), (60, 160))]
    numbers = np.tile(NO_MASK, (2, 1))
    numbers[:, :128] = np.nan_to_num(cells, nan=UNKNOWN)
    assert of_one_scene(numbers, numbers).tolist() == [[True, False], [False, True]]
