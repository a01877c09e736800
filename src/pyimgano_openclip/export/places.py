"""Where an exported network looks: the same patches and pixels of all images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Size
from ..images.areas import Inside
from ..maps.spread import NOWHERE, spread


class Places(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The patches that are looked at.

    Args:
        inside: Which ones, shape (rows, cols); None for all.
    """

    def __init__(self, inside: Inside | None = None) -> None:
        super().__init__()
        self.inside = inside
        if inside is not None:
            looked = torch.from_numpy(inside.ravel().copy())
            self.register_buffer("places", looked.nonzero()[:, 0])
            # Each patch's place among those; one behind the last for all others.
            order = torch.where(looked, looked.cumsum(0) - 1, looked.sum())
            self.register_buffer("order", order)

    def take(self, tokens: Tensor) -> Tensor:
        """Of (B, rows, cols, ...) those that are looked at, (B, P, ...)."""
        flat = tokens.flatten(1, 2)
        return flat if self.inside is None else flat[:, self.places]

    def put(self, scores: Tensor, grid: Size, missing: float) -> Tensor:
        """Scores (B, P) on the grid, (B, rows, cols), with a value for all others."""
        if self.inside is not None:
            last = torch.full_like(scores[:, :1], missing)
            scores = torch.cat([scores, last], dim=1)[:, self.order]
        return scores.unflatten(1, grid)


class Spread(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """From patch scores to maps, as :func:`~..maps.scores.anomaly_map`.

    Args:
        grid: (rows, cols) of patches.
        canvas: (height, width) of maps in pixels.
        smoothing: Standard deviation of the Gaussian in patches; 0 for none.
        inside: Patches that are looked at; None for all.
        pixels: Pixels that are looked at, shape (height, width); None for all.
    """

    def __init__(
        self,
        grid: Size,
        canvas: Size,
        smoothing: float,
        inside: Inside | None = None,
        pixels: Inside | None = None,
    ) -> None:
        super().__init__()
        self.grid = grid
        for name, count, side in zip(("down", "right"), grid, canvas, strict=True):
            self.register_buffer(name, torch.from_numpy(spread(count, side, smoothing).copy()))
        looked = None if pixels is None else torch.from_numpy(pixels.copy())
        self.register_buffer("weight", None)
        if inside is not None:
            weight = self._spread(torch.from_numpy(inside.astype(np.float32)))
            seen = weight > NOWHERE
            self.weight = torch.where(seen, weight, 1.0)
            looked = seen if looked is None else looked & seen
        self.register_buffer("looked", looked)

    def forward(self, patches: Tensor) -> Tensor:
        """Maps (B, height, width) by patch scores (B, rows, cols), 0 where is not looked."""
        found = self._spread(patches)
        if self.weight is not None:
            found = found / self.weight
        if self.looked is not None:
            lowest = torch.where(self.looked, found, 0.0).amin(dim=(1, 2), keepdim=True)
            found = torch.where(self.looked, found, lowest)
        return found

    def _spread(self, patches: Tensor) -> Tensor:
        return self.down @ (patches @ self.right.T)
