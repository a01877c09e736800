"""What an image seen at once adds to the scores of its details, which are seen through windows.

A patch has the weighted mean of both scores, so that defects of all sizes are on one map. An image
has a soft maximum of both, each measured by what normal images have: a small defect is lost where
the whole image is seen, a large one among many patches, and a mean would lose either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Floats
from .spread import spread_known

OVERVIEW = 0.2  # weight in a patch score; the rest is the details'
POWER = 4  # of the soft maximum, a power of two; 1 would be the sum
USUAL = 0.9  # share of normal images by whose highest score both are measured


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
    return (1 - OVERVIEW) * details + OVERVIEW * found.astype(np.float32)


def soft_maximum(details: float, overview: float, unit: float) -> float:
    """Image score of details and of the whole image, not below the former.

    Args:
        details: Image score of the details.
        overview: Image score of the image seen at once.
        unit: What the latter is multiplied by; see :func:`unit_of`.
    """
    return float((details**POWER + (unit * overview) ** POWER) ** (1 / POWER))


def unit_of(details: Sequence[float], overview: Sequence[float]) -> float:
    """What makes scores of the whole image comparable with those of details.

    Args:
        details: Image scores of the details of normal images, none compared with itself.
        overview: Image scores of the same images seen at once.

    Returns:
        The ratio of the scores that one in ten new normal images exceeds; 1 if there is none.
    """
    high, other = (np.quantile(each, USUAL, method="weibull") for each in (details, overview))
    return float(high / other) if high > 0 and other > 0 else 1.0
