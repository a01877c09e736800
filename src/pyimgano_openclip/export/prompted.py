"""Scores by comparing images with texts, as torch modules to be traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from ..arrays import Size
from ..prompts.references import References
from ..prompts.scorer import TEMPERATURE, PromptScorer
from ..prompts.surgery import SHARPNESS, SurgeryScorer
from ..prompts.winclip import Associations, WinCLIPScorer
from .nearest import BlockSearch, ImageScore, Scored
from .places import Places
from .sight import Seen


def prompt_scoring(scorer: PromptScorer, places: Places) -> PromptScoring:
    """The module that scores as a detector's scorer."""
    kinds = {SurgeryScorer: SurgeryScoring, WinCLIPScorer: WinCLIPScoring}
    return kinds.get(type(scorer), PromptScoring)(scorer, places)


class PromptScoring(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Patch and image scores by text vectors and, if there are any, by references.

    Args:
        scorer: What the detector scores with.
        places: The patches that are looked at.
    """

    def __init__(self, scorer: PromptScorer, places: Places) -> None:
        super().__init__()
        self._mode, self.places = scorer.mode, places
        self.aggregation = ImageScore(scorer.aggregation, scorer.topk)
        self.distance = None if scorer.references is None else _distance_to(scorer.references)
        text = scorer.text
        named = np.array([*text.defects.values()], dtype=np.float32) / TEMPERATURE
        self._names = len(named)
        vectors = {"normal": text.normal, "anomaly": text.anomaly, "named": named.T.copy()}
        for name, vector in vectors.items():
            self.register_buffer(name, torch.from_numpy(np.array(vector, dtype=np.float32)))

    def forward(self, seen: Seen) -> Scored:
        """Score a batch by its tokens."""
        image, patches = self._by_text(seen)
        if self.distance is not None:
            far = self.distance(seen, self.places)
            image, patches = (image + self._of_distance(far)) / 2, (patches + far) / 2
        return Scored(image, patches, seen.pooled @ self.named if self._names else None)

    def _by_text(self, seen: Seen) -> tuple[Tensor, Tensor]:
        patches = self._compare(self.places.take(seen.maps["aligned"]))
        if self.places.inside is not None:  # where the whole image does not count
            return self.aggregation(patches), patches
        whole = self._compare(seen.pooled)
        if sides := _windows(seen):
            patches = self._harmonic(seen, sides, whole)
        return (self.aggregation(patches) + whole) / 2, patches

    def _of_distance(self, far: Tensor) -> Tensor:
        """Image scores by the distances of patches to the references."""
        return self.aggregation(far)

    def _harmonic(self, seen: Seen, sides: Sequence[int], whole: Tensor) -> Tensor:
        """The harmonic mean over the sizes of windows and the whole image, shape (B, P)."""
        grid = seen.maps["aligned"].shape[1:3]
        maps = [_spread_windows(self._compare(seen.maps[side]), grid) for side in sides]
        inverse = torch.stack([1 / found for found in maps]).sum(dim=0) + (1 / whole)[:, None]
        return (len(maps) + 1) / inverse

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


class WinCLIPScoring(PromptScoring):
    """Scores as :class:`~..prompts.winclip.WinCLIPScorer`."""

    def _by_text(self, seen: Seen) -> tuple[Tensor, Tensor]:
        whole = self._compare(seen.pooled)
        return whole, self._harmonic(seen, _windows(seen), whole)

    def _of_distance(self, far: Tensor) -> Tensor:
        return far.amax(dim=1)


class SurgeryScoring(PromptScoring):
    """Scores as :class:`~..prompts.surgery.SurgeryScorer`."""

    def _by_text(self, seen: Seen) -> tuple[Tensor, Tensor]:
        whole = torch.stack([seen.pooled @ self.normal, seen.pooled @ self.anomaly], dim=1)
        weights = 2 * torch.softmax(SHARPNESS * whole, dim=1)  # of mean 1
        normal, anomaly = weights[:, :1], weights[:, 1:]
        patches = self.places.take(seen.maps["aligned"])
        # The anomalous similarity less the mean of both, which is what the texts share.
        left = anomaly * (patches @ self.anomaly) - normal * (patches @ self.normal)
        return (weights * whole).diff(dim=1)[:, 0] / 2, left / 2


class NearestReference(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Half the distance of patches to those of references; see :class:`~..prompts.references`."""

    def __init__(self, references: References) -> None:
        super().__init__()
        self.search = BlockSearch(references.bank.tokens, 1)

    def forward(self, seen: Seen, places: Places) -> Tensor:
        """Distances in [0, 1], shape (B, P)."""
        return self.search(places.take(seen.features)) / 2


class NearestAssociation(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """The same at the three scales of WinCLIP+; see :meth:`~..prompts.winclip.Associations`."""

    def __init__(self, references: Associations) -> None:
        super().__init__()
        self._sides = list(references.scales)
        searches = [_flat_search(tokens) for tokens in references.scales.values()]
        self.searches = nn.ModuleList(searches)

    def forward(self, seen: Seen, places: Places) -> Tensor:  # noqa: ARG002 - it looks everywhere
        """Distances in [0, 1], shape (B, P)."""
        grid, found = seen.features.shape[1:3], []
        for side, search in zip(self._sides, self.searches, strict=True):
            tokens = seen.features if side == 1 else seen.maps[side]
            half = search(tokens.flatten(1, 2)).unflatten(1, tokens.shape[1:3]) / 2
            found.append(_spread_windows(half, grid))
        return torch.stack(found).mean(dim=0)


def _flat_search(tokens: Any) -> BlockSearch:
    return BlockSearch(tokens.reshape(-1, tokens.shape[-1]), 1)


def _distance_to(references: Any) -> nn.Module:
    kind = NearestAssociation if isinstance(references, Associations) else NearestReference
    return kind(references)


def _windows(seen: Seen) -> list[int]:
    """Sides of the windows that are embedded separately."""
    return [kind for kind in seen.maps if isinstance(kind, int)]


def _spread_windows(scores: Tensor, grid: Size) -> Tensor:
    """:func:`~..prompts.scorer.spread_windows` of (B, rows, cols) scores: (B, P)."""
    side = grid[0] - scores.shape[1] + 1
    around = (side - 1,) * 4
    # Sums over the windows that cover a patch, as averages of as many numbers each.
    inverse, count = (
        F.avg_pool2d(F.pad(part, around)[:, None], side, stride=1)[:, 0]
        for part in (1 / scores, torch.ones_like(scores[:1]))
    )
    return (count / inverse).flatten(1)
