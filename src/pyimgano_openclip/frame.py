"""Decodes images and resizes them to a canvas.

No other file decodes images. The whole image is always resized to the canvas, never cropped or
padded, so resizing a map to the image's size inverts the geometry exactly.
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
TURNED_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
LARGEST_FILE = 2**31  # bytes; more than Pillow's pixel limit at 16 bits per channel
# Pillow supports forty more; one of them, EPS, runs Ghostscript on the file.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class Frame:
    """One decoded image.

    Attributes:
        pixels: RGB, uint8, shape (canvas height, canvas width, 3).
        size: (height, width) of the original image in pixels, as a viewer shows it.
    """

    pixels: npt.NDArray[np.uint8]
    size: Size


def read_frame(item: Item, canvas: Size | None, resample: str = "bicubic") -> Frame:
    """Decode an image and resize all of it to the canvas.

    Args:
        item: A path, array or Pillow image; see :mod:`~.pixels` for the supported kinds.
        canvas: (height, width) in pixels to resize to; None if no image could be read to choose it.
        resample: ``"bicubic"`` or ``"bilinear"``, both antialiased; as the model was trained.

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    image = _decode(item)
    if canvas is None:
        raise UnreadableError(f"{describe(item)} could not be read when the canvas was chosen.")
    height, width = canvas
    with memory_for(f"{describe(item)} on a canvas of {height} x {width} pixels"):
        resized = image.resize((width, height), Image.Resampling[resample.upper()])
    return Frame(pixels=np.asarray(resized), size=(image.height, image.width))


def read_pixels(item: Item) -> npt.NDArray[np.uint8]:
    """Decode an image at its own size.

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    return np.asarray(_decode(item))


def image_size(item: Item) -> Size:
    """Return (height, width) of an image as a viewer shows it, without decoding it.

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    array = as_array(item)
    if array is not None:
        return check_array(array, describe(item))
    with _open(item) as image, _errors_named(item, "read"):
        # Pillow decodes the whole PNG file to find EXIF data that is not at its start.
        known = image.format != "PNG" or "exif" in image.info
        sideways = known and image.getexif().get(EXIF_ORIENTATION) in TURNED_SIDEWAYS
        size = (image.height, image.width)
        if not sideways or (image.format == "TIFF" and size != _stored_size(image)):
            return size  # newer versions of Pillow have already turned the size of a TIFF file
        return size[1], size[0]


def choose_canvas(sizes: Sequence[Size], native: Size, patch: Size, max_tokens: int) -> Size:
    """Choose one canvas for all images of a detector, with their median aspect ratio.

    The short side is that of the tower's input; the long side follows from the aspect ratio. Both
    sides shrink if there would be more than ``max_tokens`` patches.

    Args:
        sizes: (height, width) of each image in pixels.
        native: (height, width) of the tower's own input in pixels.
        patch: (height, width) of a patch in pixels.
        max_tokens: Maximum number of patches on the canvas.

    Returns:
        (height, width) in pixels, both multiples of the patch size.
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
    """Round a size to whole patches, at least one in each direction."""
    rows, cols = (max(1, round(side / p)) for side, p in zip(size, patch, strict=True))
    return rows * patch[0], cols * patch[1]


def file_suffixes() -> set[str]:
    """Return the suffixes of all supported file formats in lower case, such as ``".png"``."""
    known = _formats()
    return {suffix for suffix, name in Image.registered_extensions().items() if name in known}


def _formats() -> list[str]:
    """Those of FORMATS that this build of Pillow can read."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _stored_size(tiff: Any) -> Size:
    return tiff.tag_v2[TIFF_HEIGHT], tiff.tag_v2[TIFF_WIDTH]


def _decode(item: Item) -> Image.Image:
    with _open(item) as opened, _errors_named(item, "decoded"):
        # Pillow turns TIFF files itself; older versions then let exif_transpose() do it again.
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
            f"{type(item).__name__} object is not an image; pass a path, a Pillow image, or an "
            "array such as RGB (H, W, 3) of uint8."
        )
    known = _formats()
    with _errors_named(item, "opened as an image"):
        content = BytesIO(_content(Path(item)))
        try:
            return Image.open(content, formats=known)
        except UnidentifiedImageError as error:
            raise ValueError(f"not one of {', '.join(known)}, or damaged") from error


def _content(path: Path) -> bytes:
    """Read a whole file; Pillow would map some, and overwriting a mapped file is fatal."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a named pipe would block forever
        raise ValueError("it is a directory or a device, not a file")
    if status.st_size > LARGEST_FILE:
        raise ValueError(f"it has {status.st_size} bytes; the maximum is {LARGEST_FILE}")
    return path.read_bytes()


@contextmanager
def _errors_named(item: Item, done: str) -> Iterator[None]:
    """Turn whatever is raised inside into an error that names the item."""
    try:
        with memory_for(describe(item)):
            yield
    except MemoryError:
        raise
    except Exception as error:  # decoders do not document what they raise on damaged files
        reason = str(error) or type(error).__name__
        raise UnreadableError(f"{describe(item)} cannot be {done}: {reason}") from error
