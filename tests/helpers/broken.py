"""Images that cannot be read: functions of a folder that give the item and how it is named."""

import os
import re
import sys

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)


def _file(name, content):
    def make(folder):
        path = folder / name
        path.write_bytes(content(folder) if callable(content) else content)
        return path, re.escape(name)

    return make


def _cut(suffix, share, **options):
    def content(folder):
        whole = folder / f"whole.{suffix}"
        Image.fromarray(NOISE).save(whole, **options)
        data = whole.read_bytes()
        return data[: int(len(data) * share)]

    return _file(f"cut.{suffix}", content)


def _flipped(folder):
    whole = folder / "whole.png"
    Image.fromarray(NOISE).save(whole)
    data = bytearray(whole.read_bytes())
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


def _folder(folder):
    (folder / "folder.png").mkdir()
    return folder / "folder.png", r"folder\.png.* directory"


def _loop(folder):
    (folder / "loop.png").symlink_to(folder / "loop.png")
    return folder / "loop.png", r"loop\.png"


def _pipe(folder):
    os.mkfifo(folder / "pipe.png")
    return folder / "pipe.png", r"pipe\.png.* not a file"


def _closed(folder):
    path = folder / "closed.png"
    Image.fromarray(NOISE).save(path)
    path.chmod(0)
    return path, r"closed\.png"


def _array(array, name=None):
    return lambda _folder: (array, name or rf"array of shape \({array.shape[0]}")


SCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 10\n%%EndComments\nshowpage\n"

BROKEN = {
    "missing": lambda folder: (folder / "missing.png", r"missing\.png"),
    "missing, as a string": lambda folder: (str(folder / "missing.png"), r"missing\.png"),
    "no name": lambda _folder: ("", "''"),
    "a name with a zero byte": lambda _folder: ("a\0b.png", "b.png"),
    "a name that is too long": lambda folder: (folder / ("a" * 300), "aaa"),
    "empty file": _file("empty.png", b""),
    "text": _file("text.png", b"no image at all"),
    "only the header": _file("header.png", b"\x89PNG\r\n\x1a\n"),
    "truncated PNG": _cut("png", 0.5),
    "truncated JPEG": _cut("jpg", 0.5, quality=95),
    "truncated TIFF": _cut("tiff", 0.5),
    "truncated BMP": _cut("bmp", 0.5),
    "truncated WebP": _cut("webp", 0.5, lossless=True),
    "truncated GIF": _cut("gif", 0.5),
    "corrupt PNG": _file("corrupt.png", _flipped),
    "folder": _folder,
    "PostScript": _file("script.png", SCRIPT),
    "None": lambda _folder: (None, "NoneType"),
    "bytes": lambda _folder: (b"part.png", "bytes"),
    "number": lambda _folder: (3, "int"),
    "list": lambda _folder: ([[1, 2], [3, 4]], "list"),
    "NaN": _array(np.full((8, 9, 3), np.nan), "NaN"),
    "infinite": _array(np.full((8, 9, 3), np.inf), "infinite"),
    "beyond float32": _array(np.full((8, 9), 1e300), "1e.300"),
    "wrong shape": _array(np.zeros((8, 9, 2), np.uint8)),
    "one axis": _array(np.zeros(8, np.uint8)),
    "no pixels": _array(np.zeros((0, 9, 3), np.uint8)),
    "wrong type": _array(np.zeros((8, 9, 3), np.int64)),
    "complex": _array(np.zeros((8, 9, 3), np.complex64)),
    "dates": _array(np.zeros((8, 9), "datetime64[s]")),
    "objects": _array(np.full((8, 9), None)),
    "strings": _array(np.full((8, 9), "a")),
    "masked": _array(np.ma.masked_array(NOISE, NOISE > 250), "masked values.* roi="),
    "Pillow, 0 x 0": lambda _folder: (Image.new("RGB", (0, 0)), "Image object of 0 x 0 pixels"),
    "Pillow, 0 x 5": lambda _folder: (Image.new("L", (5, 0)), "Image object of 0 x 5 pixels"),
    "Pillow, 5 x 0": lambda _folder: (Image.new("F", (0, 5)), "Image object of 5 x 0 pixels"),
}
if sys.platform != "win32":
    BROKEN |= {"link to itself": _loop, "pipe": _pipe}
    if os.geteuid() != 0:
        BROKEN["not permitted"] = _closed
