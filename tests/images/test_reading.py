"""Images to canvases, and the geometry back."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.images.reading import choose_canvas, image_size, read_frame, read_pixels

SQUARE, PATCH = (240, 240), (16, 16)


def gradient(height=30, width=50):
    rows = np.linspace(0, 255, height)[:, None, None]
    return np.broadcast_to(rows, (height, width, 3)).astype(np.uint8)


def test_a_file_and_its_array_give_the_same_frame(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(gradient()).save(path)
    from_file, from_array = (read_frame(item, (48, 64)) for item in (path, gradient()))
    assert from_file.pixels.shape == (48, 64, 3)
    assert from_file.size == from_array.size == (30, 50)
    np.testing.assert_array_equal(from_file.pixels, from_array.pixels)


def test_the_whole_image_is_on_the_canvas():
    image = np.zeros((100, 400, 3), np.uint8)
    image[:, :20] = image[:, -20:] = 255
    pixels = read_frame(image, (40, 40)).pixels
    assert pixels[:, 0].mean() > 200
    assert pixels[:, -1].mean() > 200
    assert pixels[:, 5:35].mean() < 5


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_pixels_are_what_a_viewer_shows(tmp_path, orientation, suffix):
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:8, :8] = 255  # a white corner at the top left of what is stored
    Image.fromarray(stored).save(path, exif=exif, quality=95)
    expected = (64, 32) if orientation >= 5 else (32, 64)
    assert image_size(path) == expected
    pixels = read_pixels(path)
    assert pixels.shape[:2] == expected
    corners = [pixels[row, col, 1] > 200 for row in (2, -3) for col in (2, -3)]
    shown = {1: 0, 2: 1, 3: 3, 4: 2, 5: 0, 6: 1, 7: 3, 8: 2}[orientation]
    assert corners == [corner == shown for corner in range(4)]


def test_a_decoded_image_of_pillow_is_not_turned_twice(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(32, 64)).save(tmp_path / "turned.tiff", exif=exif)
    with Image.open(tmp_path / "turned.tiff") as image:
        assert image_size(image) == (64, 32)
        image.load()
        assert image_size(image) == (64, 32)
        assert read_pixels(image).shape[:2] == (64, 32)


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257 * 100], [257 * 200, 65535]], np.uint16)).save(path)
    np.testing.assert_array_equal(read_pixels(path)[..., 0], [[0, 100], [200, 255]])


def test_an_unreadable_file_is_named(tmp_path):
    missing, text, cut = tmp_path / "missing.png", tmp_path / "text.png", tmp_path / "cut.png"
    text.write_text("not an image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:4000])
    for path in (missing, text, cut):
        with pytest.raises(ValueError, match=path.name):
            read_frame(path, (32, 32))


@pytest.mark.parametrize(
    ("sizes", "canvas"),
    [
        ([(500, 500)], (240, 240)),
        ([(100, 200)], (240, 480)),
        ([(500, 1250)], (240, 608)),
        ([(1250, 500)], (608, 240)),
        ([(100, 100), (100, 200), (100, 900)], (240, 480)),
        ([(100, 500)], (208, 1072)),
    ],
)
def test_the_canvas_keeps_the_median_proportions(sizes, canvas):
    found = choose_canvas(sizes, SQUARE, PATCH, max_tokens=900)
    assert found == canvas
    assert (found[0] // 16) * (found[1] // 16) <= 900


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (1, 1), (9000, 12000)])
def test_a_canvas_has_at_least_one_patch_and_at_most_the_limit(size):
    height, width = choose_canvas([size], SQUARE, PATCH, max_tokens=900)
    assert height % 16 == width % 16 == 0
    assert 1 <= (height // 16) * (width // 16) <= 900


def test_the_size_is_read_without_decoding(tmp_path, monkeypatch):
    paths = [tmp_path / f"image.{suffix}" for suffix in ("png", "jpg", "tiff", "bmp", "webp")]
    for path in paths:
        Image.fromarray(gradient()).save(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    assert [image_size(path) for path in paths] == [(30, 50)] * 5
