"""What callers pass in: a list of paths or arrays, told apart without decoding anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Item: TypeAlias = Any  # str, os.PathLike, or an array or tensor of one image


def as_items(x: object, argument: str = "x") -> list[Item]:
    """Return the images to work on as a list.

    Args:
        x: A list, tuple or other iterable of paths and arrays, or one stacked array (N, H, W, 3),
            or a stacked tensor (N, 3, H, W).
        argument: How the caller's argument is called, for messages.

    Raises:
        ValueError: If ``x`` is empty, None, or a single image instead of a list of images.
    """
    if isinstance(x, (str, bytes, os.PathLike)):
        raise ValueError(f"{argument} is the single path {x!r}; pass a list of paths: [{x!r}].")
    paths = isinstance(x, np.ndarray) and x.dtype.kind in "OU"
    if getattr(x, "ndim", 4) != 4 and not paths:
        raise ValueError(
            f"{argument} is one {describe(x)}; pass a list of images [image] or a stacked array "
            "of shape (N, H, W, 3)."
        )
    if not isinstance(x, Iterable):
        raise ValueError(
            f"{argument} is {type(x).__name__}; pass a list of image paths or of RGB arrays."
        )
    items = list(x)
    if not items:
        raise ValueError(f"{argument} is empty; pass at least one image.")
    return items


def describe(item: Item) -> str:
    """Name an item in a message: its path, or the shape and type of an array."""
    if isinstance(item, (str, os.PathLike)):
        return str(item)
    if hasattr(item, "shape") and hasattr(item, "dtype"):
        return f"array of shape {tuple(item.shape)}, {item.dtype}"
    return f"{type(item).__name__} object"


def as_array(item: Item) -> npt.NDArray[Any] | None:
    """An item as an array with channels last, or None if it is none.

    Tensors of torch have their channels first: (C, H, W).
    """
    if isinstance(item, np.ndarray):
        return item
    if not (hasattr(item, "detach") and hasattr(item, "cpu")):
        return None
    array: npt.NDArray[Any] = item.detach().cpu().numpy()
    return np.moveaxis(array, 0, -1) if array.ndim == 3 else array


def content_key(item: Item) -> Hashable | None:
    """Something that changes whenever the pixels of an item may have changed.

    Returns:
        For a file its path, size and time of modification; for an array a digest of its content;
        None if neither can be had.
    """
    if isinstance(item, (str, os.PathLike)):
        try:
            status = Path(item).stat()
        except OSError:
            return None
        return (str(Path(item).absolute()), status.st_size, status.st_mtime_ns, status.st_ino)
    array = as_array(item)
    if array is None or array.dtype == object:
        return None
    digest = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
    return (array.shape, str(array.dtype), digest)
