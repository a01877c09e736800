"""Tells when normal images have moved away from those that a detector was fitted on.

The light fades, a lens gets dusty, a batch of material is a little different: then what passes
changes before false alarms pile up, or defects are missed. Its scores and its looks are compared by
ranks with those of the training images (Mann and Whitney, 1947), so that no distribution is
assumed. Towers even out light, so that scores hardly tell it; the looks do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..arrays import Scores
from ..images.look import Look

FEWEST, KNOWN = 20, 10  # images that passed and independent training images; fewer tell nothing
# A test on a line is repeated, and training images are few: a difference has to be both beyond
# chance and large, or a line would cry wolf.
CHANCE = 1e-6
APART = 0.75  # share of pairs; 0.5 without any difference
SCORE = "score"
MEASURES = 5  # first fields of a look that are compared
# What an image that passed is, compared with training images: (more of it, less of it).
WORDS = {
    SCORE: ("score higher", "score lower"),
    "brightness": ("are brighter", "are darker"),
    "contrast": ("have more contrast", "have less contrast"),
    "detail": ("are sharper or noisier", "are blurred more"),
    "red": ("are redder", "are less red"),
    "blue": ("are bluer", "are less blue"),
}


class Inspected(NamedTuple):
    """An image that was scored: its score, and its look if it is known."""

    score: float
    look: Look | None


class Usual(NamedTuple):
    """What images that pass are compared with.

    Attributes:
        scores: Scores of training images, shape (N,).
        looks: Looks of training images, shape (M, 5), without texture and halves; M may be 0.
        parts: Number of them that are independent of each other.
    """

    scores: Scores
    looks: Scores
    parts: int


class Drift(NamedTuple):
    """How what passed differs from the training images; printed as a sentence.

    Attributes:
        images: Number of images that were compared: those that passed, or all if few did.
        measure: What differs most: ``"score"``, or a field of :class:`~..images.look.Look`.
        higher: Share of pairs of one of them and a training image, in which it is higher; 0.5
            without any difference.
        chance: Probability of such a share, if there is no difference.
        moved: Whether the difference is beyond chance, and large.
        passed: Whether those that passed were compared.
    """

    images: int
    measure: str
    higher: float
    chance: float
    moved: bool
    passed: bool = True

    def __str__(self) -> str:
        if not self.moved:
            which = "that passed" if self.passed else "of which few passed"
            return f"the {self.images} images {which} are like the training images"
        more = self.higher > 0.5
        share = self.higher if more else 1 - self.higher
        which = "normal images" if self.passed else "images"
        count = f"the {self.images} that passed" if self.passed else f"all {self.images}"
        return (
            f"{which} have moved away: {count} "
            f"{WORDS[self.measure][0 if more else 1]} than the training images in {share:.0%} of "
            "all pairs; has the light, the camera or the product changed? If it is meant to, fit "
            "again"
        )


def drift(usual: Usual, inspected: Iterable[Inspected], threshold: float) -> Drift | None:
    """Compare what passed with the training images.

    Scores that fall are no drift: training images score higher than new ones if each was compared
    without its near copies. Where fewer than 20 images pass, as when light has changed much, the
    looks of all are compared, and no scores.

    Args:
        usual: What it is compared with.
        inspected: Images; those with a score of NaN are ignored.
        threshold: Score above which an image is anomalous.

    Returns:
        None if fewer than 20 images have passed and fewer have a look, or there are fewer than 10
        training images.
    """
    scored = [one for one in inspected if not math.isnan(one.score)]
    passed = [one for one in scored if one.score <= threshold]
    known = usual.scores[usual.scores <= threshold]
    few = len(passed) < FEWEST
    if min(len(known), usual.parts) < KNOWN:
        return None
    chosen = scored if few else passed
    found, looks = [], np.array([one.look[:MEASURES] for one in chosen if one.look is not None])
    if not few:
        scores = np.array([one.score for one in passed])
        found.append(_compared(SCORE, known, scores, usual.parts))
    if len(looks) >= FEWEST and len(usual.looks) >= KNOWN:
        found += [
            _compared(name, usual.looks[:, number], looks[:, number], usual.parts)
            for number, name in enumerate(Look._fields[:MEASURES])
        ]
    if not found:
        return None
    most = min(found, key=_order)
    return most._replace(images=len(chosen), passed=not few)


def _order(one: Drift) -> tuple[bool, float, float]:
    """What differs most is first: what has moved, also where all chances are rounded to 0."""
    return not one.moved, one.chance, -abs(one.higher - 0.5)


def _compared(measure: str, known: Scores, passed: Scores, parts: int) -> Drift:
    """The rank test of one measure, of which training images count no more than their parts."""
    ranked, count = np.sort(known), min(parts, len(known))
    below, up_to = (np.searchsorted(ranked, passed, side) for side in ("left", "right"))
    higher = float((below + up_to).mean()) / (2 * len(ranked))  # equal ones count half
    deviation = math.sqrt((count + len(passed) + 1) / (12 * count * len(passed)))
    away = (higher - 0.5) / deviation / math.sqrt(2)
    chance = math.erfc(away) / 2 if measure == SCORE else math.erfc(abs(away))
    apart = max(higher, 1 - higher) > APART
    return Drift(len(passed), measure, higher, chance, chance < CHANCE and apart)
