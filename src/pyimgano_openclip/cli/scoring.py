"""Score a list of images into a folder of results, going on where an earlier run stopped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from tqdm import tqdm

from ..detector import CHUNK, OpenCLIPDetector
from ..frame import image_size, read_pixels
from ..maps import ImageScores
from ..patchknn import VisionOpenCLIPPatchKNN
from ..prompt_scoring import NEUTRAL
from ..promptscore import VisionOpenCLIPPromptScore
from ..regions import Region, find_regions
from .images import Source
from .results import Record, Results

REGIONS = 10  # most that are listed of an image
HALF_PEAK = 0.5  # of the highest map value; what is weaker surrounds a defect, it is none
NEIGHBOURS = 3  # hottest patches of a flagged image that are shown beside a normal one


@dataclass
class Tally:
    """What a run did.

    Attributes:
        scored: Images scored in this run.
        kept: Images scored by an earlier run.
        unreadable: Names of those that cannot be read.
        records: One for each image, in order.
    """

    scored: int = 0
    kept: int = 0
    unreadable: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)


def score_into(
    results: Results,
    detector: OpenCLIPDetector,
    sources: Sequence[Source],
    *,
    skip_unreadable: bool = True,
) -> Tally:
    """Score what is not scored yet; afterwards every image has one record.

    Args:
        results: Where to. A canvas found there is the detector's from now on.
        detector: Ready to score.
        sources: The images.
        skip_unreadable: Note an image that cannot be read and go on, rather than raise.

    Raises:
        ValueError: If an image cannot be read, unless those are skipped.
    """
    if results.canvas is not None:
        detector.canvas_ = results.canvas
    todo = [source for source in sources if not results.is_done(source)]
    tally = Tally(kept=len(sources) - len(todo))
    with tqdm(total=len(sources), initial=tally.kept, unit="image", disable=None) as bar:
        for source, found in _scored(detector, todo, skip_unreadable=skip_unreadable):
            if not results.is_open or results.canvas != detector.canvas_:
                results.start(detector.canvas_)
            if isinstance(found, str):
                results.add(source, {"error": found}, None)
                tally.unreadable.append(source.name)
            else:
                results.add(source, _record(detector, source, found), found.patches)
                tally.scored += 1
            bar.update()
    threshold = threshold_of(detector)
    for source in sources:
        tally.records.append(_labelled(results.records[source.name], detector, threshold))
    results.finish(tally.records)
    return tally


def threshold_of(detector: OpenCLIPDetector) -> float:
    """The image score above which ``predict`` says 1."""
    if isinstance(detector, VisionOpenCLIPPromptScore) and not hasattr(detector, "threshold_"):
        return NEUTRAL[detector.mode]
    return float(detector.threshold_)


def region_threshold(detector: OpenCLIPDetector) -> float:
    """The map value above which ``explain`` calls a pixel hot."""
    if isinstance(detector, VisionOpenCLIPPromptScore):
        return NEUTRAL[detector.mode]
    return float(detector.threshold_)


def _scored(
    detector: OpenCLIPDetector, todo: Sequence[Source], *, skip_unreadable: bool
) -> Iterator[tuple[Source, ImageScores | str]]:
    """Every image in order, with its scores or with what is wrong with it."""
    source = iter(todo)
    while chunk := list(islice(source, CHUNK)):
        if not skip_unreadable:
            paths = [found.path for found in chunk]
            yield from zip(chunk, detector.score_iter(paths), strict=True)
            continue
        problems = {found: _problem(found, image_size) for found in chunk}
        readable = [found for found in chunk if problems[found] is None]
        scores = _each(detector, readable)
        for found in chunk:
            yield found, problems[found] or next(scores)


def _each(detector: OpenCLIPDetector, chunk: Sequence[Source]) -> Iterator[ImageScores | str]:
    """Scores of a chunk; one image at a time once a file turns out to be broken inside."""
    done = 0
    try:
        for scored in detector.score_iter([found.path for found in chunk]):
            yield scored
            done += 1
    except (ValueError, OSError):
        rest = chunk[done:]
        problems = [_problem(found, read_pixels) for found in rest]
        if not any(problems):
            raise
        for found, problem in zip(rest, problems, strict=True):
            yield problem or next(detector.score_iter([found.path]))


def _problem(source: Source, read: Any) -> str | None:
    try:
        read(source.path)
    except (ValueError, OSError) as error:
        told = str(error)
        return told if str(source.path) in told else f"{source.path} cannot be decoded: {error}"
    return None


def _record(detector: OpenCLIPDetector, source: Source, scored: ImageScores) -> Record:
    """What goes into the journal of an image that was read."""
    flagged = scored.image > threshold_of(detector)
    found = scored.anomaly_map()
    hot = max(region_threshold(detector), HALF_PEAK * float(found.max()))
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
    """The record with its label and percentile, which depend on more than its image."""
    if "score" not in record:
        return record
    labelled = {**record, "label": int(record["score"] > threshold)}
    if hasattr(detector, "decision_scores_"):
        labelled["percentile"] = float(detector.score_percentile(np.array([record["score"]]))[0])
    return labelled
