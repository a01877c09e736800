"""Selects a coreset: greedy k-center on a random projection (PatchCore, Roth et al., CVPR 2022).

Each step keeps the token farthest from those already kept. Distances only shrink, so the farthest
of a few hundred candidates is the farthest of all as long as it is farther than every other token.
Whole groups of tokens are found this way and compared with all tokens in one matrix product, which
selects the same tokens as one step at a time, but many times faster.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices
from ..progress import bar

DIMENSION = 128  # of the random projection
CANDIDATES = 512  # tokens among which the next ones are selected
BLOCK = 2048  # tokens compared at once


class Coreset(NamedTuple):
    """A selection of tokens that covers all of them.

    Attributes:
        kept: Indices of the kept tokens, ascending, shape (K,).
        owner: Index in ``kept`` of the nearest kept token for each token, shape (N,).
        distance: Euclidean distance to that one on the projection, shape (N,), float32.
    """

    kept: Indices
    owner: Indices
    distance: Floats

    @property
    def radius(self) -> float:
        """Covering radius: the largest distance from a token to its nearest kept one."""
        return float(self.distance.max())


def project(tokens: npt.NDArray[Any], seed: int) -> Floats:
    """Project tokens to 128 dimensions, approximately preserving Euclidean distances.

    Args:
        tokens: Shape (N, D), float16 or float32; not projected if D is at most 128.
        seed: Seed of the projection.

    Returns:
        Shape (N, 128) or (N, D), float32.
    """
    if tokens.shape[1] <= DIMENSION:
        return tokens.astype(np.float32)
    matrix = _matrix(tokens.shape[1], seed)
    points = np.empty((len(tokens), DIMENSION), dtype=np.float32)
    for start in range(0, len(tokens), BLOCK):
        part = tokens[start : start + BLOCK].astype(np.float32, copy=False)
        np.matmul(part, matrix, out=points[start : start + BLOCK])
    return points


@lru_cache(maxsize=4)
def _matrix(width: int, seed: int) -> Floats:
    matrix = np.random.default_rng(seed).standard_normal((width, DIMENSION))
    return (matrix / np.sqrt(DIMENSION)).astype(np.float32)


def k_center(points: Floats, size: int, seed: int) -> Coreset:
    """Greedy k-center: each kept point is the farthest from those kept before it.

    With the same seed, a larger ``size`` keeps the same points and more, so the covering radius
    never grows with it. It is at most twice the smallest possible radius (Gonzalez, 1985).

    Args:
        points: Shape (N, D), float32.
        size: Number of points to keep, from 1 to N.
        seed: Seed of the first point.
    """
    cover = _Cover(points)
    fresh = np.random.default_rng(seed).integers(len(points), size=1)
    with bar("thinning the memory bank", "patch", total=size) as progress:
        while True:
            cover.add(fresh)
            progress.update(len(fresh))
            if len(cover.chosen) == size:
                return cover.coreset()
            fresh = _next_farthest(cover, size - len(cover.chosen))


class _Cover:
    """Squared distances of all points to the nearest point chosen so far.

    Those of chosen points are not looked at again.
    """

    def __init__(self, points: Floats) -> None:
        self.points = points
        self.chosen: list[int] = []
        self.squared = np.full(len(points), np.inf, dtype=np.float32)
        self.owner = np.zeros(len(points), dtype=np.int64)
        self._length = _squared_length(points)
        self._others = np.arange(len(points))

    def add(self, fresh: Indices) -> None:
        """Choose more points."""
        self.owner[fresh] = np.arange(len(fresh)) + len(self.chosen)
        self.squared[fresh] = -1  # below all distances: never chosen again
        self._others = self._others[self.squared[self._others] >= 0]
        self.compare(self.points[fresh], len(self.chosen))
        self.chosen.extend(fresh.tolist())

    def compare(self, centers: Floats, first: int) -> None:
        """Update the distances with centers whose indices start at ``first``."""
        length = _squared_length(centers)
        twice = -2 * centers.T
        for start in range(0, len(self._others), BLOCK):
            part = self._others[start : start + BLOCK]
            away = self.points[part] @ twice
            away += length
            closest = np.maximum(away.min(axis=1) + self._length[part], 0)
            closer = np.flatnonzero(closest < self.squared[part])
            self.squared[part[closer]] = closest[closer]
            self.owner[part[closer]] = away[closer].argmin(axis=1) + first

    def coreset(self) -> Coreset:
        order = np.argsort(self.chosen)
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        return Coreset(
            kept=np.array(self.chosen, dtype=np.int64)[order],
            owner=position[self.owner],
            distance=np.sqrt(np.maximum(self.squared, 0)),
        )


def _next_farthest(cover: _Cover, most: int) -> Indices:
    """Next points of the greedy selection, as many as are known without all distances."""
    squared, n = cover.squared, len(cover.points)
    candidates, least = np.arange(n), np.float32(-np.inf)
    if n > CANDIDATES:
        order = np.argpartition(squared, n - CANDIDATES - 1)
        candidates, least = order[n - CANDIDATES :], squared[order[n - CANDIDATES - 1]]
        candidates.sort()
    points = cover.points[candidates]
    length = _squared_length(points)
    between = length[:, None] + length[None, :] - 2 * (points @ points.T)
    gap = squared[candidates].copy()
    taken: list[int] = []
    while len(taken) < most:
        farthest = int(gap.argmax())
        if taken and gap[farthest] < least:
            break
        taken.append(farthest)
        np.minimum(gap, between[farthest], out=gap)
        gap[farthest] = -np.inf
    return candidates[taken]


def _squared_length(points: Floats) -> Floats:
    return np.einsum("nd,nd->n", points, points)
