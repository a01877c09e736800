"""Computes anomaly maps and image scores from patch scores.

A map depends on its own image only; nothing is scaled by the range of an image or of a set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from ..arrays import Floats, Size
from ..checks import check_number, check_sides
from ..images.areas import Inside, resized
from ..memory import out_of_memory_explained
from .overview import with_overview
from .spread import SMOOTHING, spread_known, spread_out

if TYPE_CHECKING:
    from ..encoder.tokens import PatchTokens
    from ..images.areas import Area
    from ..images.look import Look

# Patches that the image score averages, whatever the grid; see tests/benchmarks/README.md. A share
# would average ever more of them as the grid grows, and what is a defect or a speck would not.
HOTTEST = 2
MOST_SMOOTHING = 100.0  # patches; the Gaussian is computed with several samples for each
FINE = 9  # pixels per patch of the map in which a peak is found, odd to hit its centre
UNSEEN = -1.0  # in files, score of a patch that is not looked at

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
        data: The patch scores as bytes, of the details if there is an overview; see
            :attr:`patches` and :attr:`details`.
        error: Why the image could not be read; all scores are NaN then. None if it was read.
        tokens: The patch tokens that were scored, if they were asked for.
        pages: Number of pages or frames of the image's file, of which the first was scored.
        smoothing: Standard deviation of the map's Gaussian in patches; 0 for none.
        unlike: Why the image as a whole is nothing to be judged by its patches, such as ``"unlike
            the training images: nearly black"``. The image score is then above all thresholds. None
            for others.
        area: Where in the image was looked; None for everywhere.
        overview: Scores of the image seen at once, if its details were seen through windows.
        detector: Class of the detector that gave them, which alone takes them again; None for
            unreadable images.
        look: What the image looks like as a whole; None for training images, which are not read
            again, for unreadable ones, and with a custom embedder.
        range_used: Highest value as a share of the range of its type or file, in [0, 1]; None
            unless it is deeper than 8 bits, and where there is no look.
    """

    image: float
    size: Size
    grid: Size
    data: bytes = field(repr=False)
    error: str | None = None
    tokens: PatchTokens | None = field(default=None, repr=False, compare=False)
    pages: int = 1
    smoothing: float = SMOOTHING
    unlike: str | None = None
    area: Area | None = field(default=None, repr=False, compare=False)
    look: Look | None = field(default=None, repr=False, compare=False)
    range_used: float | None = field(default=None, repr=False, compare=False)
    overview: ImageScores | None = field(default=None, repr=False)
    detector: str | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, patches: Floats, image: float, size: Size, error: str | None = None) -> ImageScores:
        """Keep patch scores of shape (rows, cols)."""
        rows, cols = patches.shape
        data = patches.astype(np.float32, copy=False).tobytes()
        return cls(image, size, (rows, cols), data, error)

    @property
    def by_scale(self) -> tuple[Floats, ...]:
        """Patch scores of the details and of the image seen at once, or of the latter alone."""
        return (self.details,) if self.overview is None else (self.details, self.overview.details)

    @property
    def details(self) -> Floats:
        """Patch scores without what the image seen at once adds to them; see :attr:`patches`."""
        return np.frombuffer(self.data, dtype=np.float32).reshape(self.grid)

    @property
    def patches(self) -> Floats:
        """Patch scores, shape (rows, cols), float32, read-only; higher is more anomalous.

        NaN for patches that were not looked at, and for all of an unreadable image.
        """
        if self.overview is None:
            return self.details
        both = with_overview(self.details, self.overview.details)
        both.flags.writeable = False
        return both

    @property
    def peak(self) -> float:
        """The highest value of the map, at a size that does not depend on the image's."""
        rows, cols = self.grid
        fine = (rows * FINE, cols * FINE)
        return float(anomaly_map(self.patches, fine, smoothing=self.smoothing).max())

    @property
    def inside(self) -> Inside | None:
        """The pixels that are looked at, shape ``size``; None for all."""
        return None if self.area is None else self.area.over(self.size)

    def anomaly_map(self) -> Floats:
        """Compute the map at the size of the original image; see :func:`anomaly_map`."""
        with out_of_memory_explained(f"a map of {self.size[0]} x {self.size[1]} pixels"):
            return anomaly_map(
                self.patches, self.size, smoothing=self.smoothing, inside=self.inside
            )


def raised(scored: ImageScores, unlike: str, span: float) -> ImageScores:
    """The scores of an image with an image score above all thresholds, and the reason.

    Among images that are raised the order stays; maps are never raised.

    Args:
        scored: The scores of the image by its patches.
        unlike: The reason; see :class:`ImageScores`.
        span: Width of the range of image scores.
    """
    above = math.nextafter(scored.image + span, math.inf)  # even if its patches score 0
    return replace(scored, image=above, unlike=unlike)


def anomaly_map(
    patch_scores: Floats,
    size: Size,
    *,
    smoothing: float = SMOOTHING,
    inside: Inside | None = None,
    outside: float | None = None,
) -> Floats:
    """Interpolate patch scores to the pixels of the original image.

    Bilinear between patch centres, then a Gaussian; see :mod:`~.spread`.

    Args:
        patch_scores: Shape (rows, cols); the grid covers the whole image. NaN for patches that were
            not looked at, which leave the others as they are.
        size: (height, width) of the original image in pixels.
        smoothing: Standard deviation of the Gaussian in patches; 0 for none.
        inside: Pixels that were looked at, shape (height, width); None for all.
        outside: Value where was not looked; None for 0, or the lowest value if that is below 0.

    Returns:
        Map, shape (height, width), float32, within the range of the patch scores; higher is more
        anomalous.

    Raises:
        ValueError: If a shape or a number is none of these.
    """
    scores = np.asarray(patch_scores, dtype=np.float32)
    size = check_sides("size", size)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"patch_scores has shape {scores.shape}; it must be (rows, cols).")
    if inside is not None and inside.shape != size:
        raise ValueError(f"inside has shape {inside.shape}; it must be that of the map, {size}.")
    check_number("smoothing", smoothing, above=0, most=MOST_SMOOTHING, itself=True)
    missing = np.isnan(scores)
    if missing.any() and not missing.all():
        found, seen = spread_known(scores, size, smoothing)
        inside = seen & (resized(~missing, size) if inside is None else inside)
    else:
        found = spread_out(scores, size, smoothing)
    if inside is not None and not inside.all():
        lowest = min(0.0, float(found[inside].min(initial=0.0)))
        found[~inside] = lowest if outside is None else outside
    return found


def image_score(patch_scores: Floats, method: Aggregation, topk: float | None) -> float:
    """Aggregate patch scores to an image score; higher is more anomalous.

    Args:
        patch_scores: Patch scores of any shape, not empty; NaN for patches that were not looked
            at, which do not count.
        method: ``"topk_mean"`` averages the highest scores, ``"max"`` takes the highest,
            ``"mean"`` averages all.
        topk: Share of the patches that ``"topk_mean"`` averages, in (0, 1], at least one patch;
            None for the 2 hottest, so that grids of all sizes are scored alike.
    """
    scores = patch_scores.ravel()
    scores = scores[~np.isnan(scores)]
    if method == "max":
        return float(scores.max())
    if method == "mean":
        return float(scores.mean(dtype=np.float64))
    count = count_of(topk, scores.size)
    return float(np.partition(scores, -count)[-count:].mean(dtype=np.float64))


def count_of(topk: float | None, patches: int) -> int:
    """How many patches ``"topk_mean"`` averages of so many; see :func:`image_score`."""
    return min(patches, HOTTEST if topk is None else max(1, math.floor(topk * patches)))


def to_file(patch_scores: Floats) -> Floats:
    """Patch scores as a file keeps them, which has no NaN; :func:`from_file` undoes it."""
    return np.nan_to_num(patch_scores, nan=UNSEEN)


def from_file(patch_scores: Floats) -> Floats:
    """Patch scores of at least 0 as they were before :func:`to_file`."""
    return np.where(patch_scores == UNSEEN, np.float32(np.nan), patch_scores)
