"""The identity of an image is what it shows: never its path, its size in bytes or its date.

For towers of open_clip, which see 8-bit RGB, that is a digest of the decoded pixels: a file, a copy
of it, an array and a Pillow image of it are one image. A custom embedder may see more, so there it
is a digest of the file's bytes, or of the array as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..recent import Recent
from .items import Item, as_array
from .unreadable import UnreadableError

DIGEST = 16  # bytes

T = TypeVar("T")
Recall: TypeAlias = Callable[[str | None], T | None]  # what is known of an image, if anything


@dataclass(frozen=True)
class Recalled(Generic[T]):
    """What is known of an image, in place of the image.

    Attributes:
        known: What the recall gave.
        pages: Number of pages or frames of this file, of which the first is the image.
        range_used: Highest value as a share of the range that its type or file declares; see
            :class:`~.reading.Frame`.
    """

    known: T
    pages: int = 1
    range_used: float | None = None


# Identity, number of pages and range used of recently decoded files by a digest of their bytes, so
# that a file whose scores are known needs no decoding.
of_files: Recent[tuple[str, int, float | None]] = Recent()


def nothing_known(_image: str | None) -> None:
    """The :data:`Recall` of someone who sees every image for the first time."""


def of_bytes(data: bytes | memoryview) -> str:
    """A digest of bytes."""
    import hashlib  # loads OpenSSL, which listing models does not need

    return hashlib.blake2b(data, digest_size=DIGEST).hexdigest()


def of_pixels(pixels: npt.NDArray[Any]) -> str:
    """The identity of decoded pixels, or of any array."""
    content = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    shape = "x".join(str(side) for side in pixels.shape)
    return f"{shape} {pixels.dtype.str} {of_bytes(content.data)}"


def of_item(item: Item) -> str | None:
    """The identity of an item for a custom embedder; see the module docstring.

    Args:
        item: A path, array, tensor, Pillow image, or anything else that the embedder accepts.

    Returns:
        None for something else, such as a camera's buffer, which may show another image each time.
    """
    try:
        if isinstance(item, (str, os.PathLike)):
            return of_bytes(Path(item).read_bytes()) if Path(item).is_file() else None
        array = as_array(item)
    except (OSError, ValueError, UnreadableError):  # the embedder may know better
        return None
    if array is None and hasattr(item, "tobytes") and hasattr(item, "getbands"):  # Pillow's
        return f"{item.mode} {item.size} {of_bytes(item.tobytes())}"
    if array is None or array.dtype.hasobject or not array.nbytes:
        return None
    return of_pixels(array)
