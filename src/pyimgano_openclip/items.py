"""What callers pass in: a list of paths or arrays, told apart without decoding anything."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Item: TypeAlias = Any  # str, os.PathLike, or a uint8 RGB array (H, W, 3)


def as_items(x: object, argument: str = "x") -> list[Item]:
    """Return the images to work on as a list.

    Args:
        x: A list, tuple or other iterable of paths and arrays, or one stacked array (N, H, W, 3).
        argument: How the caller's argument is called, for messages.

    Raises:
        ValueError: If ``x`` is empty, None, or a single image instead of a list of images.
    """
    if isinstance(x, (str, bytes, os.PathLike)):
        raise ValueError(f"{argument} is the single path {x!r}; pass a list of paths: [{x!r}].")
    if isinstance(x, np.ndarray) and x.ndim != 4 and x.dtype != object:
        raise ValueError(
            f"{argument} is one array of shape {x.shape}; pass a list of images [image] or a "
            "stacked array of shape (N, H, W, 3)."
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
    if isinstance(item, np.ndarray):
        return f"array of shape {item.shape}, {item.dtype}"
    return f"{type(item).__name__} object"


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
    if isinstance(item, np.ndarray):
        pixels = np.ascontiguousarray(item)
        return (item.shape, str(item.dtype), hashlib.blake2b(pixels.data, digest_size=16).digest())
    return None
