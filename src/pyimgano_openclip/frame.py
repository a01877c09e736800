"""From a path, an array or a Pillow image to pixels on a canvas, and the geometry to get back.

The only file that decodes images. The whole image is always used: it is resized to the canvas,
never cropped or padded, so a plain resize of a map inverts the geometry exactly.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from .embedding import Size
from .items import Item, as_array, describe
from .memory import memory_for
from .pixels import array_to_rgb, check_array, to_rgb
from .unreadable import UnreadableError

EXIF_ORIENTATION = 0x0112
TIFF_WIDTH, TIFF_HEIGHT = 0x0100, 0x0101
TURNED_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width
LARGEST_FILE = 2**31  # bytes; more than 16 bits a channel of the most pixels that Pillow takes
# Pillow knows forty more; one of them, EPS, runs Ghostscript on the file.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class Frame:
    """One decoded image.

    Attributes:
        pixels: RGB, uint8, shape (canvas height, canvas width, 3).
        size: (height, width) of the original image, as a viewer shows it.
    """

    pixels: npt.NDArray[np.uint8]
    size: Size


def read_frame(item: Item, canvas: Size | None, resample: str = "bicubic") -> Frame:
    """Decode an image and resize the whole of it to the canvas.

    Args:
        item: A path, an array or a Pillow image; see :mod:`~.pixels` for the kinds.
        canvas: (height, width) in pixels to resize to; None if no image could be read to choose it.
        resample: ``"bicubic"`` or ``"bilinear"``, both antialiased, as the model was trained.

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    image = _decode(item)
    if canvas is None:
        raise UnreadableError(f"{describe(item)} could not be read when it was looked at first.")
    height, width = canvas
    with memory_for(f"{describe(item)} on a canvas of {height} x {width} pixels"):
        resized = image.resize((width, height), Image.Resampling[resample.upper()])
    return Frame(pixels=np.asarray(resized), size=(image.height, image.width))


def read_pixels(item: Item) -> npt.NDArray[np.uint8]:
    """Decode an image at its own size: RGB, uint8, shape (H, W, 3).

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    return np.asarray(_decode(item))


def image_size(item: Item) -> Size:
    """(height, width) of an image as a viewer shows it, without decoding it.

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    array = as_array(item)
    if array is not None:
        return check_array(array, describe(item))
    with _open(item) as image, _errors_named(item, "read"):
        # Pillow decodes a whole PNG file to look for EXIF data that is not at its start.
        known = image.format != "PNG" or "exif" in image.info
        sideways = known and image.getexif().get(EXIF_ORIENTATION) in TURNED_SIDEWAYS
        size = (image.height, image.width)
        if not sideways or (image.format == "TIFF" and size != _stored_size(image)):
            return size  # newer versions of Pillow have turned the size of a TIFF file already
        return size[1], size[0]


def choose_canvas(sizes: Sequence[Size], native: Size, patch: Size, max_tokens: int) -> Size:
    """One canvas for all images of a detector that keeps their usual proportions.

    The short side is the tower's own, the long side follows the median aspect ratio; beyond
    ``max_tokens`` patches both sides shrink.

    Args:
        sizes: (height, width) of the images.
        native: (height, width) in pixels that the tower was made for.
        patch: (height, width) of a patch in pixels.
        max_tokens: Most patches that the canvas may have.

    Returns:
        (height, width) in pixels, both whole multiples of the patch.
    """
    aspect = math.exp(float(np.median([math.log(width / height) for height, width in sizes])))
    short = min(native)
    height, width = (short, short * aspect) if aspect >= 1 else (short / aspect, short)
    tokens = (height / patch[0]) * (width / patch[1])
    shrink = min(1.0, math.sqrt(max_tokens / tokens))
    rows, cols = (
        max(1, round(side * shrink / p)) for side, p in zip((height, width), patch, strict=True)
    )
    rows, cols = min(rows, max_tokens), min(cols, max_tokens)
    while rows * cols > max_tokens:
        rows, cols = (rows - 1, cols) if rows >= cols else (rows, cols - 1)
    return rows * patch[0], cols * patch[1]


def whole_patches(size: Size, patch: Size) -> Size:
    """The size nearest to the given one that is made of whole patches, at least one each way."""
    rows, cols = (max(1, round(side / p)) for side, p in zip(size, patch, strict=True))
    return rows * patch[0], cols * patch[1]


def file_suffixes() -> set[str]:
    """Suffixes of the files that can be read, in lower case, such as ``".png"``."""
    known = _formats()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in known}


def _formats() -> list[str]:
    """Those of FORMATS that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _stored_size(tiff: Any) -> Size:
    return tiff.tag_v2[TIFF_HEIGHT], tiff.tag_v2[TIFF_WIDTH]


def _decode(item: Item) -> Image.Image:
    with _open(item) as opened, _errors_named(item, "decoded"):
        # Pillow turns TIFF files itself, older versions without telling exif_transpose().
        upright = opened.format == "TIFF" or opened.getexif().get(EXIF_ORIENTATION, 1) == 1
        return to_rgb(opened if upright else ImageOps.exif_transpose(opened))


def _open(item: Item) -> AbstractContextManager[Image.Image]:
    array = as_array(item)
    if array is not None:
        return Image.fromarray(array_to_rgb(array, describe(item)))
    if isinstance(item, Image.Image):
        return nullcontext(item)  # the caller's stays open
    if not isinstance(item, (str, os.PathLike)):
        raise UnreadableError(
            f"An image is a {type(item).__name__}; pass a path, a Pillow image, or an array such "
            "as RGB (H, W, 3) of uint8."
        )
    known = _formats()
    with _errors_named(item, "opened as an image"):
        content = BytesIO(_content(Path(item)))
        try:
            return Image.open(content, formats=known)
        except UnidentifiedImageError as error:
            raise ValueError(f"it is none of {', '.join(known)}, or damaged") from error


def _content(path: Path) -> bytes:
    """All of a file: Pillow maps some files, and a process dies if a mapped file is overwritten."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a named pipe would block for ever
        raise ValueError("it is a directory or a device, not a file")
    if status.st_size > LARGEST_FILE:
        raise ValueError(f"it has {status.st_size} bytes; at most {LARGEST_FILE} are read")
    return path.read_bytes()


@contextmanager
def _errors_named(item: Item, done: str) -> Iterator[None]:
    """Make an error that names the item of whatever is raised inside."""
    try:
        with memory_for(describe(item)):
            yield
    except MemoryError:
        raise
    except Exception as error:  # what decoders raise on damaged files is written nowhere
        reason = str(error) or type(error).__name__
        raise UnreadableError(f"{describe(item)} cannot be {done}: {reason}") from error
