"""WinCLIP and WinCLIP+ as published (Jeong et al., CVPR 2023): words, scores, association.

Re-implementations agree on the 7 and 4 states (caoyunkang/WinClip, mala-lab/WinCLIP,
zqhang/Accurate-WinCLIP-pytorch, anomalib), the first two also on the 22 templates below; the other
two list 21, one of them twice. Where they differ, this follows anomalib:

- Texts are averaged as the text tower gives them, and only the mean is scaled to length 1;
  mala-lab scales each first.
- The temperature is 0.07; caoyunkang and mala-lab take CLIP's 0.01, which leaves the ranking of
  zero-shot image scores as it is, but not that of maps.
- The patch tokens of WinCLIP+ are those after the last block and the tower's own norm, before the
  projection; mala-lab takes them before that norm.
- WinCLIP+ averages the map by text and by association, as in the paper; caoyunkang takes the
  harmonic mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..arrays import Floats, Indices
from ..bank.origins import as_identities
from ..bank.relatives import Relatives, as_groups
from ..bank.search import distance_within
from ..encoder.tokens import PatchTokens
from ..files.checkpoint import Checkpoint
from ..files.tensor_file import Arrays
from ..maps.scores import ImageScores
from .scorer import PromptScorer, spread_windows

NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ANOMALOUS_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = (
    "a cropped photo of the {}.",
    "a cropped photo of a {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)
WINDOWS = (2, 3)  # patches; small and middle scale


@dataclass(frozen=True)
class WinCLIPScorer(PromptScorer):
    """Scores an image by windows and the whole, and with references by association as well."""

    smoothing: ClassVar[float] = 0.0

    def with_distance(self, scored: ImageScores, distance: Floats) -> ImageScores:
        """WinCLIP+: the mean of both maps; of the whole image and the hottest association."""
        return self._result(
            (scored.patches + distance) / 2,
            (scored.image + float(distance.max())) / 2,
            scored.size,
        )

    def by_text(self, patches: PatchTokens) -> ImageScores:
        """The harmonic mean over windows and the whole image; the whole image alone."""
        whole = float(self.compare(self._whole(patches)))
        scores = self._windowed(patches.windows, patches.grid, whole)
        return self._result(scores, whole, patches.size)


@dataclass(frozen=True, eq=False)
class Associations:
    """The reference images of WinCLIP+ at three scales; compared by identity.

    As in the paper, a reference that is scored finds itself: its association is 0. Only
    :meth:`own_distance`, from which thresholds follow, leaves it out.

    Attributes:
        scales: Unit-length tokens of all references by the side of their windows in patches, each
            of shape (references, rows - side + 1, cols - side + 1, D); side 1 is the patch tokens,
            whose length may differ.
        groups: The group of each reference, if they were told or found; those of
            one are not compared.
        identities: What tells the references from other images, as far as known.
    """

    scales: Mapping[int, Floats]
    groups: tuple[str, ...] | None = None
    identities: frozenset[str] = frozenset()

    @classmethod
    def of_images(cls, images: Iterable[PatchTokens]) -> Associations:
        """The references among these images."""
        found, known = list[Mapping[int, Floats]](), set[str]()
        for patches in images:
            found.append(_scales_of(patches))
            known.update(filter(None, [patches.identity]))
        scales = {side: np.stack([one[side] for one in found]) for side in found[0]}
        return cls(scales, identities=frozenset(known))

    @classmethod
    def restored(cls, checkpoint: Checkpoint) -> Associations:
        """Those that :meth:`stored` wrote.

        Raises:
            CheckpointError: If they are damaged.
        """
        scales = {
            side: checkpoint.unit_vectors(_name(side), 4, "float32") for side in (1, *WINDOWS)
        }
        if len({len(tokens) for tokens in scales.values()}) > 1:
            raise ValueError("the references differ in number between scales")
        facts = checkpoint.header["state"]
        groups = as_groups(facts.get("groups"), len(scales[1]))
        return cls(scales, groups, as_identities(facts.get("references_seen")))

    def grouped(self, groups: tuple[str, ...] | None) -> Associations:
        """The same with the group of each reference."""
        return replace(self, groups=groups)

    def stored(self) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint keeps of them."""
        arrays = {_name(side): tokens for side, tokens in self.scales.items()}
        facts = {"references": len(self.scales[1]), "groups": self.groups}
        return arrays, {**facts, "references_seen": sorted(self.identities)}

    @property
    def copies(self) -> Sequence[Indices]:
        """For each reference itself: near copies are not told."""
        return [np.array([number]) for number in range(len(self.scales[1]))]

    @property
    def near(self) -> Sequence[Indices]:
        """For each reference, those that it is not compared with: its group, or itself."""
        return Relatives(self.groups).left_out(self.copies, [])

    def distance(self, patches: PatchTokens) -> Floats:
        """Mean over the scales of half the cosine distance to the nearest reference token.

        Windows are spread over their patches by harmonic averaging.

        Args:
            patches: Tokens of an image.

        Returns:
            Distances in [0, 1], shape (rows, cols); higher is more anomalous.
        """
        found = _scales_of(patches)
        return _mean(patches.grid, {s: _nearest(found[s], kept) for s, kept in self.scales.items()})

    def own_distance(self, number: int) -> Floats:
        """:meth:`distance` of a reference by its index to the others.

        If there are no others, each token is compared with those of the image that do not touch it.
        """
        own = {side: tokens[number] for side, tokens in self.scales.items()}
        others = np.ones(len(self.scales[1]), dtype=bool)
        others[self.near[number]] = False
        if others.any():
            apart = {s: _nearest(own[s], kept[others]) for s, kept in self.scales.items()}
        else:
            apart = {side: _elsewhere(tokens) for side, tokens in own.items()}
        return _mean(own[1].shape[:2], apart)


def _scales_of(patches: PatchTokens) -> dict[int, Floats]:
    return {1: patches.features_or_tokens, **patches.windows}


def _nearest(tokens: Floats, kept: Floats) -> Floats:
    """Half the cosine distance of tokens (rows, cols, D) to the nearest of (N, R, C, D)."""
    similarity = tokens.reshape(-1, tokens.shape[-1]) @ kept.reshape(-1, tokens.shape[-1]).T
    half: Floats = (1 - similarity.max(axis=1).reshape(tokens.shape[:2])) / 2
    return np.maximum(half, 0)  # rounding, of a token that finds itself


def _elsewhere(tokens: Floats) -> Floats:
    """Half the cosine distance of tokens (rows, cols, D) to the nearest that does not touch."""
    rows, cols, width = tokens.shape
    flat, places = tokens.reshape(-1, width), np.arange(rows * cols)
    distance = distance_within(flat, places, (rows, cols))
    return distance.reshape(rows, cols) * np.float32(0.5)


def _mean(grid: tuple[int, ...], distances: Mapping[int, Floats]) -> Floats:
    spread = [spread_windows(distance, grid) for distance in distances.values()]
    return np.mean(spread, axis=0, dtype=np.float32)


def _name(side: int) -> str:
    return f"reference_windows_{side}"
