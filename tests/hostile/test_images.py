"""Images that would fill the memory, or that change while they are read; see broken.py too."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.images.formats import FORMATS
from pyimgano_openclip.images.reading import (
    LARGEST_FILE,
    image_size,
    read_frame,
    read_pixels,
)

from helpers.picture_files import picture_files

GREY = np.arange(0, 240, 10, dtype=np.uint8).reshape(4, 6)


@pytest.mark.parametrize("name", ["grey.bmp", "grey.tif", "deep.tif", "grey.pgm"])
def test_no_file_is_mapped_for_whoever_shortens_it_would_kill_the_process(
    name, tmp_path, monkeypatch
):
    pixels = GREY.astype(np.uint16) * 257 if name == "deep.tif" else GREY
    Image.fromarray(pixels).save(tmp_path / name)
    monkeypatch.setattr("mmap.mmap", lambda *_args, **_options: pytest.fail("mapped"))
    np.testing.assert_array_equal(read_pixels(tmp_path / name)[..., 0], GREY)


def test_every_format_that_is_read_is_tried_by_the_fuzz(tmp_path):
    tried = set()
    for name, content in picture_files().items():
        (tmp_path / name).write_bytes(content)
        assert read_pixels(tmp_path / name).shape[:2] == image_size(tmp_path / name)
        with Image.open(io.BytesIO(content)) as image:
            tried.add(image.format)
    Image.init()
    assert tried - {"MPO"} == {name for name in FORMATS if name in Image.OPEN}


def test_a_file_that_is_too_large_is_not_read_into_memory(tmp_path):
    with (tmp_path / "film.png").open("wb") as file:
        file.truncate(LARGEST_FILE + 1)  # a hole, which takes no room on the disk
    with pytest.raises(ValueError, match=r"film\.png.*bytes"):
        read_pixels(tmp_path / "film.png")


def png(width, height, rows=b""):
    """A PNG file that announces a size, and holds a few rows of it."""

    def chunk(kind, data):
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(30_000, 30_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_announced_sizes_are_refused_before_there_is_memory_for_them(size, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(*size))
    for read in (image_size, lambda path: read_frame(path, (32, 32))):
        with pytest.raises(ValueError, match=r"bomb\.png"):
            read(tmp_path / "bomb.png")


def test_a_bomb_within_a_text_chunk_is_refused(tmp_path):
    text = b"comment\0\0" + zlib.compress(bytes(200 * 2**20))
    chunk = len(text).to_bytes(4, "big") + b"zTXt" + text
    chunk += zlib.crc32(b"zTXt" + text).to_bytes(4, "big")
    sound = picture_files()["colour.png"]
    (tmp_path / "bomb.png").write_bytes(sound[:33] + chunk + sound[33:])
    with pytest.raises(ValueError, match=r"bomb\.png"):
        image_size(tmp_path / "bomb.png")
