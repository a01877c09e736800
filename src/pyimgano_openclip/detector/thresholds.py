"""Thresholds by the method that a detector is set to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import Scores
from .learnt import Calibration
from .promises import upper_quantile

NORMAL = 1.4826  # standard deviations of a normal distribution in its median deviation
STANDING_OUT = 1.75  # standard deviations; see "Unlabelled folders" in the benchmarks' README
OUTLIERS = "outliers"  # the rule that takes no share
QUANTILE = ("quantile", "percentile")  # names of the host
# Its attributes that choose how a threshold follows.
HOSTS = ("threshold_method", "pot_tail_fraction", "pot_min_exceedances")
LEAST = 0.05  # of scores, as a share: a standard deviation of at least that


def threshold_from(
    detector: Any, calibration: Calibration, confidence: float | None = None
) -> tuple[float, Any]:
    """The threshold by the method that a detector is set to, and the facts of the host about it.

    For the quantile the host uses ``np.percentile``: with ten training images, 17 % of new normal
    images exceed it instead of 10 %.

    Args:
        detector: Anything with a detector's ``contamination`` and the attributes in ``HOSTS``.
        calibration: Scores of normal images.
        confidence: That of a quantile; None for the mean.
    """
    if detector.threshold_method in QUANTILE:
        return upper_quantile(calibration, detector.contamination, confidence), None
    # Importing the host imports our detectors, which import this module.
    from pyimgano.models.base_detector import BaseDetector

    apart = BaseDetector(contamination=detector.contamination)
    for name in HOSTS:
        setattr(apart, name, getattr(detector, name))
    apart.decision_scores_ = calibration.scores
    apart._process_decision_scores()
    return apart.threshold_, getattr(apart, "pot_info_", None)


def pool_threshold(detector: Any, calibration: Calibration, span: float) -> tuple[float, Any]:
    """The same of unlabelled images, by the rule that a detector of these is set to.

    Args:
        detector: As for :func:`threshold_from`, with a ``threshold_rule``.
        calibration: The scores of the images.
        span: See :func:`by_patches`.
    """
    scores, facts = by_patches(calibration.scores, span), None
    if detector.threshold_rule == OUTLIERS:
        threshold = outlier_threshold(scores)
    elif detector.threshold_method in QUANTILE:
        threshold = share_threshold(scores, detector.contamination)
    else:
        threshold, facts = threshold_from(detector, Calibration.of(scores))
    # The scores of all refused images exceed it, even if there are no others.
    return min(threshold, math.nextafter(span, 0)), facts


def share_threshold(scores: Scores, share: float) -> float:
    """The score that a share of some scores exceeds: the geometric mean of the two it separates.

    Args:
        scores: Shape (N,), not negative.
        share: In (0, 0.5]; less than half a score gives the highest.
    """
    ranked = np.sort(scores)
    count = round(share * len(ranked))
    first = len(ranked) - count
    return float(np.sqrt(ranked[first - 1 :][:2].prod()) if count else ranked[-1])


def by_patches(scores: Scores, span: float) -> Scores:
    """The scores of images that are not refused as a whole; all if there are no others.

    Args:
        scores: Shape (N,).
        span: Width of the range of scores, by which those of refused images are raised.
    """
    judged = scores[scores < span]
    return judged if len(judged) else scores


def outlier_threshold(scores: Scores, deviations: float = STANDING_OUT) -> float:
    """The score above which a score stands out among others, most of which are normal.

    Args:
        scores: Positive scores, shape (N,).
        deviations: Standard deviations above the median of the logarithms.

    Returns:
        The threshold. The standard deviation is told by the median deviation (Hampel, 1974), which
        a minority of anomalous images does not widen much.
    """
    logs = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
    middle = np.median(logs)
    deviation = max(LEAST, NORMAL * np.median(np.abs(logs - middle)))
    # The logarithm of equal scores does not lead back to them exactly.
    return float(max(np.median(scores), np.exp(middle + deviations * deviation)))
