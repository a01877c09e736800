"""Scores by comparing images with a pool, as torch modules to be traced."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..pool.neighbours import COUNTS
from ..pool.recipes import lines
from ..pool.scorer import PoolScorer
from ..pool.shares import FLOOR, lowest_count
from .nearest import EachSearch, ImageScore, Scored
from .places import Places
from .sight import Seen


class PoolScoring(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Scores of new images against a pool, as :class:`~..pool.scorer.PoolScorer`.

    Args:
        scorer: What the detector scores with.
        places: The patches that are looked at.
    """

    def __init__(self, scorer: PoolScorer, places: Places) -> None:
        super().__init__()
        pool = scorer.pool
        images = [pool.tokens_of(place) for place in range(len(pool.kept))]
        parts = range(images[0].shape[0])
        searches = [EachSearch([tokens[part] for tokens in images]) for part in parts]
        self.searches, self.places = nn.ModuleList(searches), places
        self.published = RsCIN(scorer) if scorer.recipe.published else None
        self.aggregation = ImageScore(scorer.aggregation, scorer.topk)

    def forward(self, seen: Seen) -> Scored:
        """Score a batch by its tokens."""
        tokens = self.places.take(seen.features)
        # Each part had length 1 before all together were scaled to that.
        apart = (tokens * len(self.searches) ** 0.5).chunk(len(self.searches), dim=-1)
        distances = [search(part) for search, part in zip(self.searches, apart, strict=True)]
        if self.published is None:
            patches = 1 / (1 / distances[0].clamp(min=FLOOR)).mean(dim=-1)
            return Scored(self.aggregation(patches), patches)
        patches = torch.stack([_lowest_share(found) for found in distances]).mean(dim=0)
        grid = seen.features.shape[1:3]
        return Scored(self.published(patches.unflatten(1, grid), seen.pooled), patches)


class RsCIN(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Image scores of MuSc: the maximum of the map, averaged over images that look alike.

    Args:
        scorer: What the detector scores with.
    """

    def __init__(self, scorer: PoolScorer) -> None:
        super().__init__()
        judged, canvas = scorer.pool.judged, scorer.canvas or (1, 1)
        own = scorer._own_scores[judged]
        self._low, self._range = own.min(), own.max() - own.min() or 1.0
        self._canvas, self._most = canvas, min(max(COUNTS) - 1, len(own))
        vectors = np.ascontiguousarray(scorer.pool.embeddings[judged].T)
        self.register_buffer("embeddings", torch.from_numpy(vectors))
        self.register_buffer("known", torch.from_numpy(scorer._scaled(own).astype(np.float32)))

    def forward(self, patches: Tensor, pooled: Tensor) -> Tensor:
        """Image scores (B,) by patch scores (B, rows, cols) and embeddings (B, D)."""
        down, across = (
            torch.from_numpy(lines(*sides).astype(np.float32))
            for sides in zip(self._canvas, patches.shape[1:], strict=True)
        )
        highest = (down @ (patches @ across.T)).amax(dim=(1, 2))
        own = (highest - self._low) / self._range
        similarity, order = (pooled @ self.embeddings).topk(self._most, dim=1)
        weighted, means = similarity * self.known[order], []
        for count in COUNTS:
            weight, score = (each[:, : count - 1].sum(dim=1) for each in (similarity, weighted))
            means.append((own + score) / (1 + weight))
        return torch.stack(means).mean(dim=0)


def _lowest_share(distances: Tensor) -> Tensor:
    count = lowest_count(distances.shape[-1])
    nearest = distances.topk(count, dim=-1, largest=False).values
    return (2 * nearest).sqrt().mean(dim=-1)
