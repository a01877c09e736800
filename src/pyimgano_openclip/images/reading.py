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
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ..arrays import Size
from ..files.digest import digest_of_content
from ..memory import out_of_memory_explained
from .areas import Area
from .declared import declared_by
from .formats import readable_formats
from .identity import Recall, Recalled, nothing_known, of_files, of_pixels
from .items import Item, as_array, describe
from .once import Decoded, DecodedOnce
from .opening import checked_size, count_pages, most_pixels, whole_files, why_refused
from .pixels import DEEP_MODES, Pixels, array_to_rgb, check_array, range_used, to_rgb
from .unreadable import UnreadableError
from .within import Within

EXIF_ORIENTATION = 0x0112
TIFF_WIDTH, TIFF_HEIGHT = 0x0100, 0x0101
TURNED_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width
LARGEST_FILE = 2**31  # bytes; more than Pillow's pixel limit at 16 bits per channel
LARGEST_PIXEL = 8  # bytes: four channels of 16 bits

T = TypeVar("T")


@dataclass(frozen=True)
class Frame:
    """One decoded image.

    Attributes:
        pixels: RGB, uint8, shape (canvas height, canvas width, 3).
        size: (height, width) of the original image in pixels, as a viewer shows it.
        identity: What tells the image from others; see :mod:`~.identity`.
        pages: Number of pages or frames of its file, of which this is the first.
        range_used: Highest value as a share of the range that its type or file declares, in [0, 1];
            None unless it is deeper than 8 bits.
        whole: The same image on a second canvas, if it was asked for.
        area: What is shown of the image; None for all.
    """

    pixels: Pixels
    size: Size
    identity: str
    pages: int = 1
    range_used: float | None = None
    whole: Pixels | None = None
    area: Area | None = None

    @property
    def at_once(self) -> npt.NDArray[np.uint8]:
        """The pixels by which all of the image is seen at once."""
        return self.pixels if self.whole is None else self.whole


def read_frame(
    item: Item,
    canvas: Size | None,
    resample: str = "bicubic",
    recall: Recall[T] = nothing_known,
    whole: Size | None = None,
) -> Frame | Recalled[T]:
    """Decode an image and resize all of it to the canvas, unless more is known of it already.

    Args:
        item: A path, array or Pillow image; see :mod:`~.pixels` for the supported kinds. Of one
            :class:`~.within.Within` a region, all else is blank.
        canvas: (height, width) in pixels to resize to; None if no image could be read to choose it.
        resample: ``"bicubic"`` or ``"bilinear"``, both antialiased; as the model was trained.
        recall: What is known of an image by its identity, returned in place of the frame. A file
            that was decoded recently is not decoded again for it.
        whole: (height, width) in pixels of a second canvas, if one is wanted.

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    given = item
    item = given.item if isinstance(given, Within) else given
    content = read_content(item)
    file = None if content is None else digest_of_content(content)
    if isinstance(item, DecodedOnce):
        item.digest = file
    seen = None if file is None else of_files.get(file)
    decoded = None
    if seen is None:
        decoded = _decoded(item, content, file)
        seen = of_pixels(np.asarray(decoded.image)), decoded.pages, decoded.range_used
        if file is not None:
            of_files.put(file, seen)
    identity, pages, used = seen
    known = recall(identity)
    if known is not None:
        return Recalled(known, pages, used)
    image = (decoded or _decoded(item, content, file)).image
    if canvas is None:
        raise UnreadableError(f"{describe(item)} could not be read when the canvas was chosen.")
    area = None
    if isinstance(given, Within):
        image, area = given.shown(image)
    height, width = canvas
    with out_of_memory_explained(f"{describe(item)} on a canvas of {height} x {width} pixels"):
        filtered = Image.Resampling[resample.upper()]
        resized = np.asarray(image.resize((width, height), filtered))
        small = None if whole is None else np.asarray(image.resize(whole[::-1], filtered))
    return Frame(resized, (image.height, image.width), identity, pages, used, small, area)


def read_pixels(item: Item) -> Pixels:
    """Decode an image at its own size, as the detectors do: in RGB, turned by its EXIF entry.

    Args:
        item: A path, array, tensor or Pillow image; see :mod:`~.pixels` for the supported kinds. Of
            one :class:`~.within.Within` a region of interest, the pixels outside are one colour.

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        UnreadableError: If the item cannot be read as an image.
    """
    if isinstance(item, Within):
        return np.asarray(item.shown(_decoded(item.item).image)[0])
    return np.asarray(_decoded(item).image)


def read_brightness(path: Path) -> npt.NDArray[Any]:
    """Decode a mask at its own size and depth; what is transparent is black.

    Returns:
        Shape (H, W) of 16-bit and floating-point grey as it is stored, else RGB (H, W, 3), uint8.

    Raises:
        UnreadableError: If the file cannot be read as an image.
    """
    with _open(path) as opened, _errors_named(path, "decoded"), whole_files():
        image = _upright(opened)
        plain = not declared_by(image).inverted and "transparency" not in image.info
        deep = image.mode in (*DEEP_MODES, "F") and plain
        return np.asarray(image if deep else to_rgb(image, background=0))


def picture_of(content: bytes) -> Image.Image:
    """Open the content of an image file as a Pillow image, which is not decoded yet.

    Raises:
        UnreadableError: If it cannot be opened as an image.
    """
    return _open(f"file of {len(content)} bytes", content).__enter__()


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


def _stored_size(tiff: Any) -> Size:
    return tiff.tag_v2[TIFF_HEIGHT], tiff.tag_v2[TIFF_WIDTH]


def read_content(item: Item) -> bytes | None:
    """The bytes of a file; None for anything but a path.

    Raises:
        UnreadableError: If it cannot be read.
    """
    if not isinstance(item, (str, os.PathLike)):
        return None
    with _errors_named(item, "opened as an image"):
        return _content(Path(item))


def _decoded(item: Item, content: bytes | None = None, file: str | None = None) -> Decoded:
    """Decode an image, or take what the reader before has decoded.

    Args:
        item: The image.
        content: The bytes of its file, if they have been read.
        file: Their digest.
    """
    if not isinstance(item, DecodedOnce):
        return _decode(item, content)
    kept = item.take(file)
    if kept is None:
        content = cast(bytes, read_content(item)) if content is None else content
        kept = _decode(item, content)
        item.keep(file or digest_of_content(content), kept)
    return kept


def _decode(item: Item, content: bytes | None = None) -> Decoded:
    array = as_array(item)
    if array is not None:
        pixels = Image.fromarray(array_to_rgb(array, describe(item)))
        return Decoded(pixels, 1, range_used(array))
    with _open(item, content) as opened, _errors_named(item, "decoded"), whole_files():
        # A picture of Pillow stands where the caller has put it.
        pages = 1 if opened is item else count_pages(opened)
        return Decoded(to_rgb(_upright(opened)), pages, range_used(opened))


def _upright(opened: Image.Image) -> Image.Image:
    """The image as a viewer shows it."""
    # Pillow turns TIFF files itself; older versions then let exif_transpose() do it again.
    upright = opened.format == "TIFF" or opened.getexif().get(EXIF_ORIENTATION, 1) == 1
    return opened if upright else ImageOps.exif_transpose(opened)


def _open(item: Item, content: bytes | None = None) -> AbstractContextManager[Image.Image]:
    if isinstance(item, Image.Image):
        if 0 in item.size:  # no file can say so of itself
            raise UnreadableError(
                f"{describe(item)} of {item.height} x {item.width} pixels (height x width) shows "
                "nothing; expected at least one pixel."
            )
        return nullcontext(item)  # the caller's stays open
    if not isinstance(item, (str, os.PathLike)):
        raise UnreadableError(
            f"{type(item).__name__} object is not an image; pass a path, a Pillow image, or an "
            "array such as RGB (H, W, 3) of uint8."
        )
    known = readable_formats()
    with _errors_named(item, "opened as an image"):
        file = BytesIO(_content(Path(item)) if content is None else content)
        try:
            with whole_files():
                return checked_size(Image.open(file, formats=known))
        except UnidentifiedImageError as error:
            raise ValueError(why_refused(file.getvalue(), known)) from error


def _content(path: Path) -> bytes:
    """Read a whole file; Pillow would map some, and overwriting a mapped file is fatal."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):  # a named pipe would block forever
        raise ValueError("it is a directory or a device, not a file")
    largest = max(LARGEST_FILE, LARGEST_PIXEL * most_pixels())
    if status.st_size > largest:
        raise ValueError(f"it has {status.st_size} bytes; the maximum is {largest}")
    return path.read_bytes()


@contextmanager
def _errors_named(item: Item, done: str) -> Iterator[None]:
    """Turn whatever is raised inside into an error that names the item."""
    try:
        with out_of_memory_explained(describe(item)):
            yield
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        found, _, _ = str(error).partition(" exceeds")  # Pillow knows half of our limit, or twice
        raise UnreadableError(
            f"{describe(item)} cannot be {done}: {found} exceeds limit of {most_pixels()} pixels, "
            "which keeps small files from filling the memory. If you trust the file, raise it with "
            "set_most_pixels() of pyimgano_openclip.images.opening."
        ) from error
    except Exception as error:  # decoders do not document what they raise on damaged files
        reason = str(error) or type(error).__name__
        raise UnreadableError(f"{describe(item)} cannot be {done}: {reason}") from error
