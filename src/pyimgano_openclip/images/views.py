"""Views of one image: turned and moved, or slightly changed.

Turned copies fill the memory bank for parts that lie in any direction, moved copies for parts that
lie a little differently. Slightly changed ones stand in for further normal images when there is
only one to set a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Size

if TYPE_CHECKING:
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
WAYS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # down and right, in which a moved copy is moved


class View(NamedTuple):
    """How a copy of an image is made: first turned about its centre, then moved.

    Attributes:
        turn: Counter-clockwise rotation in degrees.
        down: Share of the height by which it is moved down.
        right: Share of the width by which it is moved to the right.
    """

    turn: float = 0.0
    down: float = 0.0
    right: float = 0.0


def views_of(rotations: int, jitter: float) -> tuple[View, ...]:
    """The views that are stored of each image; the first is the image itself.

    Args:
        rotations: Number of evenly spaced orientations.
        jitter: Share of the side by which each of them is also moved up, down, left and right; 0
            for no moved copies.
    """
    ways = ((0, 0), *WAYS) if jitter else ((0, 0),)
    return tuple(
        View(360 * number / rotations, down * jitter, right * jitter)
        for down, right in ways
        for number in range(rotations)
    )


def augmented_views(pixels: Pixels) -> Iterator[Pixels]:
    """Shift, rotate and relight an image slightly, always in the same eight ways.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).

    Yields:
        Eight images of the same shape.
    """
    import cv2

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
    # Importing OpenCV takes a tenth of a second; listing models must be instant.
    import cv2

    height, width = pixels.shape[:2]
    factor = max(least[0] / height, least[1] / width)
    if factor >= 1:
        return pixels
    size = (math.ceil(width * factor), math.ceil(height * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def seen(pixels: Pixels, view: View) -> Pixels:
    """Make a view of an image.

    What it shows of the outside is filled by reflection, or with the pixels of the border if it is
    not turned: such a narrow strip then looks most like what really lies there, while leaving out
    all patches that it touches would leave the border of moved parts unknown.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        view: How to turn and move it.

    Returns:
        An image of the same shape.
    """
    import cv2

    height, width = pixels.shape[:2]
    centre = ((width - 1) / 2, (height - 1) / 2)
    motion = cv2.getRotationMatrix2D(centre, view.turn, 1.0)
    motion[:, 2] += (view.right * width, view.down * height)
    border = cv2.BORDER_REFLECT_101 if view.turn else cv2.BORDER_REPLICATE
    copy = cv2.warpAffine(
        pixels, motion, (width, height), flags=cv2.INTER_LINEAR, borderMode=border
    )
    return np.asarray(copy, dtype=np.uint8)


def map_back(x: npt.ArrayLike, y: npt.ArrayLike, size: Size, view: View) -> Points:
    """Map points of a view back to the original image.

    Args:
        x: Pixels from the left edge.
        y: Pixels from the top edge.
        size: (height, width) of the image in pixels.
        view: How the image was turned and moved.

    Returns:
        x and y, stacked on the first axis.
    """
    height, width = size
    angle = math.radians(view.turn)
    right = np.asarray(x) - (0.5 + view.right) * width
    down = np.asarray(y) - (0.5 + view.down) * height
    return np.stack(
        [
            width / 2 + math.cos(angle) * right - math.sin(angle) * down,
            height / 2 + math.sin(angle) * right + math.cos(angle) * down,
        ]
    )


def patches_of_original(grid: Size, size: Size, view: View) -> npt.NDArray[np.int64]:
    """Indices of the patches of a view whose centres are inside the original image.

    Args:
        grid: (rows, cols) of patches.
        size: (height, width) of the image in pixels.
        view: How the image was turned and moved.
    """
    rows, cols = np.indices(grid).reshape(2, -1) + 0.5
    height, width = size
    x, y = map_back(cols * width / grid[1], rows * height / grid[0], size, view)
    inside = (x > 0) & (x < width) & (y > 0) & (y < height)
    return np.flatnonzero(inside)
