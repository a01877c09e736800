"""Finds nearest rows by products in bfloat16, and computes in float32 what may be among them.

Where the hardware multiplies bfloat16 numbers, that takes less than half of the time. What rounding
can cost a similarity is bounded, so that the rows left to compute in float32 are sure to hold the
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
MOST = 64  # candidates per query, up to which computing them is faster than a product in float32
GROUP = 64  # rows of which first only the nearest is looked at
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
        """Find rows in a block; see :class:`~.blocks.Finder`."""
        if wanted.count > FEW or stop - start < GROUP * wanted.count:
            return self._exact(wanted, start, stop)
        with neutral(), torch.inference_mode():
            query, row = self._candidates(wanted, start, stop)
        if len(query) > min(MOST, (stop - start) // GROUP) * len(wanted.queries):
            return self._exact(wanted, start, stop)
        return self._computed(wanted, query, row + start)

    def _candidates(self, wanted: Wanted, start: int, stop: int) -> tuple[Indices, Indices]:
        """Queries and rows of a block, by their index in it, that may be nearest to each other.

        Where too many groups of rows may hold nearest ones, the groups stand for their rows.
        """
        asked = shared(wanted.queries).bfloat16()
        groups = torch.empty((-(-(stop - start) // GROUP), GROUP, len(asked)), dtype=asked.dtype)
        rows = groups.flatten(0, 1)
        torch.mm(self._stored[start:stop], asked.T, out=rows[: stop - start])
        rows[stop - start :] = -torch.inf
        for own in wanted.hidden:
            rows[overlap(own, start, stop)] = -torch.inf
        low, highest = self._lowest(wanted, groups, asked.float().numpy())
        group, query = np.nonzero(highest >= low)
        if len(group) > MOST * len(low):
            return query, group
        inside = groups[torch.from_numpy(group), :, torch.from_numpy(query)].float().numpy()
        pair, place = np.nonzero(inside >= low[query, None])
        return query[pair], group[pair] * GROUP + place

    def _lowest(self, wanted: Wanted, groups: torch.Tensor, asked: Floats) -> tuple[Floats, Floats]:
        """Rounded similarities that nearest rows have at least, (P,), and the highest of groups.

        Args:
            wanted: What is looked for.
            groups: Rounded similarities with groups of rows less their mean, shape (G, 64, P).
            asked: The queries, rounded, shape (P, D).
        """
        doubt = _length(wanted.queries - asked) * self._longest + _length(asked) * self._loss
        # Positive numbers are ordered like their bits, which are compared much faster.
        highest = groups.view(torch.int16).amax(dim=1).view(groups.dtype).float().numpy()
        low = _lowered(self._least(wanted, highest, doubt), doubt)
        if not (low > 0).all():
            highest = groups.amax(dim=1).float().numpy()
            low = _lowered(self._least(wanted, highest, doubt), doubt)
        return low, highest

    def _least(self, wanted: Wanted, highest: Floats, doubt: Floats) -> Floats:
        """A similarity with the rows less their mean that the nearest rows have at least, (P,)."""
        best = highest.max(axis=0)
        if wanted.count > 1:
            best = np.partition(highest, -wanted.count, axis=0)[-wanted.count]
        least = _lowered(best, doubt)
        if wanted.least is None:
            return least
        known = np.einsum("pd,d->p", wanted.queries, self._mean)
        return np.maximum(least, wanted.least - known)

    def _computed(self, wanted: Wanted, query: Indices, row: Indices) -> Found:
        """The nearest of some pairs of queries and rows, of each query sorted by row."""
        rows = self._rows.take(row, axis=0).astype(np.float32, copy=False)
        found = np.einsum("kd,kd->k", wanted.queries.take(query, axis=0), rows)
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
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
