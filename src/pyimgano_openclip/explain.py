"""Which normal patch a patch was compared with, in pixels of both images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .embedding import Size
from .memory_bank import MemoryBank


class Box(NamedTuple):
    """A rectangle in pixels of an original image, as Pillow's ``Image.crop`` takes it."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Match:
    """A patch of an image and the normal patch that is most like it.

    Attributes:
        score: The patch's score: its cosine distance to the normal patches nearest to it.
        box: The patch, in pixels of the image.
        distance: Cosine distance to the one nearest normal patch, in [0, 2].
        training_image: Number of the training image, in the order of fitting.
        path: Path of that image; None if it was an array.
        training_box: The normal patch, in pixels of that image. If the image was stored turned, a
            box of the size of a patch about the place of the patch in the image itself.
        rotation: Degrees, counter-clockwise, that the training image was turned by.
    """

    score: float
    box: Box
    distance: float
    training_image: int
    path: str | None
    training_box: Box
    rotation: float


def patch_box(patch: int, grid: Size, size: Size) -> Box:
    """The pixels of a patch, at least one each way.

    Args:
        patch: Its number, row by row from the top left.
        grid: (rows, cols) of patches, which cover the whole image.
        size: (height, width) of the image.
    """
    (row, col), (height, width) = divmod(patch, grid[1]), size
    return _box((col + 0.5) * width / grid[1], (row + 0.5) * height / grid[0], grid, size)


def stored_box(bank: MemoryBank, row: int, degrees: float) -> Box:
    """The pixels of a stored patch in the training image that it came from.

    Args:
        bank: The memory bank.
        row: Row of the bank.
        degrees: How far the stored copy of the image was turned.
    """
    origin = bank.origin(row)
    image = bank.images[origin.image]
    if not degrees:
        return patch_box(origin.patch, image.grid, image.size)
    # OpenCV takes a tenth of a second to import, and listing models must stay instant.
    from .views import turn_back

    centre = (np.array(divmod(origin.patch, image.grid[1])) + 0.5) / image.grid * image.size
    x, y = turn_back(centre[1], centre[0], image.size, degrees)
    return _box(float(x), float(y), image.grid, image.size)


def _box(x: float, y: float, grid: Size, size: Size) -> Box:
    """A box of the size of a patch about a point, within the image."""
    (rows, cols), (height, width) = grid, size
    left, top = round(x - width / cols / 2), round(y - height / rows / 2)
    right, bottom = round(x + width / cols / 2), round(y + height / rows / 2)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return Box(left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1))
