"""Where the tokens of a memory bank come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .embedding import Size

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


def in_order(origins: npt.NDArray[np.integer], images: Sequence[StoredImage]) -> bool:
    """Whether the rows lie image by image and in patches that these have."""
    image, turn, patch = origins.T
    if image.min() < 0 or image.max() >= len(images) or (np.diff(image) < 0).any():
        return False
    patches = np.array([stored.grid[0] * stored.grid[1] for stored in images])
    return bool((turn >= 0).all() and (patch >= 0).all() and (patch < patches[image]).all())
