"""Locates patches and their nearest normal patches in image pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .embedding import Size
from .memory_bank import MemoryBank


class Box(NamedTuple):
    """A rectangle in pixels of an original image, as in Pillow's ``Image.crop``."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Match:
    """A patch of an image and its nearest normal patch.

    Attributes:
        score: Score of the patch: its mean cosine distance to the nearest normal patches.
        box: The patch in pixels of the image.
        distance: Cosine distance to the nearest normal patch, in [0, 2].
        training_image: Index of the training image in the order of fitting, from 0.
        path: Path of that image; None if it was an array.
        training_box: The normal patch in pixels of that image. For a rotated copy, a patch-sized
            box around the position of the patch in the original image.
        rotation: Counter-clockwise rotation of the training image in degrees.
    """

    score: float
    box: Box
    distance: float
    training_image: int
    path: str | None
    training_box: Box
    rotation: float


def patch_box(patch: int, grid: Size, size: Size) -> Box:
    """The box of a patch in pixels, at least one in each direction.

    Args:
        patch: Index of the patch, row by row from the top left.
        grid: (rows, cols) of patches, which cover the whole image.
        size: (height, width) of the image in pixels.
    """
    (row, col), (height, width) = divmod(patch, grid[1]), size
    return _box((col + 0.5) * width / grid[1], (row + 0.5) * height / grid[0], grid, size)


def stored_box(bank: MemoryBank, row: int, degrees: float) -> Box:
    """The box of a stored patch in pixels of its training image.

    Args:
        bank: The memory bank.
        row: Row of the bank.
        degrees: Rotation of the stored copy of the image.
    """
    origin = bank.origin(row)
    image = bank.images[origin.image]
    if not degrees:
        return patch_box(origin.patch, image.grid, image.size)
    # Imports OpenCV, which listing models does not need.
    from .views import turn_back

    centre = (np.array(divmod(origin.patch, image.grid[1])) + 0.5) / image.grid * image.size
    x, y = turn_back(centre[1], centre[0], image.size, degrees)
    return _box(float(x), float(y), image.grid, image.size)


def _box(x: float, y: float, grid: Size, size: Size) -> Box:
    """A patch-sized box around a point, clipped to the image."""
    (rows, cols), (height, width) = grid, size
    left, top = round(x - width / cols / 2), round(y - height / rows / 2)
    right, bottom = round(x + width / cols / 2), round(y + height / rows / 2)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return Box(left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1))
