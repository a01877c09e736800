"""Names what an image shows by the defect that it resembles, if one leads clearly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..arrays import Floats
from .regions import Region

# Of the most probable name over the next. With it, four of five shown names are right
# (tests/benchmarks/names.py). So is told by the whole image: the patches under a region tell names
# little better than chance, at any lead.
CLEAR_LEAD = 0.5


def named(regions: list[Region], names: Sequence[str], logits: Floats) -> list[Region]:
    """The same regions; the hottest with the name that leads clearly, if one does.

    Args:
        regions: Regions of one image, hottest first.
        names: The K names. A single name leads no other, and is not given.
        logits: Resemblance of the whole image with each name, shape (K,).
    """
    best, probability, lead = leading(logits)
    if not regions or lead < CLEAR_LEAD:
        return regions
    hottest = replace(regions[0], defect=names[best], probability=probability)
    return [hottest, *regions[1:]]


def leading(logits: Floats) -> tuple[int, float, float]:
    """Index of the most probable of K names, its probability, and its lead over the next.

    Args:
        logits: Shape (K,); the lead of a single name is 0.
    """
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    best = int(chances.argmax())
    others = np.delete(chances, best)
    lead = chances[best] - others.max() if others.size else 0.0
    return best, float(chances[best]), float(lead)
