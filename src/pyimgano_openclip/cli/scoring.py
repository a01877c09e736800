"""Scores images into a results folder, resuming an earlier run where it stopped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from ..detector import OpenCLIPDetector
from ..gaps import UnreadableImageWarning
from ..maps import ImageScores
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from ..regions import Region, find_regions
from .images import Source
from .messages import printable
from .results import Record, Results

REGIONS = 10  # maximum number of regions per image
NEIGHBOURS = 3  # hottest patches of a flagged image, shown beside their nearest normal patch


@dataclass
class Tally:
    """Summary of a run.

    Attributes:
        scored: Number of images scored in this run.
        kept: Number of images scored by an earlier run.
        unreadable: Names of the images that cannot be read.
        records: One record per image, in order.
    """

    scored: int = 0
    kept: int = 0
    unreadable: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def score_into(results: Results, detector: OpenCLIPDetector, sources: Sequence[Source]) -> Tally:
    """Score the images that have no scores yet, so that every image has one record.

    Args:
        results: Results to add to. If they have a canvas, the detector takes it over.
        detector: Detector that is ready to score. With ``on_error="nan"`` the record of an
            unreadable image has ``error`` in place of scores.
        sources: Images to score.

    Raises:
        ValueError: If an image cannot be read and the detector's ``on_error`` is ``"raise"``.
    """
    if results.canvas is not None:
        detector.canvas_ = results.canvas
    todo = [source for source in sources if not results.is_done(source)]
    tally = Tally(kept=len(sources) - len(todo))
    with (
        tqdm(
            desc="scoring", total=len(sources), initial=tally.kept, unit="image", disable=None
        ) as bar,
        warnings.catch_warnings(),
    ):
        # Those images are reported in the results and in the answer.
        warnings.simplefilter("ignore", UnreadableImageWarning)
        scores = detector.score_iter([source.path for source in todo])
        for source, found in zip(todo, scores, strict=True):
            if not results.is_open or results.canvas != detector.canvas_:
                results.start(detector.canvas_)
            if found.error is not None:
                results.add(source, {"error": printable(found.error)}, None)
                tally.unreadable.append(source.name)
            else:
                results.add(source, _record(detector, source, found), found.patches)
                tally.scored += 1
            bar.update()
    threshold = detector.label_threshold()
    for source in sources:
        tally.records.append(_labelled(results.records[source.name], detector, threshold))
    results.finish(tally.records)
    return tally


def _record(detector: OpenCLIPDetector, source: Source, scored: ImageScores) -> Record:
    """The journal entry of a readable image."""
    flagged = scored.image > detector.label_threshold()
    found = scored.anomaly_map()
    hot = detector.hot_above(found)
    named = isinstance(detector, VisionOpenCLIPPromptScore) and detector.defects
    if named and flagged:
        regions = detector.explain(source.path, threshold=hot, limit=REGIONS)
    else:
        regions = find_regions(found, hot, REGIONS)
    record: Record = {
        "score": scored.image,
        "height": scored.size[0],
        "width": scored.size[1],
        "hot": hot,
        "regions": [_region(region) for region in regions],
    }
    if flagged and isinstance(detector, VisionOpenCLIPPatchKNN):
        record["nearest"] = [
            {
                "box": list(match.box),
                "distance": match.distance,
                "training_image": match.training_image,
                "path": match.path,
                "training_box": list(match.training_box),
            }
            for match in detector.nearest(source.path, NEIGHBOURS)
        ]
    return record


def _region(region: Region) -> dict[str, Any]:
    return {
        "box": list(region.box),
        "peak": region.peak,
        "area": region.area,
        "defect": region.defect,
        "probability": region.probability,
    }


def _labelled(record: Record, detector: OpenCLIPDetector, threshold: float) -> Record:
    """The record with its label and percentile."""
    if "score" not in record:
        return {**record, "label": 1}  # an image that was not inspected does not pass
    labelled = {**record, "label": int(record["score"] > threshold)}
    if hasattr(detector, "decision_scores_"):
        labelled["percentile"] = float(detector.score_percentile(np.array([record["score"]]))[0])
    return labelled
