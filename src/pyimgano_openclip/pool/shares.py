"""How the distances of a patch to many images become one score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Floats

LOWEST = 0.3  # share of the images over which MuSc averages
SPAN = 2.0  # width of the range of scores: that of cosine distances
FLOOR = 1e-4  # cosine distance; smaller ones are rounding errors of float16

Share = Callable[[Floats], Floats]


def harmonic(distances: Floats) -> Floats:
    """The harmonic mean over all images.

    Near images count most, so that a rare kind of normal patch is not anomalous; but all count, so
    that a defect that repeats on a third of the images stays far from the others.

    Args:
        distances: Cosine distances of patches to the nearest patch of each image, shape (..., K).

    Returns:
        Shape (...,), float32; higher is more anomalous.
    """
    return 1 / (1 / np.maximum(distances, FLOOR)).mean(axis=-1)


def lowest_share(distances: Floats, share: float = LOWEST) -> Floats:
    """The mean Euclidean distance to the nearest 30 % of the images (MuSc, Li et al., ICLR 2024).

    Args:
        distances: Cosine distances of unit-length tokens, shape (..., K).
        share: Of the images, at least one, in place of 30 %.

    Returns:
        Shape (...,), float32; higher is more anomalous.
    """
    count = lowest_count(distances.shape[-1], share)
    nearest = np.partition(distances, count - 1, axis=-1)[..., :count]
    return np.sqrt(2 * nearest).mean(axis=-1)


def lowest_count(images: int, share: float = LOWEST) -> int:
    """How many of so many images :func:`lowest_share` averages over."""
    return max(1, int(images * share))
