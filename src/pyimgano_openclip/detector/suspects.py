"""Training images that stand out, so that someone can look whether they are normal."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..arrays import Scores
from .thresholds import by_patches, outlier_threshold

FEWEST = 5  # images, of which one can stand out
DEVIATIONS = 2.0  # standard deviations; see "Training images that stand out" in the benchmarks


class Suspect(NamedTuple):
    """A training image that stands out.

    Attributes:
        image: Its index in the order of fitting, from 0, without images that could not be read.
        score: How little it resembles the others; higher is more anomalous.
        times: The score as a multiple of the highest score of an image that does not stand out.
    """

    image: int
    score: float
    times: float


def stand_out(scores: Scores, span: float = math.inf) -> list[Suspect]:
    """The scores that stand out, highest first; see :func:`~.thresholds.outlier_threshold`.

    Args:
        scores: Positive scores of training images, shape (N,).
        span: See :func:`~.thresholds.by_patches`; images that are refused as a whole stand out.
    """
    if len(scores) < FEWEST:
        return []
    judged = by_patches(scores, span)
    usual = float(judged[judged <= outlier_threshold(judged, DEVIATIONS)].max())
    order = np.argsort(-scores, kind="stable")[: (scores > usual).sum()]
    return [Suspect(int(n), float(scores[n]), float(scores[n]) / usual) for n in order]
