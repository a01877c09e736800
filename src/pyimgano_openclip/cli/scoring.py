"""Scores images into a results folder, resuming an earlier run where it stopped."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from tqdm import tqdm

from ..arrays import Floats
from ..detector.base import AT_FIRST, OpenCLIPDetector
from ..detector.drift import MEASURES
from ..images.once import DecodedOnce
from ..maps.gaps import UnreadableImageWarning
from ..maps.regions import hottest_spot
from ..maps.scores import ImageScores
from ..mutual import VisionOpenCLIPMutual
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from .easel import SAMPLE
from .images import ImageFile
from .judging import labelled, plain_region, regions_of, short_name
from .messages import encodable
from .outcome import Tally
from .results import Record, Results
from .words import command_words

NEIGHBOURS = 3  # hottest patches of an image, found with their nearest normal patch


class Scored(NamedTuple):
    """What became of an image.

    Attributes:
        digest: Of the bytes of its file that were scored; if it has changed since, it is scored
            again. None if it cannot be read.
        record: What the journal keeps of it; of an unreadable one only ``error``.
        patches: Its patch scores, shape (rows, cols); None if it is unreadable.
        image: Where its pixels may still be; None if it was scored elsewhere.
    """

    digest: str | None
    record: Record
    patches: Floats | None
    image: DecodedOnce | None = None


# Draws an image by its record, its patch scores and where its pixels may still be.
Draw: TypeAlias = Callable[[Record, Floats, "DecodedOnce | None"], None]
Scoring: TypeAlias = Callable[[OpenCLIPDetector, Sequence[ImageFile]], Iterator[Scored]]


def score_here(detector: OpenCLIPDetector, images: Sequence[ImageFile]) -> Iterator[Scored]:
    """Score images in this process, in order.

    Raises:
        ValueError: If an image cannot be read and the detector's ``on_error`` is ``"raise"``.
    """
    if not images:
        return
    detector.choose_canvas([image.path for image in images[:AT_FIRST]])
    read: deque[DecodedOnce] = deque()

    def noted() -> Iterator[DecodedOnce]:
        for image in images:
            read.append(DecodedOnce(image.path))
            yield read[-1]

    for found in detector.score_iter(noted(), with_tokens=True):
        image = read.popleft()
        if found.error is not None:
            reason = encodable(command_words(found.error, str(image.path)))
            yield Scored(image.digest, {"error": reason}, None)
        else:
            yield Scored(image.digest, _record(detector, found), found.patches, image)


def score_into(
    results: Results,
    detector: OpenCLIPDetector,
    sources: Sequence[ImageFile],
    score: Scoring = score_here,
    draw: Draw | None = None,
) -> Tally:
    """Score the images that have no scores yet, so that every image has one record.

    Args:
        results: Results to add to. If they have a canvas, the detector takes it over.
        detector: Detector that is ready to score. With ``on_error="nan"`` the record of an
            unreadable image has ``error`` in place of scores.
        sources: Images to score, and folders that could not be searched for some.
        score: Scores the images.
        draw: Draws an image that has been scored; None to draw later.

    Raises:
        ValueError: If an image cannot be read, or a folder not be searched, and the detector's
            ``on_error`` is ``"raise"``.
    """
    if results.canvas is not None:
        detector.use_canvas(results.canvas)
    todo = [source for source in sources if not results.keep(source)]
    tally = Tally(kept=len(sources) - len(todo))
    start = time.perf_counter()
    with (
        tqdm(
            desc=f"{short_name(detector)}: scoring",
            total=len(sources),
            initial=tally.kept,
            unit="image",
            disable=None,
        ) as bar,
        warnings.catch_warnings(),
    ):
        # Those images are reported in the results and in the answer.
        warnings.simplefilter("ignore", UnreadableImageWarning)
        images = [source for source in todo if source.problem is None]
        if draw is not None and images:
            # By the first ones, in whatever order they are scored.
            detector.choose_canvas([image.path for image in images[:AT_FIRST]])
            images = _a_sample_first(images)
        for source, found in zip(images, score(detector, images), strict=True):
            if not results.is_open or results.canvas != detector.canvas_:
                results.start(detector.canvas_)
            results.add(source, found.record, found.patches, found.digest)
            if found.patches is not None:
                tally.scored += 1
                if draw is not None:
                    draw(results.records[source.name], found.patches, found.image)
            bar.update()
    tally.seconds = time.perf_counter() - start
    _add_folders(results, detector, [source for source in todo if source.problem is not None])
    for source in sources:
        tally.records.append(labelled(results, results.records[source.name], detector))
    fresh = {source.name for source in todo}
    tally.latest += [record for record in tally.records if record["image"] in fresh]
    tally.unreadable += [record["image"] for record in tally.records if "error" in record]
    tally.gone = results.finish(tally.records)
    return tally


def _a_sample_first(images: Sequence[ImageFile]) -> list[ImageFile]:
    """The images in order, but first some from all over, by which colours are chosen."""
    step = -(-len(images) // SAMPLE)
    return [*images[::step], *(image for place, image in enumerate(images) if place % step)]


def _add_folders(
    results: Results, detector: OpenCLIPDetector, folders: Sequence[ImageFile]
) -> None:
    """Record folders that could not be searched, since what is in them was not inspected."""
    for folder in folders:
        problem = f"{folder.path} {folder.problem}"
        if detector.on_error == "raise":
            raise ValueError(problem)
        if not results.is_open:
            results.start(results.canvas or detector.canvas_)
        results.add(folder, {"error": encodable(problem)}, None, None)


def _record(detector: OpenCLIPDetector, scored: ImageScores) -> Record:
    """What a journal keeps of a readable image, enough to label it by any threshold."""
    found = scored.anomaly_map()
    threshold = detector.region_threshold()
    named = isinstance(detector, VisionOpenCLIPPromptScore) and detector.defects
    spot = plain_region(
        detector.hottest_spot(scored) if named else hottest_spot(found, scored.grid, scored.inside)
    )
    record: Record = {
        "score": scored.image,
        "height": scored.size[0],
        "width": scored.size[1],
        "region_threshold": threshold,
        "regions": regions_of(found, threshold, spot),
        "spot": spot,
    }
    if scored.look is not None:
        record["look"] = list(scored.look[:MEASURES])
    if scored.range_used is not None:
        record["range_used"] = scored.range_used
    if scored.unlike is not None:
        record["unlike"] = scored.unlike
    if scored.pages > 1:
        record["pages"] = scored.pages
    if isinstance(detector, (VisionOpenCLIPMutual, VisionOpenCLIPPatchKNN)):
        record["nearest"] = [
            {
                "box": list(match.box),
                "distance": match.distance,
                "training_image": match.training_image,
                "path": match.path,
                "training_box": list(match.training_box),
            }
            for match in detector.nearest(scored, NEIGHBOURS)
        ]
    return record
