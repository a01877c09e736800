"""RsCIN: image scores averaged over images that look alike (MuSc, Li et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..arrays import Floats, Scores

COUNTS = (1, 2, 3)  # images that are averaged, the image itself included


def averaged(
    similarity: Floats, own: Scores, others: Scores, counts: Sequence[int] = COUNTS
) -> Scores:
    """Average scores over the most similar images, weighted by similarity.

    Args:
        similarity: Cosines of the class tokens of N images with those of M others, an image not
            being among its others, shape (N, M); -inf for others that do not count.
        own: Scores of the N images.
        others: Scores of the M others.
        counts: Numbers of images over which to average, the image itself included; the result is
            the mean over these.

    Returns:
        Shape (N,).
    """
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : max(counts) - 1]
    weights = np.take_along_axis(similarity, order, axis=1).astype(np.float64)
    weights[np.isneginf(weights)] = 0
    known = others[order]
    means = []
    for count in counts:
        weight, score = weights[:, : count - 1], known[:, : count - 1]
        means.append((own + (weight * score).sum(axis=1)) / (1 + weight.sum(axis=1)))
    return np.mean(means, axis=0)
