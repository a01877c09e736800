"""Connected pixels, found by runs: lit pixels side by side in a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arrays import Indices, Size

Lit: TypeAlias = npt.NDArray[np.bool_]  # of pixels (H, W) or of runs (R,)


class Run(NamedTuple):
    """Lit pixels side by side: columns from ``start`` to before ``stop``."""

    row: int
    start: int
    stop: int


@dataclass(frozen=True)
class Runs:
    """All R runs of an image, row by row.

    Attributes:
        rows: Their rows, shape (R,).
        starts: Their first columns, shape (R,).
        stops: The columns behind their last ones, shape (R,).
    """

    rows: Indices
    starts: Indices
    stops: Indices

    @classmethod
    def of(cls, lit: Lit) -> Runs:
        """Those of pixels (H, W)."""
        filled = np.flatnonzero(lit.any(axis=1))
        padded = np.pad(lit[filled], ((0, 0), (1, 1)))
        edges = padded[:, 1:] != padded[:, :-1]
        at, ends = np.divmod(np.flatnonzero(edges), edges.shape[1])
        return cls(filled[at[::2]], ends[::2], ends[1::2])  # each run has two edges

    def components(self) -> Indices:
        """The first run of the component of each; pixels that touch at a corner are connected."""
        first = np.arange(len(self.rows))
        left, right = self._touching()
        while len(left):
            roots = np.sort([first[left], first[right]], axis=0)
            apart = roots[0] != roots[1]
            left, right = left[apart], right[apart]
            np.minimum.at(first, roots[1][apart], roots[0][apart])
            while (first != (nearer := first[first])).any():
                first = nearer
        return first

    def pixels(self, size: Size) -> Lit:
        """What they light of an image of (height, width)."""
        flips = np.zeros((size[0], size[1] + 1), np.uint8)
        flips[self.rows, self.starts] = flips[self.rows, self.stops] = 1
        return between(flips)

    def only(self, which: Lit) -> Runs:
        """Some of them, told by booleans (R,)."""
        return Runs(self.rows[which], self.starts[which], self.stops[which])

    def _touching(self) -> tuple[Indices, Indices]:
        """Indices of runs, and of those in the row above that touch them."""
        if not len(self.rows):
            return self.rows, self.rows
        row = self.rows * (self.stops.max() + 1)  # so that places of all rows are in order
        above = row - (self.stops.max() + 1)
        first = np.searchsorted(row + self.stops, above + self.starts)
        last = np.searchsorted(row + self.starts, above + self.stops, side="right")
        counts = np.maximum(last - first, 0)
        run = np.repeat(np.arange(len(row)), counts)
        within = np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
        return run, first[run] + within


def between(flips: npt.NDArray[np.uint8]) -> Lit:
    """The pixels (H, W) from each odd flip of a row to before the next, flips (H, W + 1)."""
    return np.bitwise_xor.accumulate(flips[:, :-1], axis=1).view(np.bool_)


def connected_runs(hot: Lit) -> list[list[Run]]:
    """Group hot pixels into components; pixels that touch at a corner are connected.

    Args:
        hot: Shape (H, W).

    Returns:
        The runs of each component from top to bottom and left to right, components in the order of
        their first pixels.
    """
    runs = Runs.of(hot)
    components: dict[int, list[Run]] = {}
    each = map(Run, runs.rows.tolist(), runs.starts.tolist(), runs.stops.tolist())
    for first, run in zip(runs.components().tolist(), each, strict=True):
        components.setdefault(first, []).append(run)
    return list(components.values())
