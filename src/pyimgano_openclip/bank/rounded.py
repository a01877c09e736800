"""Finds nearest rows by products in bfloat16, and computes in float32 what may be among them.

Where the hardware multiplies bfloat16 numbers, that takes a quarter of the time. What rounding can
cost a similarity is bounded, so that the rows left to compute in float32 are sure to hold the
nearest ones: with what rounding took off a query q and a row c, of which q' and c' are left,
|q c - q' c'| <= |q - q'| |c| + |q'| |c - c'| (Cauchy and Schwarz), and the sum is rounded once
more. The mean row is taken off all rows before, which shortens them and changes no order.
"""

from __future__ import annotations

import numpy as np
import torch

from ..arrays import Floats, Indices
from ..encoder.neutral import neutral
from .blocks import FEW, Exact, Found, Rows, Wanted, overlap, shared

ULP = 2.0**-8  # relative error of rounding to bfloat16
MOST = 16  # candidates per query, up to which computing them is faster than a product in float32
GROUP = 64  # rows of which only the nearest is looked at for a first bound
STEP = 65_536  # rows prepared at once


class RoundedFirst:
    """Compares in bfloat16 first; finds what :class:`~.blocks.Exact` finds, up to 1e-6.

    It holds the rows a second time, in bfloat16.

    Args:
        rows: Unit-length tokens, shape (N, D), float16 or float32.
        exact: Used for blocks in which too many rows are too alike, and for many neighbours.
    """

    def __init__(self, rows: Rows, exact: Exact) -> None:
        self._rows, self._exact = rows, exact
        self._mean = rows.mean(axis=0, dtype=np.float32)
        self._longest = self._loss = 0.0
        with neutral(), torch.inference_mode():
            self._stored = torch.empty(rows.shape, dtype=torch.bfloat16)
            for start in range(0, len(rows), STEP):
                part = rows[start : start + STEP].astype(np.float32) - self._mean
                stored = self._stored[start : start + STEP].copy_(torch.from_numpy(part))
                self._longest = max(self._longest, _length(part).max())
                self._loss = max(self._loss, _length(part - stored.float().numpy()).max())

    def __call__(self, wanted: Wanted, start: int, stop: int) -> Found:
        """Find rows in a block; see :class:`~.blocks.Look`."""
        if wanted.count > FEW or stop - start < GROUP * wanted.count:
            return self._exact(wanted, start, stop)
        similarity, doubt = self._rounded(wanted.queries, start, stop)
        for own in wanted.hidden:
            similarity[:, overlap(own, start, stop)] = -np.inf
        least = self._least(wanted, similarity, doubt)
        query, place = np.nonzero(similarity >= _lowered(least, doubt)[:, None])
        if len(query) > MOST * len(similarity):
            return self._exact(wanted, start, stop)
        return self._computed(wanted, query, place + start)

    def _rounded(self, queries: Floats, start: int, stop: int) -> tuple[Floats, Floats]:
        """Similarities with the rows less their mean, (P, N), and what may be wrong with them."""
        with neutral(), torch.inference_mode():
            exact = shared(queries)
            asked = exact.bfloat16()
            similarity = (asked @ self._stored[start:stop].T).float().numpy()
            lost, left = ((exact - asked.float()).numpy(), asked.float().numpy())
        return similarity, _length(lost) * self._longest + _length(left) * self._loss

    def _least(self, wanted: Wanted, similarity: Floats, doubt: Floats) -> Floats:
        """A similarity with the rows less their mean that the nearest rows have at least, (P,)."""
        whole = similarity.shape[1] // GROUP * GROUP
        groups = similarity[:, :whole].reshape(len(similarity), -1, GROUP).max(axis=2)
        least = _lowered(np.partition(groups, -wanted.count, axis=1)[:, -wanted.count], doubt)
        if wanted.least is None:
            return least
        return np.maximum(least, wanted.least - wanted.queries @ self._mean)

    def _computed(self, wanted: Wanted, query: Indices, row: Indices) -> Found:
        """The nearest of some pairs of queries and rows, sorted by query and row."""
        rows = self._rows[row].astype(np.float32, copy=False)
        found = (wanted.queries[query] * rows).sum(axis=1)  # NumPy sums in pairs
        order = np.lexsort((-found, query))
        query, row, found = query[order], row[order], found[order]
        rank = np.arange(len(query)) - np.searchsorted(query, query)
        best = rank < wanted.count
        similarity = np.full((len(wanted.queries), wanted.count), -np.inf, dtype=np.float32)
        similarity[query[best], rank[best]] = found[best]
        index = np.zeros(similarity.shape, dtype=np.int64)
        index[query[best], rank[best]] = row[best]
        return similarity, index


def _lowered(similarity: Floats, doubt: Floats) -> Floats:
    """What a similarity is at least, or may be rounded to at least, if it may be off by so much."""
    with np.errstate(invalid="ignore"):
        lowered: Floats = similarity - doubt - ULP * (np.abs(similarity) + doubt)
    return lowered


def _length(vectors: Floats) -> Floats:
    length: Floats = np.linalg.norm(vectors, axis=-1)
    return length
