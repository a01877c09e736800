"""Compares queries with a block of a bank's rows on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices

FEW = 16  # neighbours, up to which repeated argmax is the fastest

Rows: TypeAlias = npt.NDArray[Any]  # (N, D), float16 or float32
Found: TypeAlias = tuple[Floats, Indices]  # similarities and rows, both (P, count), best first
Hidden: TypeAlias = Sequence[range]  # rows that are skipped
Product: TypeAlias = Callable[[Floats, Floats], Floats]  # similarities, (P, N)


@dataclass(frozen=True)
class Wanted:
    """What is looked for in a block.

    Attributes:
        queries: Unit-length queries, shape (P, D).
        count: Number of rows to find.
        hidden: Ranges of rows to skip.
        least: Similarity that a row must exceed to count at all, shape (P,); None for any.
    """

    queries: Floats
    count: int
    hidden: Hidden
    least: Floats | None


class Finder(Protocol):
    """Finds the nearest rows within a block."""

    def __call__(self, wanted: Wanted, start: int, stop: int) -> Found:
        """Similarities and rows, both (P, K) with K of at most ``count``, best first.

        Where fewer rows count, the similarity is minus infinity.
        """


class Exact:
    """Compares in float32.

    Args:
        rows: Unit-length tokens, shape (N, D), float16 or float32.
        product: Computes the similarities.
    """

    def __init__(self, rows: Rows, product: Product) -> None:
        self._rows, self._product = rows, product

    def __call__(self, wanted: Wanted, start: int, stop: int) -> Found:
        """Find rows in a block; see :class:`Finder`."""
        block = self._rows[start:stop].astype(np.float32, copy=False)
        similarity = self._product(wanted.queries, block)
        for own in wanted.hidden:
            similarity[:, overlap(own, start, stop)] = -np.inf
        best, place = highest(similarity, wanted.count)
        return best, place + start


def product(queries: Floats, rows: Floats) -> Floats:
    """Similarities by NumPy."""
    return queries @ rows.T


def torch_product(queries: Floats, rows: Floats, device: str = "cpu") -> Any:
    """The same with the threads of the tower, with which NumPy's own would compete.

    Args:
        queries: Shape (P, D).
        rows: Shape (N, D).
        device: That of the tower.

    Returns:
        An array on the CPU, of which NumPy finds the highest: in torch that takes a tenth of the
        time of the product. A tensor on another device.
    """
    import torch

    from ..encoder.neutral import neutral

    with neutral(device), torch.inference_mode():
        similarity = shared(queries).to(device) @ shared(rows).to(device).T
        return similarity.numpy() if device == "cpu" else similarity


def shared(array: Rows) -> Any:
    """A tensor of the same memory; of a copy, if it is read-only, since torch would warn."""
    import torch

    return torch.from_numpy(np.require(array, requirements="W"))


def nothing(queries: int) -> Found:
    """What is found before the first block."""
    return np.empty((queries, 0), dtype=np.float32), np.empty((queries, 0), dtype=np.int64)


def best_of(one: Found, other: Found, count: int) -> Found:
    """The best of two findings, at most ``count`` for each query."""
    similarity: Floats = np.concatenate([one[0], other[0]], axis=1)
    rows: Indices = np.concatenate([one[1], other[1]], axis=1)
    if similarity.shape[1] > count:
        similarity, place = highest(similarity, count)
        rows = np.take_along_axis(rows, place, axis=1)
    return similarity, rows


def highest(similarity: Floats, count: int) -> Found:
    """Find the highest values of each row and their indices, best first; overwrites the values."""
    count = min(count, similarity.shape[1])
    if count > FEW:
        place = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarity, place, axis=1), axis=1, kind="stable")
        place = np.take_along_axis(place, order, axis=1)
        return np.take_along_axis(similarity, place, axis=1), place.astype(np.int64)
    best = np.empty((len(similarity), count), dtype=np.float32)
    place = np.empty((len(similarity), count), dtype=np.int64)
    each = np.arange(len(similarity))
    for rank in range(count):
        place[:, rank] = similarity.argmax(axis=1)
        best[:, rank] = similarity[each, place[:, rank]]
        similarity[each, place[:, rank]] = -np.inf
    return best, place


def overlap(hidden: range, start: int, stop: int) -> slice:
    """The hidden rows within a block, relative to its start."""
    first = min(max(hidden.start, start), stop)
    last = max(min(hidden.stop, stop), first)
    return slice(first - start, last - start)
