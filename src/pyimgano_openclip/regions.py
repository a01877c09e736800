"""Connected hot regions of an anomaly map."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .embedding import Floats, PatchTokens
from .explain import Box


@dataclass(frozen=True)
class Region:
    """A connected region of an image in which the map is above the threshold.

    Attributes:
        box: Bounding box in pixels of the original image.
        peak: Highest map value inside; higher is more anomalous.
        peak_at: (x, y) of that value in pixels of the original image.
        area: Number of hot pixels.
        defect: Named defect that it resembles most, if there are any.
        probability: Probability of that defect among the named ones, in (0, 1].
    """

    box: Box
    peak: float
    peak_at: tuple[int, int]
    area: int
    defect: str | None = None
    probability: float | None = None


def find_regions(anomaly_map: Floats, threshold: float, limit: int) -> list[Region]:
    """Find the regions above the threshold, hottest first.

    Args:
        anomaly_map: Shape (H, W); higher is more anomalous.
        threshold: Map value above which a pixel is hot.
        limit: Maximum number of regions.

    Returns:
        At most ``limit`` regions; pixels that touch at a corner are connected.
    """
    hot = (anomaly_map > threshold).astype(np.uint8)
    count, labels, facts, _ = cv2.connectedComponentsWithStats(hot, connectivity=8)
    regions = []
    for label in range(1, count):
        left, top, width, height, area = (int(fact) for fact in facts[label])
        inside = labels[top : top + height, left : left + width] == label
        values = np.where(inside, anomaly_map[top : top + height, left : left + width], -np.inf)
        row, col = np.unravel_index(int(values.argmax()), values.shape)
        regions.append(
            Region(
                box=Box(left, top, left + width, top + height),
                peak=float(values[row, col]),
                peak_at=(left + int(col), top + int(row)),
                area=area,
            )
        )
    return sorted(regions, key=lambda region: -region.peak)[:limit]


def patches_inside(region: Region, patches: PatchTokens) -> tuple[slice, slice]:
    """Rows and columns of the patches that overlap the box of a region."""
    (rows, cols), (height, width) = patches.tokens.shape[:2], patches.size
    left, top, right, bottom = region.box
    return (
        slice(top * rows // height, -(-bottom * rows // height)),
        slice(left * cols // width, -(-right * cols // width)),
    )
