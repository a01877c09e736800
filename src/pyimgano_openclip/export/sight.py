"""How an exported network sees images: from pixels to patch tokens, as the embedder does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Indices, Size
from ..encoder.embedder import OpenCLIPPatchEmbedder
from ..encoder.features import projected, tokens_by_kind
from ..encoder.towers import Request, Tower
from ..encoder.windows import Maps, WindowPlan, mosaic, of_both
from ..maps.spread import spread
from .baked import alone, baked

AT_ONCE = 16  # windows that are seen in one pass; more take memory, fewer a larger graph


class Seen(NamedTuple):
    """Tokens of B images.

    Attributes:
        pooled: Embeddings of the whole images, shape (B, D), if there are any.
        maps: Patch tokens by kind, each of shape (B, rows, cols, D); see :mod:`~..encoder.windows`.
        overview: Tokens of the whole images beside those of windows, (B, rows, cols, D), if the
            detector compares them apart.
    """

    pooled: Tensor | None
    maps: Maps
    overview: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """The tokens that compare images with images."""
        return self.maps["features" if "features" in self.maps else "aligned"]


class Sight(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Sees images at once.

    Args:
        embedder: The embedder of the detector.
        request: What to read from its tower.
        tower: The tower for one canvas; see :mod:`~.baked`.
    """

    def __init__(self, embedder: OpenCLIPPatchEmbedder, request: Request, tower: Tower) -> None:
        super().__init__()
        self.visual = tower.visual  # so that its weights are this module's
        self._tower, self._request = tower, request
        self._neighbourhoods = tuple(embedder.neighbourhoods)
        # Tokens as they leave the tower are compared as they are.
        self._projection = None if request.final else embedder._projection
        for name in ("mean", "std"):
            value = torch.tensor(embedder.loaded.preprocessing[name], dtype=torch.float32)
            self.register_buffer(name, value.view(3, 1, 1))

    def forward(self, images: Tensor) -> Seen:
        """See images: RGB, uint8, shape (B, height, width, 3)."""
        pooled, maps = self._look(self._tower, images, self._request)
        return Seen(pooled, projected(maps, self._projection))

    def _look(
        self, tower: Tower, images: Tensor, request: Request
    ) -> tuple[Tensor | None, dict[str | int, Tensor]]:
        planes = images.permute(0, 3, 1, 2).float() / 255
        output = tower((planes - self.mean) / self.std, request)
        return output.pooled, tokens_by_kind(output, self._neighbourhoods)


class WindowedSight(Sight):
    """Sees images as a whole and through windows; see :mod:`~..encoder.windows`.

    Args:
        embedder: The embedder of the detector.
        request: What to read from its tower.
        tower: The tower for the second canvas, which shows the whole image.
        through: The tower for one window, with the same weights.
        plan: Where the windows lie.
    """

    def __init__(
        self,
        embedder: OpenCLIPPatchEmbedder,
        request: Request,
        tower: Tower,
        through: Tower,
        plan: WindowPlan,
    ) -> None:
        super().__init__(embedder, request, tower)
        self.through = through.visual
        self._through, self._plan = through, plan
        self._side = tuple(np.multiply(plan.side, through.patch_size).tolist())
        starts = [plan.start(number) for number in range(len(plan))]
        self._corners = np.multiply(starts, through.patch_size).tolist()
        self._projection_in_windows = embedder._projection_in_windows
        self._projection_of_overview = embedder._projection_of_overview
        self._apart = embedder.overview_layers is not None
        self._beside = embedder._request_beside_windows(request)

    def forward(self, images: Tensor, whole: Tensor) -> Seen:  # type: ignore[override]
        """See images.

        Args:
            images: RGB, uint8, shape (B, height, width, 3) of the canvas.
            whole: The same images on the second canvas.
        """
        pooled, around = self._look(self._tower, whole, self._beside)
        starts = range(0, len(self._plan), AT_ONCE)
        parts = [self._windows(images, around, first) for first in starts]
        found = {
            kind: _mosaic(self._plan, torch.cat([part[kind] for part in parts], dim=1))
            for kind in around
        }
        if not self._apart:
            return Seen(pooled, found)
        return Seen(pooled, found, projected(around, self._projection_of_overview)["features"])

    def _windows(self, images: Tensor, around: Maps, first: int) -> Maps:
        """Tokens of the next windows by kind, each of shape (B, windows, rows, cols, D).

        Joined with what the whole image has there, and projected, before those of all windows are
        put together, which saves memory.
        """
        numbers, (height, width) = range(len(self._plan))[first : first + AT_ONCE], self._side
        corners = [self._corners[number] for number in numbers]
        cut = [images[:, top : top + height, left : left + width] for top, left in corners]
        _, maps = self._look(self._through, torch.stack(cut, dim=1).flatten(0, 1), self._request)
        both = {}
        for kind, tokens in maps.items():
            both[kind] = near = tokens.unflatten(0, (-1, len(cut)))
            if self._apart:
                continue
            far = _beside(self._plan, numbers, around[kind], tokens.shape[1:3])
            both[kind] = of_both(kind, near, far)
        return projected(both, self._projection_in_windows(around))


def build_sight(embedder: OpenCLIPPatchEmbedder, canvas: Size, request: Request) -> Sight:
    """How a detector's images are seen on its canvas."""
    tower, plan = alone(embedder.tower), embedder.canvases.windows(canvas)
    whole, *windows = (baked(tower, size, request.positions) for size in sides(embedder, canvas))
    if plan is None:
        return Sight(embedder, request, whole)
    return WindowedSight(embedder, request, whole, windows[0], plan)


def sides(embedder: OpenCLIPPatchEmbedder, canvas: Size) -> list[Size]:
    """(height, width) of what the tower sees at once: the whole image and, if any, a window."""
    plan = embedder.canvases.windows(canvas)
    if plan is None:
        return [canvas]
    (rows, cols), (height, width) = plan.side, embedder.tower.patch_size
    return [embedder.canvases.whole(canvas), (rows * height, cols * width)]


def _mosaic(plan: WindowPlan, tokens: Tensor) -> Tensor:
    """Tokens of the canvas, (B, rows, cols, D), of those of all windows (B, W, rows, cols, D)."""
    shape = tuple(tokens.shape[1:4])
    numbers = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1)
    found = mosaic(plan, len(plan), lambda each: [{"": numbers[[number]]} for number in each])
    order: Indices = found[""][..., 0].astype(np.int64)
    return tokens.flatten(1, 3)[:, torch.from_numpy(order.ravel())].unflatten(1, order.shape)


def _beside(plan: WindowPlan, numbers: Sequence[int], whole: Tensor, shape: Size) -> Tensor:
    """:meth:`~.WindowPlan.beside` of windows by their numbers: (B, windows, rows, cols, D)."""
    places = zip(*(divmod(number, len(plan.right)) for number in numbers), strict=True)
    down, right = (
        torch.from_numpy(
            np.stack([spread(old, axis.length, 0.0)[axis.first(n) :][: axis.side] for n in at])
        )
        for axis, old, at in zip(plan._axes(shape), whole.shape[1:3], places, strict=True)
    )
    wide = right[:, None] @ whole[:, None]  # (B, windows, rows of the whole image, cols, D)
    return (down @ wide.flatten(3)).unflatten(3, (shape[1], -1))
