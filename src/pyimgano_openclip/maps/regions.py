"""Connected hot regions of an anomaly map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Size
from ..images.areas import Inside, around
from ..images.components import Run, connected_runs
from ..memory import out_of_memory_explained
from .boxes import Box, box_around
from .scores import ImageScores

OWN = 0.7  # of the way up to the peak of a region; weaker pixels surround what it is about


@dataclass(frozen=True)
class Region:
    """A connected region of an image in which the map is above the threshold.

    Attributes:
        box: Bounding box in pixels of the original image.
        peak: Highest map value inside; higher is more anomalous.
        peak_at: (x, y) of that value in pixels of the original image.
        area: Number of hot pixels; 0 of :func:`hottest_spot`.
        defect: Named defect that it resembles, if there are any and one leads clearly; else None.
        probability: Probability of that defect among the named ones, in (0, 1]; None without one.
    """

    box: Box
    peak: float
    peak_at: tuple[int, int]
    area: int
    defect: str | None = None
    probability: float | None = None


def hot_pixels(anomaly_map: Floats, threshold: float) -> npt.NDArray[np.bool_]:
    """Which pixels of a map are hot.

    Around a strong defect the map is above the threshold far beyond the defect itself. So of each
    connected region above the threshold the pixels count that are not far below the region's own
    peak; a weaker defect elsewhere in the image has its own.

    Args:
        anomaly_map: Shape (H, W); higher is more anomalous. NaN is never hot.
        threshold: Map value that a hot pixel exceeds.

    Returns:
        Shape (H, W): pixels above the threshold and at least 70 % of the way up to the peak of
        their connected region, from 0 or from the lowest value of the map if that is negative.
    """
    if anomaly_map.max() <= threshold:  # told much sooner; never of maps with NaN
        return np.zeros(anomaly_map.shape, np.bool_)
    hot: npt.NDArray[np.bool_] = anomaly_map > threshold
    runs_of_each = connected_runs(hot)
    lowest = lowest_of(anomaly_map) if runs_of_each else 0.0
    for runs in runs_of_each:
        peak = max(float(anomaly_map[run.row, run.start : run.stop].max()) for run in runs)
        least = lowest + OWN * (peak - lowest)
        for run in runs:
            hot[run.row, run.start : run.stop] = anomaly_map[run.row, run.start : run.stop] >= least
    return hot


def lowest_of(anomaly_map: Floats) -> float:
    """The map value from which peaks are measured: 0, or the map's lowest if that is negative."""
    return min(0.0, float(np.nanmin(anomaly_map)))


def find_regions(anomaly_map: Floats, threshold: float, limit: int) -> list[Region]:
    """Find the regions of :func:`hot_pixels`, hottest first.

    Args:
        anomaly_map: Shape (H, W); higher is more anomalous.
        threshold: Map value that a hot pixel exceeds.
        limit: Maximum number of regions.

    Returns:
        At most ``limit`` regions; pixels that touch at a corner are connected.
    """
    hot = connected_runs(hot_pixels(anomaly_map, threshold))
    regions = [_region(anomaly_map, runs) for runs in hot]
    return sorted(regions, key=lambda region: -region.peak)[:limit]


def hottest_spot(anomaly_map: Floats, grid: Size, inside: Inside | None = None) -> Region:
    """The patch around the highest map value, for an anomalous image without a hot region.

    Args:
        anomaly_map: Shape (H, W); higher is more anomalous.
        grid: (rows, cols) of the patches that the map comes from.
        inside: The pixels that are looked at, shape (H, W); None for all.

    Returns:
        A region of the size of a patch, or of what is looked at of it, whose area is 0, since no
        pixel is hot.
    """
    judged = anomaly_map if inside is None else np.where(inside, anomaly_map, -np.inf)
    row, col = (int(at) for at in np.unravel_index(judged.argmax(), judged.shape))
    height, width = anomaly_map.shape
    box = box_around(col + 0.5, row + 0.5, grid, (height, width))
    if inside is not None:
        rows, cols = around(inside[box.top : box.bottom, box.left : box.right])
        left, top = box.left, box.top
        ends = left + cols.start, top + rows.start, left + cols.stop, top + rows.stop
        box = Box(*map(int, ends))
    return Region(box, float(anomaly_map[row, col]), (col, row), area=0)


def explained(scored: ImageScores, hot: float, flagged_above: float, limit: int) -> list[Region]:
    """The regions of an image; of an anomalous one that has none, its :func:`hottest_spot`.

    Args:
        scored: Its scores.
        hot: Map value that a hot pixel exceeds.
        flagged_above: Image score above which it is anomalous; infinite to find nothing then.
        limit: Maximum number of regions.
    """
    found = scored.anomaly_map()
    height, width = scored.size
    with out_of_memory_explained(f"the regions of {height} x {width} pixels"):
        regions = find_regions(found, hot, limit)
    if not regions and scored.image > flagged_above:
        return [hottest_spot(found, scored.grid, scored.inside)]
    return regions


def _region(anomaly_map: Floats, runs: Sequence[Run]) -> Region:
    parts = [anomaly_map[run.row, run.start : run.stop] for run in runs]
    hottest = int(np.argmax([part.max() for part in parts]))
    run, col = runs[hottest], int(parts[hottest].argmax())
    return Region(
        box=Box(
            min(run.start for run in runs),
            runs[0].row,
            max(run.stop for run in runs),
            runs[-1].row + 1,
        ),
        peak=float(parts[hottest][col]),
        peak_at=(run.start + col, run.row),
        area=sum(run.stop - run.start for run in runs),
    )
