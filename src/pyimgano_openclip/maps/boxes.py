"""Rectangles in the pixels of an image."""

from __future__ import annotations

from typing import NamedTuple

from ..arrays import Size


class Box(NamedTuple):
    """A rectangle in pixels of an original image, as in Pillow's ``Image.crop``."""

    left: int
    top: int
    right: int
    bottom: int


def patch_box(patch: int, grid: Size, size: Size) -> Box:
    """The box of a patch in pixels, at least one in each direction.

    Args:
        patch: Index of the patch, row by row from the top left.
        grid: (rows, cols) of patches, which cover the whole image.
        size: (height, width) of the image in pixels.
    """
    (row, col), (height, width) = divmod(patch, grid[1]), size
    return box_around((col + 0.5) * width / grid[1], (row + 0.5) * height / grid[0], grid, size)


def box_around(x: float, y: float, grid: Size, size: Size) -> Box:
    """A patch-sized box around a point, clipped to the image."""
    (rows, cols), (height, width) = grid, size
    left, top = round(x - width / cols / 2), round(y - height / rows / 2)
    right, bottom = round(x + width / cols / 2), round(y + height / rows / 2)
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return Box(left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1))
