"""Connected pixels, found by runs: hot pixels side by side in a row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Run(NamedTuple):
    """Hot pixels side by side: columns from ``start`` to before ``stop``."""

    row: int
    start: int
    stop: int


def connected_runs(hot: npt.NDArray[np.bool_]) -> list[list[Run]]:
    """Group hot pixels into components; pixels that touch at a corner are connected.

    Args:
        hot: Shape (H, W).

    Returns:
        The runs of each component from top to bottom and left to right, components in the order of
        their first pixels.
    """
    filled = np.flatnonzero(hot.any(axis=1))
    padded = np.pad(hot[filled], ((0, 0), (1, 1)))
    edges = padded[:, 1:] != padded[:, :-1]
    at, ends = np.divmod(np.flatnonzero(edges), edges.shape[1])
    rows = filled[at[::2]].tolist()  # each run has two edges
    pairs = zip(rows, ends[::2].tolist(), ends[1::2].tolist(), strict=True)
    runs = [Run(*pair) for pair in pairs]
    parents = list(range(len(runs)))
    above = 0  # the first run that may touch the next ones from above
    for number, run in enumerate(runs):
        while _is_over(runs[above], run):
            above += 1
        other = above
        while runs[other].row < run.row and runs[other].start <= run.stop:
            first, second = sorted((_root(parents, other), _root(parents, number)))
            parents[second] = first
            other += 1
    components: dict[int, list[Run]] = {}
    for number, run in enumerate(runs):
        components.setdefault(_root(parents, number), []).append(run)
    return list(components.values())


def _is_over(above: Run, run: Run) -> bool:
    """Whether no run from here on can touch one that lies above."""
    if above.row == run.row:
        return False
    return above.row < run.row - 1 or above.stop < run.start


def _root(parents: list[int], number: int) -> int:
    while parents[number] != number:
        parents[number] = number = parents[parents[number]]
    return number
