"""Scores an image by comparing its patch tokens with the memory bank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ..arrays import Floats, Size
from ..encoder.tokens import PatchTokens
from ..maps.overview import soft_maximum
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
        overview: Tokens of the images seen at once, where the others are seen through windows.
        unit: What scores by the overview are multiplied by; see :mod:`~..maps.overview`.
    """

    bank: MemoryBank
    n_neighbors: int
    aggregation: Aggregation
    topk: float | None
    training: Sequence[ImageScores] = field(default=(), compare=False)
    overview: MemoryBank | None = None
    unit: float = 1.0

    @property
    def span(self) -> float:
        """That of a cosine distance, or of both."""
        return 2.0 if self.overview is None else soft_maximum(2.0, 2.0, self.unit)

    @property
    def with_features(self) -> bool:
        """False: an embedder of features returns no other tokens."""
        return False

    def known(self, image: str | None) -> ImageScores | None:
        """The scores of a training image."""
        number = self.bank.number_of(image) if self.training else None
        if number is None:
            return None
        return self._scored(self.training[number].by_scale, self.training[number].size)

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Compute the patch scores and the image score of a new image."""
        # A canvas that the tower sees at once has no overview.
        each = zip(patches.scales, (self.bank, self.overview), strict=False)
        distances = [
            one.on_grid(bank.nearest_distance(one.flat, self.n_neighbors))
            for one, bank in each
            if bank is not None
        ]
        return self._scored(distances, patches.size)

    def _scored(self, distances: Sequence[Floats], size: Size) -> ImageScores:
        aggregate = partial(image_score, method=self.aggregation, topk=self.topk)
        return scored_by(distances, size, aggregate, self.unit)


def scored_by(
    distances: Sequence[Floats], size: Size, aggregate: Callable[[Floats], float], unit: float
) -> ImageScores:
    """The scores of an image.

    Args:
        distances: Of its patches, through windows and at once, or at once alone; each of shape
            (rows, cols), NaN for patches that are not looked at.
        size: (height, width) of the image in pixels.
        aggregate: Computes an image score from patch scores.
        unit: See :class:`NearestScorer`.
    """
    details, *overview = (ImageScores.of(each, aggregate(each), size) for each in distances)
    if not overview:
        return details
    image = soft_maximum(details.image, overview[0].image, unit)
    return replace(details, image=image, overview=overview[0])
