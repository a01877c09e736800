"""Views of one image, turned and moved.

Turned copies fill the memory bank for parts that lie in any direction, moved copies for parts that
lie a little differently. Moved ones also stand in for further normal images when there is only one
to set a threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Size

if TYPE_CHECKING:
    from .pixels import Pixels

Points = npt.NDArray[np.float64]

JITTER, TURN = 0.02, 1.5  # of the side, and degrees, by which parts usually lie differently
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


# Of the only image, moved towards the corners and turned, as no copy in the bank is.
STAND_INS = tuple(
    View(right * TURN, down * JITTER, right * JITTER) for down in (1, -1) for right in (1, -1)
)


def planned(views: Sequence[View], count: int, most: int) -> list[tuple[int, int]]:
    """Which views of so many images are stored, as pairs of indices of an image and a view.

    All moved copies while these are no more than ``most``, otherwise so many, evenly spread over
    the images, and over the ways in which they are moved.

    Args:
        views: Those of :func:`views_of`.
        count: Number of images.
        most: Number of images, moved, in each orientation.
    """
    turned = sum(view == View(view.turn) for view in views)
    ways = len(views) // turned - 1
    shares = np.arange(count + 1) * max(0, most) // count
    plan = list[tuple[int, int]]()
    for index, (first, last) in enumerate(pairwise(shares.tolist())):
        moved = [1 + number % ways for number in range(first, min(last, first + ways))]
        for way in (0, *sorted(moved)):
            plan += [(index, way * turned + turn) for turn in range(turned)]
    return plan


def shrink(pixels: Pixels, least: Size) -> Pixels:
    """Shrink a large image, keeping its aspect ratio and at least the given size."""
    # Importing OpenCV takes a tenth of a second; listing models must be instant.
    import cv2

    height, width = pixels.shape[:2]
    factor = max(least[0] / height, least[1] / width)
    if factor >= 1:
        return pixels
    size = (math.ceil(height * factor), math.ceil(width * factor))
    shrunk = cv2.resize(halved(pixels, size), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.uint8)


def halved(pixels: Pixels, least: Size) -> Pixels:
    """Halve an image while it keeps at least the given size, much faster than other fractions.

    The last row or column of an odd number is left out.
    """
    import cv2

    while pixels.shape[0] >= 2 * least[0] and pixels.shape[1] >= 2 * least[1]:
        rows, cols = (length // 2 for length in pixels.shape[:2])
        whole = pixels[: 2 * rows, : 2 * cols]
        pixels = np.asarray(
            cv2.resize(whole, (cols, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
    return pixels


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
