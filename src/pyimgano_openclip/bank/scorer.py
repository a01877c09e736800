"""Scores an image by comparing its patch tokens with the memory bank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..encoder.tokens import PatchTokens
from ..maps.scores import Aggregation, ImageScores, image_score
from .memory_bank import MemoryBank


@dataclass(frozen=True)
class NearestScorer:
    """Scores images against a memory bank; see :class:`~..detector.scoring.Scorer`.

    Attributes:
        bank: Normal patch tokens; compared by identity.
        n_neighbors: Number of stored tokens over which a distance is averaged.
        aggregation: How an image score is computed from patch scores.
        topk: Share of the patches that ``"topk_mean"`` averages; None for the 2 hottest.
        training: Scores of each image in the bank, none compared with itself; may be empty. The
            host scores them again after fitting, when they would find their own tokens in the bank.
    """

    bank: MemoryBank
    n_neighbors: int
    aggregation: Aggregation
    topk: float | None
    training: Sequence[ImageScores] = field(default=(), compare=False)

    @property
    def span(self) -> float:
        """That of a cosine distance."""
        return 2.0

    @property
    def with_features(self) -> bool:
        """False: an embedder of features returns no other tokens."""
        return False

    def known(self, image: str | None) -> ImageScores | None:
        """The scores of a training image."""
        number = self.bank.number_of(image) if self.training else None
        if number is None:
            return None
        known = self.training[number]
        return replace(known, image=image_score(known.patches, self.aggregation, self.topk))

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Compute the patch scores and the image score of a new image."""
        scores = patches.on_grid(self.bank.nearest_distance(patches.flat, self.n_neighbors))
        score = image_score(scores, self.aggregation, self.topk)
        return ImageScores.of(scores, score, patches.size)
