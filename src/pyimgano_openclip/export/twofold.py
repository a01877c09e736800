"""Scores of details and of the whole image together, as torch modules to be traced."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Size
from ..images.areas import Inside
from ..maps.overview import OVERVIEW, POWER
from ..maps.spread import NOWHERE, spread
from .nearest import BlockSearch, ImageScore, Scored
from .places import Places
from .sight import Seen


class TwofoldScoring(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Patch scores by distance to the rows of two banks; see :mod:`~..maps.overview`.

    Args:
        details: The rows of patches that are seen through windows.
        overview: Those of patches of images seen at once.
        aggregation: See :class:`~.nearest.ImageScore`.
        places: The patches of the details that are looked at.
        finer: From the overview to the grid of the details.
        unit: What image scores by the overview are multiplied by.
    """

    def __init__(
        self,
        details: BlockSearch,
        overview: BlockSearch,
        aggregation: ImageScore,
        places: Places,
        finer: Finer,
        unit: float,
    ) -> None:
        super().__init__()
        self.details, self.overview, self.aggregation = details, overview, aggregation
        self.places, self.finer, self._unit = places, finer, unit

    def forward(self, seen: Seen) -> Scored:
        """Score a batch by its tokens."""
        details = self.details(self.places.take(seen.features))
        overview = self.overview(self.finer.places.take(cast(Tensor, seen.overview)))
        image = self.aggregation(details) ** POWER
        image = image + (self._unit * self.aggregation(overview)) ** POWER
        beside = self.places.take(self.finer(overview))
        return Scored(image ** (1 / POWER), (1 - OVERVIEW) * details + OVERVIEW * beside)


class Finer(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Interpolates scores of the overview to the grid of the details; see :mod:`~..maps.overview`.

    Args:
        grid: (rows, cols) of patches of the overview.
        fine: The same of the details.
        inside: Patches of the overview that are looked at, shape (rows, cols); None for all.
    """

    def __init__(self, grid: Size, fine: Size, inside: Inside | None) -> None:
        super().__init__()
        self.places, self._grid = Places(inside), grid
        for name, old, new in zip(("down", "right"), grid, fine, strict=True):
            self.register_buffer(name, torch.from_numpy(spread(old, new, 0.0).copy()))
        self.register_buffer("weight", None)
        if inside is not None:
            self.weight = self._spread(torch.from_numpy(inside.astype(np.float32)))

    def forward(self, scores: Tensor) -> Tensor:
        """Scores (B, P) on the grid of the details, (B, rows, cols)."""
        found = self._spread(self.places.put(scores, self._grid, 0.0))
        if self.weight is None:
            return found
        near = self.weight > NOWHERE
        mean = scores.mean(dim=1)[:, None, None]
        return torch.where(near, found / torch.where(near, self.weight, 1.0), mean)

    def _spread(self, patches: Tensor) -> Tensor:
        return self.down @ (patches @ self.right.T)
