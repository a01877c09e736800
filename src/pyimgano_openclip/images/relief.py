"""The relief of an image: how much brighter small blocks of pixels are than those around them.

Frames of one scene have one relief, up to noise and light. Different surfaces, and different parts
in one place, do not.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..arrays import Floats
from .areas import Inside
from .look import grey_of, in_blocks

AROUND = 5  # blocks, a side of the surroundings
FEWEST = 30  # blocks, of which fewer are alike by chance


def relief_of(small: npt.NDArray[np.uint8], inside: Inside | None = None) -> Floats:
    """The relief of an image, or of a part of it.

    Args:
        small: The image as :func:`~.look.shrunk` gives it, shape (H, W, 3).
        inside: The pixels that are looked at, shape (H, W); None for all.

    Returns:
        Of each block of 4 x 4 pixels its mean grey level less the mean of those around it, shape
        (H // 4, W // 4), scaled so that the sum of squares is the mean square over blocks that are
        looked at. Others are 0, and all if too few are looked at to tell anything.
    """
    grey = grey_of(small)
    blocks = in_blocks(grey if inside is None else np.where(inside, grey, np.float32(np.nan)))
    known = ~np.isnan(blocks)
    count = int(np.count_nonzero(known))
    if count < FEWEST:
        return np.zeros_like(blocks)
    total = _around(np.where(known, blocks, np.float32(0)))
    beside = np.maximum(_around(known.astype(np.float32)), 1)
    found: Floats = np.where(known, blocks - total / beside, np.float32(0))
    return found / np.float32(math.sqrt(count))


def _around(blocks: Floats) -> Floats:
    """The sum of each block and those around it."""
    padded, (rows, cols) = np.pad(blocks, AROUND // 2), blocks.shape
    down = sum(padded[step : step + rows] for step in range(1, AROUND)) + padded[:rows]
    return sum(down[:, step : step + cols] for step in range(1, AROUND)) + down[:, :cols]
