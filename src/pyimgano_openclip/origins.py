"""Where the tokens of a memory bank come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .checks import check_count
from .embedding import Size

LONGEST = 2**31 - 1  # pixels; what OpenCV and Pillow count
Origins = npt.NDArray[np.int32]  # image, turn and patch of each row, (N, 3)


@dataclass(frozen=True)
class StoredImage:
    """Where an image's patches lie, so that one can show what a patch was compared with.

    Attributes:
        grid: (rows, cols) of its patches.
        size: (height, width) of the image in pixels.
        path: Where it was read from; None if it was an array.
    """

    grid: Size
    size: Size
    path: str | None = None


class Origin(NamedTuple):
    """Where a stored token comes from.

    Attributes:
        image: Number of the image, from 0 in the order of fitting.
        turn: Number of the rotated copy, 0 for the image itself.
        patch: Number of the patch in its grid, row by row from the top left.
    """

    image: int
    turn: int
    patch: int


def stored_image(told: Any) -> StoredImage:
    """A stored image as it comes back from JSON: rows, columns, height, width, path.

    Raises:
        ValueError: If it is none.
    """
    *sides, path = told
    for side in sides:
        check_count("a side of a stored image", side)
    rows, cols, height, width = sides
    if max(sides) > LONGEST or not (path is None or isinstance(path, str)):
        raise ValueError("a stored image has an impossible size or path")
    return StoredImage((rows, cols), (height, width), path)


def in_order(origins: Origins, images: Sequence[StoredImage], *, whole: bool) -> bool:
    """Whether the rows lie image by image and in patches that these have.

    Args:
        origins: Of the rows.
        images: That they came from.
        whole: Whether every patch of an image that was not turned has to be there.
    """
    image, turn, patch = origins.T
    if image.min() < 0 or image.max() >= len(images) or (np.diff(image) < 0).any():
        return False
    patches = np.array([stored.grid[0] * stored.grid[1] for stored in images])
    if turn.min() < 0 or patch.min() < 0 or (patch >= patches[image]).any():
        return False
    own = turn == 0
    return not whole or (
        np.array_equal(np.bincount(image[own], minlength=len(images)), patches)
        and bool((patch[own] == _counted(patches)).all())
    )


def _counted(patches: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """0 to n - 1 for every n."""
    return np.concatenate([np.arange(n) for n in patches])
