"""Tells near copies among images of which each has a mask of its own.

Their tokens and reliefs differ wherever their masks do. So those of one photograph are told by what
it was before it was masked, and frames of one scene by the cells of a coarse grid that lie wholly
within the masks of both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..arrays import Floats
from ..encoder.tokens import PatchTokens
from ..images.identity import of_bytes
from ..images.relief import CELLS, relief_in_cells, still

UNKNOWN = -100.0  # the number of a cell that is not wholly looked at; no relief has it
FEWEST = 24  # cells in common, of which fewer are alike by chance
MARKS, DIGITS = 3, 6  # numbers that tell a photograph, and hexadecimal digits of each
LENGTH = CELLS[0] * CELLS[1] + MARKS
NO_MASK = np.array([UNKNOWN] * (LENGTH - MARKS) + [0.0] * MARKS, dtype=np.float32)


def under_mask(patches: PatchTokens) -> Floats:
    """What is told of an image with a mask of its own, shape (131,); of others :data:`NO_MASK`.

    Returns:
        A number for each cell, of which the mean square of differences is about that of reliefs,
        and three that tell the photograph.
    """
    found = NO_MASK.copy()
    if patches.photograph is None:
        return found
    digest = of_bytes(patches.photograph.encode())
    marks = [digest[n * DIGITS : (n + 1) * DIGITS] for n in range(MARKS)]
    found[-MARKS:] = [int(mark, 16) / 16**DIGITS for mark in marks]  # exact in float32
    if patches.small is not None and patches.overview is None:
        cells = relief_in_cells(patches.small, patches.inside_small)
        found[:-MARKS] = np.nan_to_num(cells.ravel(), nan=UNKNOWN)
    return found


def of_one_photograph(some: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """Whether images are others under another mask, by their numbers, (len(some), len(others))."""
    marks = some[:, None, -MARKS:]
    same = (marks == others[:, -MARKS:]).all(axis=2)
    return same & marks.any(axis=2)


def of_one_scene(some: Floats, others: Floats) -> npt.NDArray[np.bool_]:
    """Whether images are frames of one scene as far as both are looked at."""
    cells = [numbers[:, :-MARKS].astype(np.float64) for numbers in (some, others)]
    (a, a_known), (b, b_known) = (
        (np.where(one == UNKNOWN, 0.0, one), (one != UNKNOWN).astype(np.float64)) for one in cells
    )
    common = a_known @ b_known.T
    squares = a**2 @ b_known.T, a_known @ (b**2).T
    enough = common >= FEWEST
    each = [one / np.maximum(common, 1) for one in (a @ b.T, *squares)]
    return enough & still(each[0], (each[1], each[2]))
