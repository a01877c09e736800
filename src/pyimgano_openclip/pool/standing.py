"""How much each image of a training folder stands out among the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Floats, Indices, Scores, Size, unit
from ..bank.coreset import project
from ..bank.moved import PATCHES, MovedCopies
from ..bank.spool import TokenSpool
from ..maps.scores import image_score
from .comparing import compare_all
from .meetings import Meetings
from .products import Product
from .shares import FLOOR, lowest_share

MOST = 30  # images that each is compared with
# Of them, those that a patch is compared with: two alike of 12 images do not hide each other.
NEAREST = 0.2


def standing(
    spool: TokenSpool,
    moved: MovedCopies,
    near: Sequence[Indices],
    grids: Sequence[Size],
    product: Product,
) -> Scores:
    """Score images by each other, each by at most 30 others.

    The distance of a patch is the mean Euclidean one to the nearest fifth of the others, so that a
    few that have the like do not hide it. An image is seen through its moved copies as well, and so
    is each that it is compared with: what only lies otherwise on the grid of patches does not stand
    out. The score of an image is the mean over these views. Tokens are compared by a projection to
    128 dimensions, which takes half of the time and names as many defects.

    Args:
        spool: Tokens of each image, shape (P, D).
        moved: Tokens of moved copies of the images.
        near: For each image, itself and its near copies, with which it is not compared.
        grids: (rows, cols) of the patches of each image; of more than 2,048 so many are drawn.
        product: See :func:`~.products.product_on`.

    Returns:
        Shape (N,), higher is more anomalous; empty for fewer than two images.
    """
    if len(spool) < 2:
        return np.empty(0)
    sizes = (rows * cols + sum(moved.sizes(n)) for n, (rows, cols) in enumerate(grids))
    meetings = Meetings.of(len(spool), min(PATCHES, max(sizes)), MOST, seed=0)
    scores = np.zeros(len(spool))

    def tokens_of(image: int) -> Floats:
        tokens = spool[image]
        if len(tokens) > PATCHES:
            drawn = np.random.default_rng(image).choice(len(tokens), PATCHES, replace=False)
            tokens = tokens[np.sort(drawn)]
        return unit(project(np.concatenate([*moved.of(image), tokens]), seed=0))[None]

    for image, distances in compare_all(tokens_of, near, meetings, product):
        patches = lowest_share(np.maximum(distances, FLOOR), NEAREST)[0]
        views = np.split(patches, np.cumsum(moved.sizes(image), dtype=int))
        scores[image] = np.mean([image_score(view, "topk_mean", None) for view in views])
    return scores
