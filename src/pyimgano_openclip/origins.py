"""Records where the tokens of a memory bank come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .checks import check_count
from .embedding import Size

LONGEST = 2**31 - 1  # pixels; limit of OpenCV and Pillow
Origins = npt.NDArray[np.int32]  # image, turn and patch of each row, (N, 3)


class StoredImage(NamedTuple):
    """Geometry and path of a training image, to show what a patch was compared with.

    Attributes:
        grid: (rows, cols) of its patches.
        size: (height, width) of the image in pixels.
        path: Path of the file; None if it was an array.
    """

    grid: Size
    size: Size
    path: str | None = None


class Origin(NamedTuple):
    """Where a stored token comes from.

    Attributes:
        image: Index of the image in the order of fitting, from 0.
        turn: Index of the rotated copy; 0 for the image itself.
        patch: Index of the patch in its grid, row by row from the top left.
    """

    image: int
    turn: int
    patch: int


def stored_image(values: Any) -> StoredImage:
    """Restore a stored image from JSON values: rows, columns, height, width, path.

    Raises:
        ValueError: If they are invalid.
    """
    *sides, path = values
    for side in sides:
        check_count("a side of a stored image", side)
    rows, cols, height, width = sides
    if max(sides) > LONGEST or not (path is None or isinstance(path, str)):
        raise ValueError("a stored image has an impossible size or path")
    return StoredImage((rows, cols), (height, width), path)


def in_order(origins: Origins, images: Sequence[StoredImage], *, whole: bool) -> bool:
    """Whether rows are ordered by image and refer to patches that exist.

    Args:
        origins: Origins of the rows.
        images: The images that they came from.
        whole: Whether all patches of the original images have to be present.
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
    """Concatenate 0 to n - 1 for each n."""
    return np.concatenate([np.arange(n) for n in patches])
