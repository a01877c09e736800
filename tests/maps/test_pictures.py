"""Anomaly maps as pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import overlay
from pyimgano_openclip.maps.pictures import (
    colour_range,
    colour_scale,
    map_to_16_bits,
    thumbnail,
)  # fmt: skip


def test_an_overlay_changes_hot_pixels_and_leaves_cold_ones():
    image = np.full((40, 60, 3), 100, np.uint8)
    found = np.zeros((40, 60), np.float32)
    found[10:20, 30:50] = 1
    picture = np.asarray(overlay(image, found, low=0, high=1))
    assert picture.shape == image.shape
    np.testing.assert_array_equal(picture[found == 0], image[found == 0])
    assert (picture[found == 1] != 100).any(axis=-1).all()


def test_a_threshold_draws_a_line_around_what_is_above_it():
    image, found = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.float32)
    found[10:20, 30:50] = 0.5
    picture = np.asarray(overlay(image, found, low=0, high=100, threshold=0.4))
    assert (picture[10, 35] == 255).all()
    assert (picture[15, 40] < 50).all()


@pytest.mark.parametrize(
    ("shape", "low", "high", "message"),
    [
        ((40, 61), 0, 1, "sizes differ"),
        ((40, 60), 1, 1, "must be below"),
        ((40, 60), "0", 1, "low='0'; it must be a number"),
    ],
)
def test_what_does_not_fit_together_is_refused(shape, low, high, message):
    with pytest.raises(ValueError, match=message):
        overlay(np.zeros((40, 60, 3), np.uint8), np.zeros(shape, np.float32), low=low, high=high)


def test_an_overlay_of_a_large_image_is_put_together_from_those_of_its_parts():
    draw = np.random.default_rng(0)
    image = draw.integers(0, 255, (301, 402, 3), dtype=np.uint8)
    found = draw.random((301, 402), np.float32)
    whole = np.asarray(overlay(image, found))
    for rows in (slice(0, 47), slice(47, 200), slice(200, 301)):
        np.testing.assert_array_equal(overlay(image[rows], found[rows]), whole[rows])


def test_by_itself_colour_begins_at_the_threshold_and_ends_at_twice_of_it():
    image = np.full((40, 60, 3), 100, np.uint8)
    found = np.zeros((40, 60), np.float32)
    found[10:30, 10:20], found[10:30, 30:40], found[10:30, 45:55] = 0.2, 0.3, 0.4
    picture = np.asarray(overlay(image, found, 0.2)).astype(int)
    assert (picture[20, 15] == 100).all()  # not above the threshold
    assert picture[20, 35].tolist() != [100] * 3
    hotter = found.copy()
    hotter[10:30, 45:55] = 0.9
    np.testing.assert_array_equal(overlay(image, hotter, 0.2), picture)  # the scale has an end
    np.testing.assert_array_equal(overlay(image, found, 0.2, low=0.2, high=0.4), picture)
    np.testing.assert_array_equal(overlay(image, found), overlay(image, found, low=0, high=1))


def test_a_threshold_of_nothing_still_has_a_scale():
    found = np.linspace(-1, 1, 40 * 60, dtype=np.float32).reshape(40, 60)
    image = np.full((40, 60, 3), 100, np.uint8)
    np.testing.assert_array_equal(
        overlay(image, found, 0.0), overlay(image, found, 0.0, low=0, high=1)
    )


def test_one_value_has_one_colour_whatever_else_is_in_the_map():
    image, found = np.full((40, 60, 3), 100, np.uint8), np.full((40, 60), 0.5, np.float32)
    alone = np.asarray(overlay(image, found))
    found[:, 30:] = 0.9
    np.testing.assert_array_equal(np.asarray(overlay(image, found))[:, :30], alone[:, :30])


def test_images_of_every_kind_are_taken(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    found = np.linspace(0, 1, 40 * 60, dtype=np.float64).reshape(40, 60)
    expected = np.asarray(overlay(image, found))
    opened = Image.open(tmp_path / "image.png")
    for other in (tmp_path / "image.png", str(tmp_path / "image.png"), opened):
        np.testing.assert_array_equal(overlay(other, found), expected)
    assert opened.getpixel((0, 0)) == tuple(image[0, 0])  # it was not closed


@pytest.mark.slow
def test_images_and_maps_may_be_tensors():
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    found = np.linspace(0, 1, 40 * 60, dtype=np.float64).reshape(40, 60)
    expected = overlay(image, found)
    for other in (image, torch.from_numpy(image).permute(2, 0, 1)):
        np.testing.assert_array_equal(overlay(other, torch.from_numpy(found)), expected)


def test_what_is_unknown_is_hatched_and_not_called_normal():
    image, found = np.full((80, 120, 3), 100, np.uint8), np.zeros((80, 120), np.float32)
    found[:, :60] = np.nan
    picture = np.asarray(overlay(image, found, 0.5))
    assert 0.3 < (picture[:, :60] != 100).any(axis=-1).mean() < 0.7
    assert (picture[:, 60:] == 100).all()


def test_colours_end_above_the_threshold_when_all_is_normal():
    usual = [np.full((4, 6), 0.1, np.float32), np.full((4, 6), 0.12, np.float32)]
    low, high = colour_range(usual, threshold=0.5)
    assert low < 0.12
    assert high > 0.5


def test_the_colours_of_what_is_constant_are_still_a_range():
    low, high = colour_range([np.full((4, 6), 0.5, np.float32)], threshold=0.5)
    assert low < high


def test_a_map_of_16_bits_keeps_values():
    found = np.linspace(0, 2, 15, dtype=np.float32).reshape(3, 5)
    grey = np.asarray(Image.open(io.BytesIO(map_to_16_bits(found, low=0, high=2))))
    np.testing.assert_allclose(grey / 65535 * 2, found, atol=2e-5)


def test_the_colour_scale_runs_from_the_first_colour_of_a_map_to_the_last():
    dark, *_, bright = colour_scale(5)
    assert dark == "#000004"
    assert all(int(bright[at : at + 2], 16) > 150 for at in (1, 3, 5))


@pytest.mark.parametrize(("side", "shape"), [(400, (97, 301)), (200, (64, 200)), (40, (13, 40))])
def test_a_thumbnail_shows_all_of_the_image(side, shape):
    across = np.linspace(0, 240, 301)[None, :, None]
    down = np.linspace(0, 15, 97)[:, None, None]
    image = np.broadcast_to(np.rint(across + down), (97, 301, 3)).astype(np.uint8)
    small = thumbnail(image, side)
    assert small.shape == (*shape, 3)
    corners = [small[row, col, 0] for row in (0, -1) for col in (0, -1)]
    np.testing.assert_allclose(corners, [0, 240, 15, 255], atol=6)
