"""Depth, sign and orientation of grey values, as their file declares them."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.images.reading import read_frame, read_pixels

from helpers.tiff_files import packed, tiff

GREY = np.arange(0, 240, 10).reshape(4, 6)  # of 255
SHOWN = np.stack([GREY] * 3, axis=-1)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2


def of(white, kind="<u2"):
    return np.rint(GREY * white / 255).astype(kind)


KINDS = {
    "4-bit": (packed(of(15), 4), {"bits": (4,)}),
    "8-bit": (of(255, "u1"), {"bits": (8,)}),
    "12-bit": (packed(of(4095), 12), {"bits": (12,)}),
    "16-bit": (of(65535), {"bits": (16,)}),
    "8-bit signed": (of(127, "i1"), {"bits": (8,), "formats": (SIGNED,)}),
    "16-bit signed": (of(32767, "<i2"), {"bits": (16,), "formats": (SIGNED,)}),
    "16 bits in 32": (of(65535, "<u4"), {"bits": (32,)}),
    "float": ((GREY / 255).astype("<f4"), {"bits": (32,), "formats": (FLOAT,)}),
    "8-bit, white is zero": (of(255, "u1") ^ 255, {"bits": (8,), "photometric": 0}),
    "16-bit, white is zero": (of(65535) ^ 65535, {"bits": (16,), "photometric": 0}),
    "float, white is zero": (
        (1 - GREY / 255).astype("<f4"),
        {"bits": (32,), "formats": (FLOAT,), "photometric": 0},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_grey_values_are_read_as_the_file_declares_them(tmp_path, kind):
    data, tags = KINDS[kind]
    path = tmp_path / "grey.tif"
    path.write_bytes(tiff(bytes(data), GREY.shape, **tags))
    coarse = {"4-bit": 9, "8-bit signed": 1}
    np.testing.assert_allclose(read_pixels(path), SHOWN, atol=coarse.get(kind, 0))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(read_pixels(opened), read_pixels(path))


@pytest.mark.parametrize(("bits", "kind"), [(8, "i1"), (16, "<i2")])
def test_negative_values_are_refused(tmp_path, bits, kind):
    data = (GREY // 2 - 20).astype(kind).tobytes()
    path = tmp_path / "below.tif"
    path.write_bytes(tiff(data, GREY.shape, bits=(bits,), formats=(SIGNED,)))
    with pytest.raises(ValueError, match=rf"below\.tif.* {bits - 1} bits.* range from -20 to 95"):
        read_pixels(path)


@pytest.mark.parametrize("highest", [1, 100, 255, 256, 1023, 4095, 65535])
def test_a_portable_greymap_is_scaled_by_its_own_highest_value(tmp_path, highest):
    kind = "u1" if highest < 256 else ">u2"
    path = tmp_path / "grey.pgm"
    path.write_bytes(b"P5 6 4 %d\n" % highest + of(highest, kind).tobytes())
    expected = np.rint(of(highest, kind).astype(float) * 255 / highest)
    np.testing.assert_allclose(read_pixels(path)[..., 0], expected, atol=1)


UNREADABLE = {
    "64-bit float": (b"", {"bits": (64,), "formats": (FLOAT,)}),
    "10-bit": (b"", {"bits": (10,)}),
    "3 x 12-bit": (b"", {"bits": (12,) * 3, "formats": (1,) * 3, "photometric": RGB}),
    "16-bit signed, white is zero": (b"", {"formats": (SIGNED,), "photometric": WHITE_IS_ZERO}),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_sound_file_that_pillow_cannot_read_is_not_called_damaged(tmp_path, kind):
    path = tmp_path / "rare.tif"
    path.write_bytes(tiff(bytes(600), (4, 6), **UNREADABLE[kind][1]))
    with pytest.raises(ValueError, match=rf"a TIFF of a kind that Pillow cannot read \({kind}\)"):
        read_pixels(path)


REFUSED = {
    b"": "the file is empty",
    bytes(500): "nothing but zeros",
    b"\x89PNG\r\n\x1a\n": "a damaged PNG file",
    b"GIF89a": "a damaged GIF file",
    b"\xff\xd8\xff\xe0": "a damaged JPEG file",
    b"II*\0": "a damaged TIFF file",
    b"%PDF-1.7": "a PDF document, not one of",
    b"\n<svg xmlns=": "an SVG drawing, not one of",
    b"\0\0\0\x18ftypheic\0\0\0\0": "a HEIF file, not one of",
    b"not an image": ": not one of .*PNG.*TIFF",
}


@pytest.mark.parametrize("content", REFUSED)
def test_a_refusal_says_what_the_file_is(tmp_path, content):
    (tmp_path / "part.png").write_bytes(content)
    with pytest.raises(ValueError, match=rf"part\.png.*{REFUSED[content]}") as refused:
        read_pixels(tmp_path / "part.png")
    assert ("damaged" in str(refused.value)) == ("damaged" in REFUSED[content])


def test_the_share_of_the_range_is_that_of_the_declared_depth(tmp_path):
    (tmp_path / "12.tif").write_bytes(tiff(packed(of(4095), 12), GREY.shape, bits=(12,)))
    (tmp_path / "16.tif").write_bytes(tiff(of(4095).tobytes(), GREY.shape))
    inverted = (of(4095) ^ 65535).tobytes()
    (tmp_path / "white.tif").write_bytes(tiff(inverted, GREY.shape, photometric=WHITE_IS_ZERO))
    shares = {"12.tif": 230 / 255, "16.tif": 230 / 255 / 16, "white.tif": 230 / 255 / 16}
    for name, share in shares.items():
        assert read_frame(tmp_path / name, (8, 8)).range_used == pytest.approx(share, rel=1e-3)
    assert read_frame(of(4095), (8, 8)).range_used == pytest.approx(230 / 255 / 16, rel=1e-3)
    assert read_frame(of(4095, ">u2"), (8, 8)).range_used == pytest.approx(0.0564, rel=1e-2)
    assert read_frame(of(255, "u1"), (8, 8)).range_used is None
    assert read_frame(GREY / 255, (8, 8)).range_used is None
