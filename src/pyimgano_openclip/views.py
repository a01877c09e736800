"""Views of one image: slightly changed, or rotated.

Slightly changed views stand in for further normal images when there is only one to set a threshold.
Rotated copies fill the memory bank for parts that lie in any direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from .embedding import Size
from .pixels import Pixels

Points = npt.NDArray[np.float64]

# (shift right, shift down, rotation, brightness): shares of the side, degrees, factor
CHANGES = (
    (0.02, 0.00, 0.0, 1.05),
    (-0.02, 0.01, 0.0, 0.95),
    (0.00, 0.02, 1.0, 1.00),
    (0.01, -0.02, -1.0, 1.00),
    (0.03, 0.03, 0.0, 1.08),
    (-0.03, 0.02, 2.0, 0.92),
    (0.02, -0.03, -2.0, 1.03),
    (-0.01, -0.01, 0.5, 0.97),
)
NOISE = 2.0  # grey levels; standard deviation of a quiet camera


def augmented_views(pixels: Pixels) -> Iterator[Pixels]:
    """Shift, rotate and relight an image slightly, always in the same eight ways.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).

    Yields:
        Eight images of the same shape.
    """
    height, width = pixels.shape[:2]
    generator = np.random.default_rng(0)
    for right, down, degrees, brightness in CHANGES:
        motion = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        motion[:, 2] += (right * width, down * height)
        moved = cv2.warpAffine(pixels, motion, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        noise = generator.normal(0, NOISE, pixels.shape).astype(np.float32)
        yield np.clip(moved * np.float32(brightness) + noise, 0, 255).astype(np.uint8)


def shrink(pixels: Pixels, least: Size) -> Pixels:
    """Shrink a large image, keeping its aspect ratio and at least the given size."""
    height, width = pixels.shape[:2]
    factor = max(least[0] / height, least[1] / width)
    if factor >= 1:
        return pixels
    size = (math.ceil(width * factor), math.ceil(height * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """Rotate an image counter-clockwise about its centre; the outside is filled by reflection.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        degrees: Angle of rotation.

    Returns:
        An image of the same shape.
    """
    height, width = pixels.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    motion = cv2.getRotationMatrix2D(centre, degrees, 1.0)
    turned = cv2.warpAffine(
        pixels, motion, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(turned, dtype=np.uint8)


def turn_back(x: npt.ArrayLike, y: npt.ArrayLike, size: Size, degrees: float) -> Points:
    """Map points of a rotated image back to the original image.

    Args:
        x: Pixels from the left edge.
        y: Pixels from the top edge.
        size: (height, width) of the image in pixels.
        degrees: Angle of rotation; see :func:`turn`.

    Returns:
        x and y, stacked on the first axis.
    """
    height, width = size
    angle = math.radians(degrees)
    right, down = np.asarray(x) - width / 2, np.asarray(y) - height / 2
    return np.stack(
        [
            width / 2 + math.cos(angle) * right - math.sin(angle) * down,
            height / 2 + math.sin(angle) * right + math.cos(angle) * down,
        ]
    )


def patches_inside(grid: Size, size: Size, degrees: float) -> npt.NDArray[np.int64]:
    """Indices of the patches of a rotated image whose centres are inside the original image.

    Args:
        grid: (rows, cols) of patches.
        size: (height, width) of the image in pixels.
        degrees: Angle of rotation; see :func:`turn`.
    """
    rows, cols = np.indices(grid).reshape(2, -1) + 0.5
    height, width = size
    x, y = turn_back(cols * width / grid[1], rows * height / grid[0], size, degrees)
    inside = (x > 0) & (x < width) & (y > 0) & (y < height)
    return np.flatnonzero(inside)
