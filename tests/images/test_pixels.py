"""Every kind of pixels to 8-bit RGB, from files and from arrays."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.images.reading import image_size, read_frame, read_pixels
from pyimgano_openclip.images.unreadable import UnreadableError

GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)


def saved(image, path, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_colour_files_come_back_as_they_were(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    path = saved(COLOUR, tmp_path / f"a.{suffix}", **options)
    np.testing.assert_array_equal(read_pixels(path), COLOUR)
    assert image_size(path) == (4, 6)


def test_grey_palette_and_bilevel_files_become_colour(tmp_path):
    three = np.stack([GREY] * 3, axis=-1)
    np.testing.assert_array_equal(read_pixels(saved(GREY, tmp_path / "grey.png")), three)
    palette = Image.fromarray(COLOUR).quantize(256)
    found = read_pixels(saved(palette, tmp_path / "palette.png"))
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(GREY > 100)
    found = read_pixels(saved(bilevel, tmp_path / "bilevel.png"))
    np.testing.assert_array_equal(found[..., 1] == 255, GREY > 100)


def test_cmyk_is_converted(tmp_path):
    path = saved(Image.fromarray(COLOUR).convert("CMYK"), tmp_path / "print.tiff")
    np.testing.assert_allclose(read_pixels(path), COLOUR, atol=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_over_white(tmp_path, mode):
    image = Image.new("RGBA", (6, 4), (200, 200, 200, 255))
    image.putpixel((2, 1), (10, 10, 10, 0))
    found = read_pixels(saved(image.convert(mode), tmp_path / "clear.png"))
    assert found[1, 2].tolist() == [255, 255, 255]
    assert found[0, 0].tolist() == [200, 200, 200]


def test_half_transparent_arrays_are_mixed_with_white():
    array = np.zeros((2, 2, 4), np.uint8)
    array[0, 0] = (0, 0, 0, 128)
    found = read_pixels(array)
    assert found[0, 0].tolist() == [127, 127, 127]
    assert found[1, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_sixteen_bit_files_are_scaled_and_not_clipped(tmp_path, byte_order):
    deep = (GREY.astype(np.uint16) * 257).astype(f"{byte_order}u2")
    mode = "I;16" if byte_order == "<" else "I;16B"
    image = Image.frombytes(mode, (6, 4), deep.tobytes())
    found = read_pixels(saved(image, tmp_path / "deep.tiff"))
    np.testing.assert_array_equal(found[..., 0], GREY)


def test_integers_of_32_bits_are_taken_as_16_bits_if_they_fit_and_refused_if_not(tmp_path):
    wide = GREY.astype(np.int32) * 257
    np.testing.assert_array_equal(read_pixels(saved(wide, tmp_path / "a.tiff"))[..., 0], GREY)
    for other in (wide * 257, wide - 5):
        with pytest.raises(ValueError, match=r"wide\.tiff.*fit into 16 bits.* range from"):
            read_pixels(saved(other, tmp_path / "wide.tiff"))


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_a_colour_that_stands_for_transparency_lies_over_white(tmp_path, mode):
    image = Image.new("L", (6, 4), 0)
    image.putpixel((2, 1), 100)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif mode == "P":
        image = image.convert("RGB").quantize(2)
    else:
        image = image.convert(mode)
    try:
        path = saved(image, tmp_path / "key.png", transparency=image.getpixel((0, 0)))
    except OSError:
        pytest.skip("this version of Pillow cannot write such a file")
    found = read_pixels(path)
    assert found[0, 0].tolist() == [255] * 3
    assert found[1, 2].tolist() == [100] * 3


def test_float_files_in_the_unit_interval_are_scaled_and_others_refused(tmp_path):
    unit = GREY.astype(np.float32) / 255
    np.testing.assert_array_equal(read_pixels(saved(unit, tmp_path / "a.tiff"))[..., 0], GREY)
    wide = saved(unit * 4000, tmp_path / "wide.tiff")
    with pytest.raises(ValueError, match=r"wide\.tiff.*\[0, 1\]"):
        read_pixels(wide)


def test_of_several_pages_and_moving_pictures_the_first_is_taken(tmp_path):
    first, second = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    for name in ("pages.tiff", "moving.gif", "moving.png", "moving.webp", "several.mpo"):
        more = {"save_all": True, "append_images": [second.copy()]}
        path = saved(first.copy(), tmp_path / name, lossless=True, quality=100, **more)
        np.testing.assert_allclose(read_pixels(path)[..., 0], GREY, atol=3)


ARRAYS = {
    "grey": GREY,
    "grey with a channel": GREY[..., None],
    "bool": GREY > 100,
    "uint16": GREY.astype(np.uint16) * 257,
    "float32": (GREY / 255).astype(np.float32),
    "float64": GREY / 255,
    "float16": (GREY / 255).astype(np.float16),
    "longdouble": (GREY / 255).astype(np.longdouble),
    "big-endian uint16": (GREY.astype(np.uint16) * 257).astype(">u2"),
    "big-endian float64": (GREY / 255).astype(">f8"),
    "column by column": np.asfortranarray(GREY),
    "nothing masked": np.ma.masked_array(GREY, mask=GREY > 255),
    "not contiguous": np.stack([GREY] * 6, axis=-1)[..., ::2],
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_every_kind_are_converted(kind):
    expected = np.where(GREY > 100, 255, 0) if kind == "bool" else GREY
    found = read_pixels(ARRAYS[kind])
    assert found.shape == (4, 6, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found[..., 2], expected, atol=0)


def test_masked_values_are_not_looked_at_unnoticed():
    for kind in (GREY, COLOUR, GREY / 255):
        masked = np.ma.masked_array(kind, mask=kind == kind.flat[0])
        with pytest.raises(UnreadableError, match=r"has \d+ masked values.* roi="):
            read_pixels(masked)
        with pytest.raises(UnreadableError, match=r"has \d+ masked values.* roi="):
            image_size(masked)


def test_read_only_and_reversed_arrays_are_taken():
    frozen = COLOUR.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(read_pixels(frozen), COLOUR)
    np.testing.assert_array_equal(read_pixels(COLOUR[::-1, ::-1]), COLOUR[::-1, ::-1])
    np.testing.assert_array_equal(read_pixels(COLOUR[..., ::-1]), COLOUR[..., ::-1])
    assert (read_pixels(np.broadcast_to(np.uint8(9), (4, 6, 3))) == 9).all()


def test_values_beyond_the_unit_interval_by_rounding_are_clipped():
    found = read_pixels(np.array([[-0.0005, 0, 1, 1.0005]]))
    assert found[0, :, 0].tolist() == [0, 0, 255, 255]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64", "bfloat16"])
def test_tensors_have_their_channels_first(kind):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(COLOUR.copy()).permute(2, 0, 1)
    if kind != "uint8":
        tensor = (tensor.double() / 255).to(getattr(torch, kind)).requires_grad_()
    assert not tensor.is_contiguous()
    np.testing.assert_array_equal(read_pixels(tensor), COLOUR)
    assert image_size(tensor) == (4, 6)
    np.testing.assert_array_equal(read_pixels(tensor[0])[..., 2], COLOUR[..., 0])


@pytest.mark.slow
def test_tensors_that_are_no_images_are_refused_with_what_to_do():
    torch = pytest.importorskip("torch")
    for tensor, message in (
        (torch.zeros(40, 60, 3), r"tensor of shape \(40, 60, 3\).*permute\(2, 0, 1\)"),
        (torch.zeros(3, 40, 60).to_sparse(), "dense"),
        (torch.zeros(3, 40, 60, device="meta"), "no data"),
        (torch.zeros(3, 40, 60, dtype=torch.int64), "type int64"),
    ):
        with pytest.raises(ValueError, match=message):
            read_pixels(tensor)
        with pytest.raises(ValueError, match=message):
            image_size(tensor)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
        (np.zeros((8, 9, 2), np.uint8), "not an image"),
        (np.zeros((8, 9, 3, 1), np.uint8), "not an image"),
        (np.zeros((0, 9, 3), np.uint8), "not an image"),
        (np.zeros((8, 9, 3), np.int64), "type int64"),
        (np.zeros((8, 9, 3), np.complex64), "type complex64"),
        (np.full((8, 9, 3), 200.0), r"from 200 to 200"),
        (np.full((8, 9, 3), -0.5), r"\[0, 1\]"),
        (np.full((8, 9, 3), np.nan), "NaN"),
        (np.full((8, 9, 3), np.inf), "NaN or infinite"),
    ],
)
def test_other_arrays_are_refused_with_what_to_pass(array, message):
    with pytest.raises(ValueError, match=message):
        read_frame(array, (16, 16))


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_images_of_one_pixel_width_are_read(tmp_path, size):
    path = saved(np.full((*size, 3), 80, np.uint8), tmp_path / "thin.png")
    frame = read_frame(path, (32, 64))
    assert frame.size == size
    assert (frame.pixels == 80).all()


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = saved(GREY, tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for read in (read_pixels, image_size):
        with pytest.raises(ValueError, match=r"bomb\.png.*exceeds limit"):
            read(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_of_108_megapixels_is_read(tmp_path):
    path = saved(Image.new("L", (12000, 9000), 90), tmp_path / "large.png", compress_level=1)
    frame = read_frame(path, (96, 128))
    assert frame.size == image_size(path) == (9000, 12000)
    assert (frame.pixels == 90).all()


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_files_that_are_no_images_are_named(tmp_path, content):
    path = tmp_path / "part.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"part\.png"):
        read_pixels(path)


def test_a_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match=tmp_path.name):
        read_pixels(tmp_path)
