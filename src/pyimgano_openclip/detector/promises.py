"""What a threshold promises: the share of new normal images that it flags, on average and at most.

Scores of new normal images are taken to come from where those of the training images come from. No
other assumption is made about their distribution: all that follows is about ranks.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal

import numpy as np

from ..arrays import Scores
from ..checks import check_number
from ..images.notices import callers_level
from .learnt import Calibration

LEAST = 0.5  # confidence
USUAL = 0.95  # confidence of a bound where none is asked for
HALVINGS = 50  # of an interval, down to the precision of floats
EQUAL = 1e-9  # relative difference up to which shares are equal
UP = Context(prec=2, rounding=ROUND_CEILING)


class FewImagesWarning(UserWarning):
    """The threshold is not what is asked for, mostly since there are too few images."""


@dataclass(frozen=True)
class Promise:
    """How many new normal images a threshold flags; printed as a sentence.

    Attributes:
        rate: Share that it flags on average over training sets like this one, in (0, 1).
        bound: Share that it flags at most, with the confidence.
        confidence: Share of training sets like this one for which the bound holds.
        count: Number of independent images, or of parts of which there are several images.
        parts: Whether these are parts.
        contamination: Share that was asked for.
        needed: Number of independent images that would bound the share by the contamination.
        chosen: Whether the threshold was chosen, so that no number of images would change it.
    """

    rate: float
    bound: float
    confidence: float
    count: int
    parts: bool
    contamination: float
    needed: int
    chosen: bool = False

    @property
    def counted(self) -> str:
        """The number of images or parts in words."""
        what = "part" if self.parts else "image"
        return f"{self.count} {what}{'' if self.count == 1 else 's'}"

    def __str__(self) -> str:
        counted = self.counted
        if self.bound > self.contamination * (1 + EQUAL) and not self.chosen:
            counted += f"; {self.needed} would bound {percent(self.contamination)}"
            if self.count >= self.needed:
                counted += f" with confidence={self.confidence}"
        return (
            f"a new normal image is flagged with about {about(self.rate)}; with "
            f"{percent(self.confidence)} confidence at most {at_most(self.bound)} ({counted})"
        )


def promise(
    calibration: Calibration,
    threshold: float,
    contamination: float,
    confidence: float | None,
    *,
    chosen: bool = False,
) -> Promise:
    """What a threshold promises, wherever it comes from.

    The bound is that of an order statistic, or of Clopper and Pearson (1934) for a threshold that
    does not come from the scores: the same number. Of a part the highest score counts.

    Args:
        calibration: Scores of normal images.
        threshold: Score above which an image is flagged.
        contamination: Share that was asked for.
        confidence: That of the bound; None for the usual one.
        chosen: Whether the threshold was chosen, rather than follows from the scores.
    """
    sure = USUAL if confidence is None else confidence
    highest = calibration.highest()
    count, within = len(highest), int((highest <= threshold).sum())
    bound = _most(count - within, count, sure) if within else 1.0
    rate = 1 - _share_below(calibration, threshold)
    return Promise(
        rate=rate,
        bound=bound,
        confidence=sure,
        count=count,
        parts=count < len(calibration.scores),
        contamination=contamination,
        needed=images_needed(contamination, sure),
        chosen=chosen,
    )


def images_needed(contamination: float, confidence: float | None) -> int:
    """The number of images below which the contamination cannot be promised.

    With n images the rate is at least 1 / (n + 1) on average: 9 are needed for 10 %, 19 for 5 %.
    With confidence, the highest of n scores exceeds a share 1 - contamination of all scores unless
    all n are below it: 29, 59, 149 or 299 are needed for 10, 5, 2 or 1 % with 95 % confidence.
    """
    if confidence is None:
        return math.ceil((1 / contamination - 1) * (1 - EQUAL))
    return math.ceil(math.log1p(-confidence) / math.log1p(-contamination) * (1 - EQUAL))


def upper_quantile(
    calibration: Calibration, contamination: float, confidence: float | None = None
) -> float:
    """The value that a new score exceeds with probability ``contamination``.

    Without confidence, on average over training sets: the score of rank (n + 1)(1 -
    ``contamination``), interpolated (Weibull, 1939); with several images of a part, each part
    weighs as much as any other (hierarchical conformal prediction; Lee, Barber and Willett, 2023).
    With confidence, the order statistic that exceeds a share 1 - ``contamination`` of all scores in
    that share of training sets (Wilks, 1941), of the highest score of each part.

    Args:
        calibration: Scores of normal images; the result is at most the highest.
        contamination: In (0, 0.5].
        confidence: In (0, 1), or None.
    """
    if confidence is None:
        scores, position = _positions(calibration)
        return float(np.interp(1 - contamination, position, scores))
    from scipy.stats import binom  # takes half a second to import

    highest = np.sort(calibration.highest())
    rank = int(binom.ppf(confidence, len(highest), 1 - contamination))  # from 0
    return float(highest[min(rank, len(highest) - 1)])


def tell_few(
    calibration: Calibration,
    threshold: float,
    contamination: float,
    confidence: float | None,
    *,
    by_rank: bool,
) -> None:
    """Warn if the confidence that is asked for takes more images, or has no effect.

    Args:
        calibration: Scores of normal images.
        threshold: The score that follows from them.
        contamination: Share that is asked for.
        confidence: That is asked for; None for none.
        by_rank: Whether the threshold is the quantile, on which alone the confidence has an effect.
    """
    if confidence is None:
        return
    kept = promise(calibration, threshold, contamination, confidence)
    asked, sure, bound = percent(contamination), percent(confidence), at_most(kept.bound)
    if by_rank and kept.count < kept.needed:
        told = (
            f"{kept.counted} cannot bound false alarms at {asked} with {sure} confidence; that "
            f"takes {kept.needed}. The threshold is the highest training score, which bounds them "
            f"at {bound}."
        )
    elif not by_rank and kept.bound > contamination * (1 + EQUAL):
        told = (
            f"confidence={confidence} has no effect on a threshold by peaks over threshold: with "
            f"{kept.counted} this one bounds false alarms at {bound} with {sure} confidence, not "
            f"at {asked}. Call use_quantile_thresholding() first for one that follows from it."
        )
    else:
        return
    warnings.warn(told, FewImagesWarning, stacklevel=callers_level())


def check_confidence(confidence: float | None) -> float | None:
    """Return it as a float or None; raise a ValueError unless it is below 1 and at least a half."""
    if confidence is None:
        return None
    return check_number("confidence", confidence, above=LEAST, most=1, itself=True, below=True)


def percent(share: float) -> str:
    """A share as it was asked for: 9 %, 1.5 %, 99.99 %; 100 % is only all."""
    near, exact = Decimal(f"{share:.6g}"), Decimal(str(share))
    return f"{(100 * (near if near < 1 else exact)).normalize():f} %"


def about(share: float) -> str:
    """A share in whole percent, or with one digit below 1 %."""
    return percent(round(share, 2) if share >= 0.01 else float(f"{share:.1g}"))


def at_most(share: float) -> str:
    """A bound, rounded up to two digits: 9.148 % is at most 9.2 %."""
    return percent(float(UP.create_decimal(f"{share:.9g}")))


def _most(flagged: int, count: int, confidence: float) -> float:
    """The share of which so many of a count, or fewer, are drawn in 1 - ``confidence`` of cases.

    As ``scipy.special.betaincinv(flagged + 1, count - flagged, confidence)``, which takes a quarter
    of a second to import, in every command that tells what a threshold promises.
    """
    drawn, steps = np.arange(flagged + 1), np.log(np.arange(1, count + 1))
    factorial = np.concatenate([[0.0], np.cumsum(steps)])  # logarithms
    ways = factorial[count] - factorial[drawn] - factorial[count - drawn]
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        share = (low + high) / 2
        chances = ways + drawn * math.log(share) + (count - drawn) * math.log1p(-share)
        low, high = (share, high) if np.exp(chances).sum() > 1 - confidence else (low, share)
    return high


def _share_below(calibration: Calibration, threshold: float) -> float:
    """The share of new scores that are expected below a threshold, the inverse of the quantile."""
    scores, position = _positions(calibration)
    if threshold < scores[0]:
        return 0.0
    below = int(np.searchsorted(scores, threshold, side="right"))  # of equal scores the last
    if below == len(scores):
        return float(position[-1])
    step = (threshold - scores[below - 1]) / (scores[below] - scores[below - 1])
    return float(position[below - 1] + step * (position[below] - position[below - 1]))


def _positions(calibration: Calibration) -> tuple[Scores, Scores]:
    """The scores in order, and the share of new scores expected below each."""
    order = np.argsort(calibration.scores, kind="stable")
    parts, sizes = calibration.parts, np.bincount(calibration.parts)
    weights = 1 / sizes[parts[order]]
    return calibration.scores[order], np.cumsum(weights) / (len(sizes) + 1)
