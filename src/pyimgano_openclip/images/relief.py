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
CELLS = 8, 16  # rows and columns
SMALLEST = 1e-9  # of products of lengths, below all of reliefs that are known
# Difference of reliefs in grey levels, and correlation. With the bundled tower frames with noise of
# 2 and 5 grey levels differed by 0.19 and 0.44, as a JPEG of quality 75 by 0.34, and correlated by
# 0.93 or more; of different images the closest differed by 0.78 (solar cells) and 1.0
# (`python tests/benchmarks/copies.py`). Towers that see more pixels are surer.
STILL, CORRELATED = 0.55, 0.8


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
    found, known = _heights(small, inside)
    count = int(np.count_nonzero(known))
    return found / np.float32(math.sqrt(count)) if count >= FEWEST else np.zeros_like(found)


def relief_in_cells(small: npt.NDArray[np.uint8], inside: Inside | None = None) -> Floats:
    """The relief in the cells of a coarse grid, whatever of the image is looked at beside them.

    Args:
        small: As for :func:`relief_of`.
        inside: As for :func:`relief_of`.

    Returns:
        Shape (8, 16): of the blocks of each cell the sum with random signs, always the same ones,
        scaled so that the square is about the mean square. NaN for cells without blocks, or too
        near to what is not looked at to be as they are in the whole image.
    """
    found, known = _heights(small, inside)
    disturbed = _around((~known).astype(np.float32), AROUND + 2) > 0
    places = [
        np.arange(side) * cells // side for side, cells in zip(found.shape, CELLS, strict=True)
    ]
    cell = (places[0][:, None] * CELLS[1] + places[1]).ravel()
    signs = np.random.default_rng(0).integers(0, 2, found.shape) * 2 - 1
    blocks, bad, sums = (
        np.bincount(cell, weights, math.prod(CELLS))
        for weights in (None, disturbed.ravel(), (signs * found).ravel())
    )
    sound = (blocks > 0) & (bad == 0)
    numbers = np.where(sound, sums / np.sqrt(np.maximum(blocks, 1)), np.nan)
    return numbers.reshape(CELLS).astype(np.float32)


def still(
    products: npt.NDArray[np.float64],
    squares: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> npt.NDArray[np.bool_]:
    """Whether reliefs differ by noise and by how bright the light is.

    Args:
        products: Mean products of the reliefs of pairs of images, shape (N, M).
        squares: Mean squares of either, which broadcast to it.
    """
    alike = products / np.maximum(np.sqrt(squares[0] * squares[1]), SMALLEST)
    apart = (1 - alike**2) * np.minimum(*squares)
    return (alike > CORRELATED) & (apart < STILL**2)


def _heights(
    small: npt.NDArray[np.uint8], inside: Inside | None
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Each block less those around it, 0 if it is not looked at; and which ones are."""
    grey = grey_of(small)
    blocks = in_blocks(grey if inside is None else np.where(inside, grey, np.float32(np.nan)))
    known = ~np.isnan(blocks)
    total = _around(np.where(known, blocks, np.float32(0)))
    beside = np.maximum(_around(known.astype(np.float32)), 1)
    return np.where(known, blocks - total / beside, np.float32(0)), known


def _around(blocks: Floats, side: int = AROUND) -> Floats:
    """The sum of each block and those around it."""
    padded, (rows, cols) = np.pad(blocks, side // 2), blocks.shape
    down = sum(padded[step : step + rows] for step in range(1, side)) + padded[:rows]
    return sum(down[:, step : step + cols] for step in range(1, side)) + down[:, :cols]
