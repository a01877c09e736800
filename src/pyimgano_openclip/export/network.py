"""The whole way of an image through a detector as one torch module, to be traced.

Pixels on the canvas -> patch tokens -> patch scores -> image score, label and map. Written in
operations that mean the same in ONNX: products instead of distances, no interpolation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..arrays import Floats
from ..bank.limits import FAR
from ..encoder.towers import Request, Tower, TowerOutput
from ..maps.scores import Aggregation, count_of
from ..maps.spread import spread
from ..prompts.scorer import TEMPERATURE, PromptScorer
from .portraits import PortraitDistance

ROWS = 4096  # of the bank, compared at once


class Scored(NamedTuple):
    """Scores of a batch of B images.

    Attributes:
        image: Image scores, shape (B,).
        patches: Patch scores, shape (B, rows, cols).
        tokens: The tokens that compare images with images, shape (B, rows, cols, D).
        defects: Cosines of the whole image with each named defect over the temperature, shape
            (B, K), if there are any.
    """

    image: Tensor
    patches: Tensor
    tokens: Tensor
    defects: Tensor | None = None


class Network(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """From pixels on the canvas to everything that a detector tells.

    Args:
        tower: Tower for one canvas; see :mod:`~.baked`.
        preprocessing: Mean and standard deviation that it was trained with.
        request: What to read from it.
        scoring: From its output to :class:`Scored`.
        threshold: Image score above which the label is 1.
        portraits: The training images as a whole; None without any.
    """

    def __init__(
        self,
        tower: Tower,
        preprocessing: dict[str, Any],
        request: Request,
        scoring: nn.Module,
        threshold: float,
        portraits: PortraitDistance | None,
    ) -> None:
        super().__init__()
        self.visual = tower.visual  # so that its weights are this module's
        self.scoring, self.portraits = scoring, portraits
        self._tower, self._request, self._threshold = tower, request, threshold
        for name in ("mean", "std"):
            value = torch.tensor(preprocessing[name], dtype=torch.float32).view(3, 1, 1)
            self.register_buffer(name, value)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Score images.

        Args:
            images: RGB, uint8, shape (B, height, width, 3) of the canvas.

        Returns:
            Image scores (B,), labels (B,) of int64, patch scores (B, rows, cols), maps
            (B, height, width), distances to the training images as a whole (B,), if there are any,
            and what tells the defects, if any are named.
        """
        planes = images.permute(0, 3, 1, 2).float() / 255
        output = self._tower((planes - self.mean) / self.std, self._request)
        scored: Scored = self.scoring(output)
        # In the precision of the threshold; NaN is not below it.
        above, more = ~(scored.image.double() <= self._threshold), list[Tensor]()
        if self.portraits is not None:
            more.append(self.portraits(scored.tokens))
            above = above | ~(more[0] <= FAR)
        if scored.defects is not None:
            more.append(scored.defects)
        maps = _maps(scored.patches, images)
        return scored.image, above.long(), scored.patches, maps, *more


def _maps(patches: Tensor, images: Tensor) -> Tensor:
    (rows, cols), (height, width) = patches.shape[1:], images.shape[1:3]
    down, right = (
        torch.from_numpy(spread(count, pixels).copy())
        for count, pixels in ((rows, height), (cols, width))
    )
    return down @ (patches @ right.T)


class NearestScoring(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Patch scores by distance to the rows of a memory bank.

    Args:
        fuse: From the tower's features to fused tokens (B, rows, cols, D).
        search: The rows.
        aggregation: See :class:`ImageScore`.
    """

    def __init__(self, fuse: Any, search: BlockSearch, aggregation: ImageScore) -> None:
        super().__init__()
        self._fuse, self.search, self.aggregation = fuse, search, aggregation

    def forward(self, output: TowerOutput) -> Scored:
        """Score a batch by the output of the tower."""
        tokens: Tensor = self._fuse(output.features)
        grid = tokens.shape[1:3]
        patches = self.search(tokens.flatten(1, 2)).unflatten(1, grid)
        return Scored(self.aggregation(patches), patches, tokens)


class PromptScoring(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Patch and image scores by text vectors and, if there are any, by references.

    Args:
        scorer: What the detector scores with.
        fuse: From the tower's features to fused tokens (B, rows, cols, D).
        search: The tokens of the references; None without.
        aggregation: See :class:`ImageScore`.
    """

    def __init__(
        self,
        scorer: PromptScorer,
        fuse: Any,
        search: BlockSearch | None,
        aggregation: ImageScore,
    ) -> None:
        super().__init__()
        self._mode, self._fuse = scorer.mode, fuse
        self.search, self.aggregation = search, aggregation
        text = scorer.text
        named = np.array([*text.defects.values()], dtype=np.float32) / TEMPERATURE
        self._names = len(named)
        vectors = {"normal": text.normal, "anomaly": text.anomaly, "named": named.T.copy()}
        for name, vector in vectors.items():
            self.register_buffer(name, torch.from_numpy(np.array(vector, dtype=np.float32)))

    def forward(self, output: TowerOutput) -> Scored:
        """Score a batch by the output of the tower."""
        tokens = output.aligned
        patches = self._compare(tokens)
        image = (self.aggregation(patches) + self._compare(output.pooled)) / 2
        if self.search is not None:
            tokens = self._fuse(output.features)
            far = self.search(tokens.flatten(1, 2)).unflatten(1, tokens.shape[1:3]) / 2
            image, patches = (image + self.aggregation(far)) / 2, (patches + far) / 2
        defects = output.pooled @ self.named if self._names else None
        return Scored(image, patches, tokens, defects)

    def _compare(self, tokens: Any) -> Tensor:
        """Scores of tokens (..., D) by the mode; see :meth:`~.PromptScorer.compare`."""
        normal, anomaly = tokens @ self.normal, tokens @ self.anomaly
        if self._mode == "diff":
            return anomaly - normal
        if self._mode == "ratio":
            similar = (1 + anomaly).clamp(min=0)
            total = similar + (1 + normal).clamp(min=0)
            return torch.where(total > 0, similar / total.clamp(min=1e-12), 0.5)
        return torch.sigmoid((anomaly - normal) / TEMPERATURE)


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
        """Aggregate (B, rows, cols) to (B,)."""
        flat = patches.flatten(1)
        if self._method == "max":
            return flat.amax(dim=1)
        if self._method == "mean":
            return flat.mean(dim=1)
        count = count_of(self._topk, flat.shape[1])
        return flat.topk(count, dim=1).values.mean(dim=1)
