"""Scores by comparing patch tokens with stored ones, as torch modules to be traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..arrays import Floats
from ..maps.scores import Aggregation, count_of
from .places import Places
from .sight import Seen

ROWS = 4096  # of the bank, compared at once
SIMILARITIES = 2**25  # of an image, held at once; 128 MiB


class Scored(NamedTuple):
    """Scores of a batch of B images.

    Attributes:
        image: Image scores, shape (B,).
        patches: Scores of the P patches that are looked at, shape (B, P).
        defects: Cosines of the whole image with each named defect over the temperature, shape
            (B, K), if there are any.
    """

    image: Tensor
    patches: Tensor
    defects: Tensor | None = None


class ImageScore(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Aggregates patch scores as :func:`~..maps.scores.image_score` does.

    Args:
        method: See there.
        topk: See there.
    """

    def __init__(self, method: Aggregation, topk: float | None) -> None:
        super().__init__()
        self._method, self._topk = method, topk

    def forward(self, patches: Tensor) -> Tensor:
        """Aggregate (B, P) to (B,)."""
        if self._method == "max":
            return patches.amax(dim=1)
        if self._method == "mean":
            return patches.mean(dim=1)
        count = count_of(self._topk, patches.shape[1])
        return patches.topk(count, dim=1).values.mean(dim=1)


class NearestScoring(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Patch scores by distance to the rows of a memory bank.

    Args:
        search: The rows.
        aggregation: See :class:`ImageScore`.
        places: The patches that are looked at.
    """

    def __init__(self, search: BlockSearch, aggregation: ImageScore, places: Places) -> None:
        super().__init__()
        self.search, self.aggregation, self.places = search, aggregation, places

    def forward(self, seen: Seen) -> Scored:
        """Score a batch by its tokens."""
        patches = self.search(self.places.take(seen.features))
        return Scored(self.aggregation(patches), patches)


class BlockSearch(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Mean cosine distance to the nearest rows, found by products with blocks of them.

    Args:
        rows: Unit-length tokens, shape (N, D).
        count: Number of rows to average over, at most N.
    """

    def __init__(self, rows: npt.NDArray[Any], count: int) -> None:
        super().__init__()
        self._count, self._blocks = count, -(-len(rows) // ROWS)
        self._zeros = min(count, int((~rows.any(axis=1)).sum()))
        for number in range(self._blocks):
            block: Floats = rows[number * ROWS : (number + 1) * ROWS].astype("float32")
            self.register_buffer(f"rows_{number}", torch.from_numpy(block.T.copy()))

    def forward(self, queries: Tensor) -> Tensor:
        """Distances in [0, 2] of tokens of shape (B, P, D): (B, P)."""
        return _in_parts(self._search, queries, self.rows_0.shape[1])

    def _search(self, queries: Tensor) -> Tensor:
        blocks = [getattr(self, f"rows_{number}") for number in range(self._blocks)]
        best = torch.cat([self._highest(queries @ block) for block in blocks], dim=-1)
        if self._blocks > 1:
            best = self._highest(best)
        if self._zeros:  # a zero token has the distance 0 to itself, see MemoryBank
            blank = ~(queries != 0).any(dim=-1, keepdim=True)
            first = torch.arange(self._count) < self._zeros
            best = torch.where(blank & first, 1.0, best)
        return (1 - best.mean(dim=-1)).clamp(0, 2)

    def _highest(self, similarity: Tensor) -> Tensor:
        if self._count == 1:
            return similarity.amax(dim=-1, keepdim=True)
        return similarity.topk(min(self._count, similarity.shape[-1]), dim=-1).values


class EachSearch(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Cosine distance to the nearest patch of each of K images.

    Args:
        images: Unit-length tokens of each, shape (Q, D); Q may differ.
    """

    def __init__(self, images: Sequence[Floats]) -> None:
        super().__init__()
        most = max(len(rows) for rows in images)
        each, self._most = max(1, ROWS // most), most
        # Images with fewer patches have their first one again, which changes no distance.
        places = np.arange(most)
        filled = [rows[np.where(places < len(rows), places, 0)] for rows in images]
        blocks = [filled[first : first + each] for first in range(0, len(filled), each)]
        self._blocks = len(blocks)
        for number, block in enumerate(blocks):
            rows = np.concatenate(block).astype(np.float32).T
            self.register_buffer(f"rows_{number}", torch.from_numpy(rows.copy()))
        blank = np.array([not rows.any(axis=1).all() for rows in images])
        self.register_buffer("blank", torch.from_numpy(blank) if blank.any() else None)

    def forward(self, queries: Tensor) -> Tensor:
        """Distances in [0, 2] of tokens of shape (B, P, D): (B, P, K)."""
        return _in_parts(self._search, queries, self.rows_0.shape[1])

    def _search(self, queries: Tensor) -> Tensor:
        blocks = [queries @ getattr(self, f"rows_{number}") for number in range(self._blocks)]
        best = [found.unflatten(-1, (-1, self._most)).amax(dim=-1) for found in blocks]
        highest = torch.cat(best, dim=-1)
        if self.blank is not None:  # patches without any token are equal, see products.py
            nothing = ~(queries != 0).any(dim=-1, keepdim=True)
            highest = torch.where(nothing & self.blank, 1.0, highest)
        return (1 - highest).clamp(0, 2)


def _in_parts(search: Callable[[Tensor], Tensor], queries: Tensor, rows: int) -> Tensor:
    """Search for some patches at a time, (B, P, D) in all, so that the similarities stay few."""
    most = max(1, SIMILARITIES // rows)
    return torch.cat([search(part) for part in queries.split(most, dim=1)], dim=1)
