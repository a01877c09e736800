"""Other views of one image: slightly changed, or turned round.

Slightly changed views stand in for further normal images where there is only one to set a threshold
with. Turned copies fill the memory bank for parts that lie in any direction.
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
    """Shift, turn and relight an image a little; always the same eight ways.

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
    """Make a large image smaller, in true proportions, but no side smaller than asked for."""
    height, width = pixels.shape[:2]
    factor = max(least[0] / height, least[1] / width)
    if factor >= 1:
        return pixels
    size = (math.ceil(width * factor), math.ceil(height * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """Turn an image about its centre, counter-clockwise; what comes in from outside is mirrored.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        degrees: How far.

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
    """Where points of a turned image lie in the image itself.

    Args:
        x: Pixels from the left edge.
        y: Pixels from the top edge.
        size: (height, width) of the image.
        degrees: How far it was turned; see :func:`turn`.

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
    """Numbers of the patches of a turned image whose centres show the image, not its mirror.

    Args:
        grid: (rows, cols) of patches.
        size: (height, width) of the image.
        degrees: How far it was turned.
    """
    rows, cols = np.indices(grid).reshape(2, -1) + 0.5
    height, width = size
    x, y = turn_back(cols * width / grid[1], rows * height / grid[0], size, degrees)
    inside = (x > 0) & (x < width) & (y > 0) & (y < height)
    return np.flatnonzero(inside)
