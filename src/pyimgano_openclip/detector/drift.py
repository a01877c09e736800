"""Tells when normal images have moved away from those that a detector was fitted on.

The light fades, a lens gets dusty, a batch of material looks a little different: then the scores of
what passes change before false alarms pile up, or defects are missed. They are compared by ranks
with the scores of the training images (Mann and Whitney, 1947), so that no distribution is assumed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .learnt import Scores

FEWEST = 20  # images on either side; fewer tell nothing
# A test on a line is repeated, and training images are few and may be alike: a difference has to be
# both beyond chance and large, or a line would cry wolf.
CHANCE = 1e-4
HIGHER = 0.75  # share of pairs; 0.5 without any difference


class Drift(NamedTuple):
    """How the scores of what passed differ from the training scores; printed as a sentence.

    Attributes:
        images: Number of images that passed.
        higher: Share of pairs of one of them and a training image, in which it scores higher; 0.5
            without any difference.
        chance: Probability of such a share, if there is none.
        moved: Whether the difference is beyond chance, and large.
    """

    images: int
    higher: float
    chance: float
    moved: bool

    def __str__(self) -> str:
        if not self.moved:
            return f"the {self.images} images that passed score like the training images"
        way, share = ("higher", self.higher) if self.higher > 0.5 else ("lower", 1 - self.higher)
        return (
            f"normal images have moved away: the {self.images} that passed score {way} than the "
            f"training images in {share:.0%} of all pairs; has the light, the camera or the "
            "product changed? If it is meant to, fit again"
        )


def drift(training: Scores, scores: npt.ArrayLike, threshold: float) -> Drift | None:
    """Compare the scores of what passed with those of training images.

    Args:
        training: Scores of training images, shape (N,).
        scores: Scores of new images, shape (M,); those above the threshold, and NaN, are ignored.
        threshold: Score above which an image is anomalous.

    Returns:
        None if fewer than 20 images have passed, or there are fewer than 20 training images.
    """
    found = np.asarray(scores, dtype=np.float64)
    passed, known = found[found <= threshold], np.sort(training[training <= threshold])
    if min(len(passed), len(known)) < FEWEST:
        return None
    below, up_to = (np.searchsorted(known, passed, side) for side in ("left", "right"))
    higher = float((below + up_to).mean()) / (2 * len(known))  # equal ones count half
    deviation = math.sqrt((len(known) + len(passed) + 1) / (12 * len(known) * len(passed)))
    chance = math.erfc(abs(higher - 0.5) / deviation / math.sqrt(2))
    return Drift(len(passed), higher, chance, chance < CHANCE and max(higher, 1 - higher) > HIGHER)
