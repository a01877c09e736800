"""Labels what has been scored by the threshold in force; imports neither torch nor the host."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from ..arrays import Floats, Scores, Size
from ..detector.drift import MEASURES, Usual
from ..detector.thresholds import by_patches
from ..files.checkpoint import plain
from ..images.areas import Area, resized
from ..images.items import Item
from ..images.look import Look
from ..images.roi import Roi, area_of, roi_of
from ..maps.regions import Region, find_regions, hot_pixels
from ..maps.scores import anomaly_map
from .places import OVERLAYS
from .results import Record, Results

REGIONS = 10  # maximum number of regions per image


class Judge(Protocol):
    """What labels, pictures and reports need of a detector; all detectors have it."""

    @property
    def map_smoothing(self) -> float:
        """Standard deviation of the Gaussian of maps in patches."""

    def area_of(self, image: Item) -> Area | None:
        """Where in an image was looked; None for everywhere."""

    def label_threshold(self) -> float:
        """Image score above which an image is anomalous."""

    def region_threshold(self) -> float:
        """Map value that a pixel has to exceed to be hot."""

    def region_share(self) -> float:
        """What it is as a multiple of the threshold of images; 0 if it is set apart."""

    def usual(self) -> Usual | None:
        """What images that pass are compared with; None without normal images."""


@dataclass(frozen=True)
class Stored:
    """The same of a detector that is not loaded, as a results folder keeps it.

    Attributes:
        detector: Name of the detector's class.
        map_smoothing: See :class:`Judge`.
        threshold: The detector's own; None if another one was given and it had none.
        region: Map value that a pixel has to exceed to be hot; None if it follows the threshold.
        training: Scores of the training images; may be empty.
        roi: Where was looked, as JSON values; None for everywhere.
        share: What the threshold of regions is as a multiple of that of images, if it follows it.
        looks: Looks of the training images; may be empty.
        parts: Number of training images that are independent of each other; 0 without normal ones.
        largest: The largest score that patches can give; None if an earlier version wrote it.
    """

    detector: str
    map_smoothing: float
    threshold: float | None
    region: float | None
    training: tuple[float, ...]
    roi: Any
    share: float = 1.0
    looks: tuple[tuple[float, ...], ...] = ()
    parts: int = 0
    largest: float | None = None

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Stored | None:
        """Read what :meth:`facts` gave; None if it is anything else."""
        try:
            looks = tuple(tuple(look) for look in found["looks"])
            stored = cls(**{**found, "training": tuple(found["training"]), "looks": looks})
            values = (
                stored.map_smoothing,
                stored.threshold,
                stored.region,
                stored.share,
                stored.largest,
                *stored.training,
                *(value for look in looks for value in Look(*look)[:MEASURES]),
            )
            sound = all(value is None or math.isfinite(value) for value in values)
            sound = sound and isinstance(stored.parts, int)
            roi_of(stored.roi)
        except (TypeError, LookupError, ValueError):
            return None
        return stored if sound and isinstance(stored.detector, str) else None

    def facts(self) -> dict[str, Any]:
        """Its JSON values."""
        return plain(asdict(self))

    def by(self, threshold: float | None) -> Stored | None:
        """The same with another threshold, None for its own; None if it cannot be in force."""
        if threshold is None:
            return self
        within = self.largest is not None and threshold <= self.largest
        return replace(self, threshold=threshold) if within else None

    @property
    def decision_scores_(self) -> Scores:
        """Scores of the training images, shape (N,), as detectors have them."""
        return np.array(self.training, dtype=np.float64)

    def area_of(self, image: Item) -> Area | None:
        """See :class:`Judge`."""
        return area_of(self._roi, image)

    @cached_property
    def _roi(self) -> Roi | None:
        return roi_of(self.roi)

    def label_threshold(self) -> float:
        """See :class:`Judge`.

        Raises:
            ValueError: If there is none.
        """
        if self.threshold is None:
            raise ValueError("The results do not tell the detector's own threshold.")
        return self.threshold

    def region_threshold(self) -> float:
        """See :class:`Judge`."""
        return self.share * self.label_threshold() if self.region is None else self.region

    def region_share(self) -> float:
        """See :class:`Judge`."""
        return self.share if self.region is None else 0.0

    def usual(self) -> Usual | None:
        """See :class:`Judge`."""
        looks = np.reshape(self.looks, (len(self.looks), MEASURES))
        return Usual(self.decision_scores_, looks, self.parts) if self.parts else None


def short_name(judge: Judge) -> str:
    """The name of a detector in front of a progress bar, such as PatchKNN."""
    name = judge.detector if isinstance(judge, Stored) else type(judge).__name__
    return name.removeprefix("VisionOpenCLIP")


def is_pool(judge: Judge) -> bool:
    """Whether what a detector knows are unlabelled images that it has compared with each other."""
    return short_name(judge) == "Mutual"


def training_scores(judge: Judge) -> Scores:
    """Scores of the training images that are not refused as a whole; empty if there are none."""
    scores = getattr(judge, "decision_scores_", np.empty(0))
    return by_patches(scores, getattr(judge, "_refused_from", math.inf))


def map_of(
    results: Results,
    judge: Judge,
    record: Record,
    size: Size | None = None,
    outside: float | None = None,
) -> Floats:
    """The map of a scored image, at its size or at another one; ``outside`` where none looked."""
    whole, area = (record["height"], record["width"]), judge.area_of(record["file"][0])
    inside = None if area is None else resized(area.over(whole), size or whole)
    patches, smoothing = results.patches(record["image"]), judge.map_smoothing
    return anomaly_map(patches, size or whole, smoothing=smoothing, inside=inside, outside=outside)


def labelled(results: Results, record: Record, judge: Judge) -> Record:
    """The record with its label, percentile and regions by the threshold in force."""
    if "score" not in record:
        return {**record, "label": 1}  # an image that was not inspected does not pass
    hot, before = judge.region_threshold(), record["region_threshold"]
    regions = [region for region in record["regions"] if region["area"]]
    if hot != before:
        patches = results.patches(record["image"])
        if np.nanmax(patches) > min(hot, before):
            found = map_of(results, judge, record)
            if (hot_pixels(found, hot) != hot_pixels(found, before)).any():
                results.place(OVERLAYS, record["image"], "jpg").unlink(missing_ok=True)
                regions = regions_of(found, hot, record["spot"])
    flagged = "unlike" in record or record["score"] > judge.label_threshold()
    if flagged and not regions:
        regions = [record["spot"]]
    fresh = {**record, "region_threshold": hot, "regions": regions, "label": int(flagged)}
    if len(training := training_scores(judge)):
        below = np.searchsorted(np.sort(training), record["score"])
        fresh["percentile"] = float(below / len(training))
    return fresh


def regions_of(found: Floats, hot: float, spot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regions of a map as JSON values.

    Args:
        found: The map.
        hot: Map value that a hot pixel exceeds.
        spot: The hottest place by any threshold. The whole image gives it its name, if it has one,
            so that the hottest region has the same.
    """
    regions = [plain_region(region) for region in find_regions(found, hot, REGIONS)]
    for hottest in regions[:1]:
        hottest |= {name: spot[name] for name in ("defect", "probability")}
    return regions


def plain_region(region: Region) -> dict[str, Any]:
    """A region as JSON values."""
    return plain(asdict(region))
