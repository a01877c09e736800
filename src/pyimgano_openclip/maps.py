"""Computes anomaly maps and image scores from patch scores.

A map depends on its own image only; nothing is scaled by the range of an image or of a set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from .embedding import Floats, Size
from .memory import memory_for

SMOOTHING = 0.5  # patches; standard deviation of the Gaussian
OVERSAMPLING = 8  # samples per patch at which the Gaussian is applied

Aggregation = Literal["topk_mean", "max", "mean"]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)


@dataclass(frozen=True)
class ImageScores:
    """Scores of one image.

    The patch scores are kept as bytes: small arrays that live on between the large temporary ones
    of a tower fragment glibc's heap, which then grows by a quarter of a megabyte per image.

    Attributes:
        image: Image score; higher is more anomalous.
        size: (height, width) of the original image in pixels.
        grid: (rows, cols) of patches.
        data: The patch scores as bytes; see :attr:`patches`.
        error: Why the image could not be read; all scores are NaN then. None if it was read.
    """

    image: float
    size: Size
    grid: Size
    data: bytes = field(repr=False)
    error: str | None = None

    @classmethod
    def of(cls, patches: Floats, image: float, size: Size, error: str | None = None) -> ImageScores:
        """Keep patch scores of shape (rows, cols)."""
        rows, cols = patches.shape
        data = patches.astype(np.float32, copy=False).tobytes()
        return cls(image, size, (rows, cols), data, error)

    @property
    def patches(self) -> Floats:
        """Patch scores, shape (rows, cols), float32, read-only; higher is more anomalous."""
        return np.frombuffer(self.data, dtype=np.float32).reshape(self.grid)

    def anomaly_map(self) -> Floats:
        """Compute the map at the size of the original image; see :func:`anomaly_map`."""
        with memory_for(f"a map of {self.size[0]} x {self.size[1]} pixels"):
            return anomaly_map(self.patches, self.size)


def anomaly_map(patch_scores: Floats, size: Size) -> Floats:
    """Interpolate patch scores to the pixels of the original image.

    Bilinear between patch centres, then a Gaussian of half a patch. The Gaussian is applied on a
    grid whose size does not depend on the image, so large images stay cheap.

    Args:
        patch_scores: Shape (rows, cols); the grid covers the whole image.
        size: (height, width) of the original image in pixels.

    Returns:
        Map, shape (height, width), float32, within the range of the patch scores; higher is more
        anomalous.
    """
    # Importing OpenCV takes a tenth of a second; listing models must be instant.
    import cv2

    rows, cols = patch_scores.shape
    height, width = size
    fine = cv2.resize(
        np.ascontiguousarray(patch_scores, dtype=np.float32),
        (cols * OVERSAMPLING, rows * OVERSAMPLING),
        interpolation=cv2.INTER_LINEAR,
    )
    sigma = SMOOTHING * OVERSAMPLING
    smooth = cv2.GaussianBlur(fine, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    spread = cv2.resize(smooth, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(spread, dtype=np.float32)


def image_score(patch_scores: Floats, method: Aggregation, topk: float) -> float:
    """Aggregate patch scores to an image score; higher is more anomalous.

    Args:
        patch_scores: Patch scores of any shape, not empty.
        method: ``"topk_mean"`` averages the highest scores, ``"max"`` takes the highest,
            ``"mean"`` averages all.
        topk: Share of the patches that ``"topk_mean"`` averages, in (0, 1]; at least one patch.
    """
    if method == "max":
        return float(patch_scores.max())
    if method == "mean":
        return float(patch_scores.mean(dtype=np.float64))
    scores = patch_scores.ravel()
    count = max(1, math.floor(topk * scores.size))
    return float(np.partition(scores, -count)[-count:].mean(dtype=np.float64))
