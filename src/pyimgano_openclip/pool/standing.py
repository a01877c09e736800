"""How much each image of a training folder stands out among the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Floats, Indices, Size
from ..bank.spool import TokenSpool
from ..maps.scores import image_score
from .meetings import Meetings
from .mutual import compare_all
from .neighbours import Scores
from .products import Product
from .shares import harmonic

MOST = 30  # images that each is compared with
PATCHES = 2048  # of an image, drawn from those of a larger one: the time goes by their square
TOPK = 0.01  # share of the patches in the score of an image


def standing(
    spool: TokenSpool, near: Sequence[Indices], grids: Sequence[Size], product: Product
) -> Scores:
    """Score images by each other, each by at most 30 others.

    Args:
        spool: Tokens of each image, shape (P, D).
        near: For each image, itself and its near copies, with which it is not compared.
        grids: (rows, cols) of the patches of each image; of more than 2,048 so many are drawn.
        product: See :func:`~.products.product_on`.

    Returns:
        Shape (N,), higher is more anomalous; empty for fewer than two images.
    """
    if len(spool) < 2:
        return np.empty(0)
    patches = min(PATCHES, max(rows * cols for rows, cols in grids))
    meetings = Meetings.of(len(spool), patches, MOST, seed=0)
    scores = np.zeros(len(spool))

    def tokens_of(image: int) -> Floats:
        tokens = spool[image][None]
        if tokens.shape[1] <= PATCHES:
            return tokens
        drawn = np.random.default_rng(image).choice(tokens.shape[1], PATCHES, replace=False)
        return tokens[:, np.sort(drawn)]

    for image, distances in compare_all(tokens_of, near, meetings, product):
        scores[image] = image_score(harmonic(distances), "topk_mean", TOPK)
    return scores
