"""What an image seen at once adds to the scores of its details, which are seen through windows.

A patch has the weighted mean of both scores, so that defects of all sizes are on one map. An image
has the score of the whole image, and what its details are beyond those of normal images: a small
defect is lost where the whole image is seen, and a large one among many patches, whose highest
scores differ much between normal images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import Floats
from .spread import spread_known

OVERVIEW = 0.2  # weight in a patch score; the rest is the details'
EXCESS = 2.0  # weight of what details are beyond those of normal images
USUAL = 0.9  # share of normal images below whose score nothing is beyond


def with_overview(details: Floats, overview: Floats) -> Floats:
    """Patch scores of details and of the whole image.

    Args:
        details: Shape (rows, cols); NaN for patches that are not looked at.
        overview: Scores of the image seen at once, on a coarser grid of the same image; NaN
            likewise.

    Returns:
        Shape (rows, cols), float32. Details beside which nothing of the overview is looked at have
        its mean.
    """
    found, seen = spread_known(overview, details.shape)
    if not seen.all():
        found[~seen] = np.nanmean(overview)
    both: Floats = (1 - OVERVIEW) * details + OVERVIEW * found.astype(np.float32)
    return both


class Levels(NamedTuple):
    """The image scores that one in ten normal images exceeds.

    Attributes:
        details: Of their details.
        overview: Of them seen at once.
    """

    details: float = 0.0
    overview: float = 0.0

    @classmethod
    def of(cls, details: Sequence[float], overview: Sequence[float]) -> Levels:
        """Those of normal images, none compared with itself."""
        return cls(*(np.quantile(each, USUAL, method="weibull") for each in (details, overview)))

    @property
    def unit(self) -> float:
        """What makes scores of the whole image comparable with those of details; 1 if unknown."""
        known = self.details > 0 and self.overview > 0
        return float(self.details / self.overview) if known else 1.0


UNKNOWN = Levels()


def of_both(details: float, overview: float, levels: Levels) -> float:
    """Image score of details and of the whole image.

    Args:
        details: Image score of the details.
        overview: Image score of the image seen at once.
        levels: What one in ten normal images exceeds.
    """
    return float(levels.unit * overview + EXCESS * max(details - levels.details, 0.0))
