"""Draws the maps, overlays and thumbnails that a results folder does not have yet."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from tqdm import tqdm

from ..arrays import Floats
from ..files.atomic import write_atomically
from ..files.digest import digest_of_file
from ..files.remote import at_hand
from ..images.areas import Area, Inside
from ..images.once import DecodedOnce
from ..images.pixels import Pixels
from ..images.reading import read_pixels
from ..images.unreadable import UnreadableError
from ..maps.pictures import colour_range, heated, jpeg, map_to_16_bits, mark_inside, thumbnail
from ..maps.scores import anomaly_map
from .judging import Judge, short_name
from .places import FORMATS, MAPS, OVERLAYS, PICTURE_SETTINGS, THUMBNAILS
from .results import Record, Results

SCALES = {"probability": (0.0, 1.0), "diff": (-2.0, 2.0), "ratio": (0.0, 1.0)}
DISTANCES = (0.0, 2.0)  # cosine
# Longer side of a thumbnail in pixels, by maximum number of images; keeps the report small enough
# to send.
THUMBNAIL_SIDES = ((60, 960), (300, 640), (1000, 400))
SMALLEST_SIDE = 280
OBLONG = 4  # aspect ratio beyond which a small picture would be a line
CLOSE = 0.2  # of the range of colours, by which its ends may differ from those that all images give


@dataclass(frozen=True)
class Drawing:
    """How to draw the pictures, the same for all images.

    Attributes:
        maps: ``"png"``, ``"npy"`` or ``"none"``.
        overlays: ``"all"``, ``"flagged"`` or ``"none"``.
        low: Map value drawn transparent.
        high: Map value drawn in the hottest colour.
        scale_low: Map value stored as 0 in a 16-bit map.
        scale_high: Map value stored as 65535 in a 16-bit map.
        thumbnail_side: Longer side of a thumbnail in pixels.
        smoothing: Standard deviation of the Gaussian of maps in patches.
    """

    maps: str
    overlays: str
    low: float
    high: float
    scale_low: float
    scale_high: float
    thumbnail_side: int
    smoothing: float

    def does_for(self, other: Drawing) -> bool:
        """Whether colours chosen by some images do for all: other ones would look much alike."""
        near = CLOSE * (other.high - other.low)
        low, high = abs(self.low - other.low), abs(self.high - other.high)
        same = replace(self, low=other.low, high=other.high) == other
        return same and low <= near and high <= near


class Job(NamedTuple):
    """Pictures of an image that are missing.

    Attributes:
        record: Of the image.
        results: Where its patch scores are.
        missing: Where to write them, by what they are: ``thumbnail``, ``map``, ``overlay``.
        area: Where in the image was looked; None for everywhere.
        scores: Its patch scores, shape (rows, cols); None to read them from the results.
        image: Where its pixels may still be; None to read them from its file.
    """

    record: Record
    results: Results
    missing: dict[str, Path]
    area: Area | None
    scores: Floats | None = None
    image: DecodedOnce | None = None

    def patches(self) -> Floats:
        """The patch scores of the image, shape (rows, cols)."""
        return self.results.patches(self.record["image"]) if self.scores is None else self.scores

    def inside(self) -> Inside | None:
        """The pixels that are looked at, shape (height, width); None for all."""
        size = (self.record["height"], self.record["width"])
        return None if self.area is None else self.area.over(size)

    def write(self, found: Mapping[str, bytes | None]) -> None:
        """Write the pictures that were drawn, by what they are."""
        for what, path in self.missing.items():
            if (data := found.get(what)) is not None:
                write_atomically(path, data)


# Draws and writes pictures, and tells of each image that is done.
Painting: TypeAlias = Callable[[Drawing, Sequence[Job]], Iterator[None]]


def paint_here(drawing: Drawing, jobs: Sequence[Job]) -> Iterator[None]:
    """Draw in this process."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(partial(paint_one, drawing), jobs)


def paint_one(drawing: Drawing, job: Job) -> None:
    """Draw and write the pictures of an image."""
    missing, inside = job.missing, job.inside()
    job.write(pictures(drawing, job.record, job.patches(), missing, inside, job.image))


def draw_all(
    results: Results,
    detector: Judge,
    records: Sequence[Record],
    *,
    maps: str,
    overlays: str,
    more: bool = True,
    paint: Painting = paint_here,
) -> Drawing:
    """Draw the missing pictures.

    Images that are no longer as they were when they were scored get a map alone.

    Args:
        results: Results folder to draw into.
        detector: Detector that computed the scores.
        records: Records of the images; unreadable ones are skipped.
        maps: See :class:`Drawing`.
        overlays: See :class:`Drawing`.
        more: Whether images were added, for which the colours may have to be chosen anew.
        paint: Draws the pictures.

    Returns:
        How the pictures are drawn.
    """
    scored = [record for record in records if "score" in record]
    drawing = drawn(results.folder, maps=maps, overlays=overlays)
    if drawing is None or more:
        chosen = choose(results, detector, scored, len(records), maps, overlays)
        drawing = chosen if drawing is None or not drawing.does_for(chosen) else drawing
    settle(results, drawing, scored)
    jobs = [job for record in scored if (job := job_of(results, detector, drawing, record)).missing]
    for _ in tqdm(
        paint(drawing, jobs),
        desc=f"{short_name(detector)}: pictures",
        total=len(jobs),
        unit="image",
        disable=None,
    ):
        pass
    return drawing


def drawn(folder: Path, *, maps: str, overlays: str) -> Drawing | None:
    """How the pictures in a results folder were drawn; None if otherwise, or if nobody can tell.

    Args:
        folder: Path of the folder.
        maps: See :class:`Drawing`.
        overlays: See :class:`Drawing`.
    """
    try:
        found = Drawing(**json.loads((folder / PICTURE_SETTINGS).read_bytes()))
        sound = found.low < found.high and (found.maps, found.overlays) == (maps, overlays)
    except (OSError, ValueError, TypeError):
        return None
    return found if sound else None


def settle(results: Results, drawing: Drawing, scored: Iterable[Record]) -> None:
    """Keep how pictures are drawn, and discard those of scored images that were drawn otherwise."""
    settings = results.folder / PICTURE_SETTINGS
    content = (json.dumps(asdict(drawing), indent=2) + "\n").encode()
    if settings.is_file() and settings.read_bytes() == content:
        return
    settings.unlink(missing_ok=True)  # pictures with other colours could not be compared
    for record in scored:
        for kind in (OVERLAYS, THUMBNAILS):
            results.place(kind, record["image"], "jpg").unlink(missing_ok=True)
    write_atomically(settings, content)


def choose(
    results: Results,
    detector: Judge,
    scored: Sequence[Record],
    count: int,
    maps: str,
    overlays: str,
) -> Drawing:
    """Choose how to draw.

    Args:
        results: Where patch scores are.
        detector: Detector that computed the scores.
        scored: Records of images by which the colours are chosen.
        count: Number of all images.
        maps: See :class:`Drawing`.
        overlays: See :class:`Drawing`.
    """
    # Imports the host, which takes a second; what is only labelled anew keeps its colours.
    from ..promptscore import VisionOpenCLIPPromptScore

    hot = detector.region_threshold()
    grids = [results.patches(record["image"]) for record in scored]
    low, high = colour_range(grids, hot) if grids else (hot, hot + 1)
    scale = DISTANCES
    if isinstance(detector, VisionOpenCLIPPromptScore):
        scale = SCALES[detector.mode_in_force]
    side = next((s for most, s in THUMBNAIL_SIDES if count <= most), SMALLEST_SIDE)
    return Drawing(maps, overlays, low, high, *scale, side, detector.map_smoothing)


def pictures(
    drawing: Drawing,
    record: Record,
    patches: Floats,
    wanted: Collection[str],
    inside: Inside | None,
    image: DecodedOnce | None = None,
) -> dict[str, bytes]:
    """Draw pictures of an image.

    Args:
        drawing: How.
        record: Of the image.
        patches: Its patch scores, shape (rows, cols).
        wanted: Of ``thumbnail``, ``map`` and ``overlay``.
        inside: The pixels that are looked at, shape (height, width); None for all.
        image: Where its pixels may still be; None to read them from its file.

    Returns:
        The pictures, by what they are; the map alone if the image has changed since it was scored.
    """
    found: dict[str, bytes] = {}
    size = (record["height"], record["width"])
    heat = anomaly_map(patches, size, smoothing=drawing.smoothing, inside=inside)
    if "map" in wanted:
        found["map"] = _map_bytes(heat, drawing)
    if "thumbnail" not in wanted and "overlay" not in wanted:
        return found
    pixels = original(record, image)
    if pixels is None:
        return found
    if inside is not None:
        pixels = mark_inside(pixels, inside)
    if "thumbnail" in wanted:
        small = thumbnail(pixels, fair_side(drawing.thumbnail_side, *pixels.shape[:2]))
        found["thumbnail"] = jpeg(small)
    if "overlay" in wanted:
        low, high, hot = drawing.low, drawing.high, record["region_threshold"]
        found["overlay"] = jpeg(heated(pixels, heat, hot, low=low, high=high))
    return found


def original(record: Record, image: DecodedOnce | None = None) -> Pixels | None:
    """The pixels of an image as it was scored, shape (height, width, 3).

    Args:
        record: Of the image.
        image: Where they may still be; None to read them from its file.

    Returns:
        None if the file is gone or has changed since.
    """
    place, digest = record["file"]
    kept = None if image is None else image.take(digest)
    if kept is not None:
        return np.asarray(kept.image)
    try:
        with at_hand(place) as path:
            return read_pixels(path) if digest_of_file(path) == digest else None
    except (OSError, UnreadableError):
        return None


def job_of(results: Results, detector: Judge, drawing: Drawing, record: Record) -> Job:
    """What is to be drawn of an image that has been labelled."""
    name = record["image"]
    wanted: dict[str, Path] = {"thumbnail": results.place(THUMBNAILS, name, "jpg")}
    if drawing.maps != "none":
        wanted["map"] = results.place(MAPS, name, drawing.maps)
        for other in FORMATS - {drawing.maps}:  # of an earlier run
            results.place(MAPS, name, other).unlink(missing_ok=True)
    if drawing.overlays == "all" or (drawing.overlays == "flagged" and record["label"]):
        wanted["overlay"] = results.place(OVERLAYS, name, "jpg")
    else:  # it may have been flagged by another threshold
        results.place(OVERLAYS, name, "jpg").unlink(missing_ok=True)
    missing = {what: path for what, path in wanted.items() if not path.is_file()}
    return Job(record, results, missing, detector.area_of(record["file"][0]) if missing else None)


def fair_side(side: int, height: int, width: int) -> int:
    """Longer side of a small picture, greater for oblong images, whose short side would vanish.

    Args:
        side: Longer side in pixels up to proportions of 4:1; beyond, the area stays that of 4:1.
        height: Of the image.
        width: Of the image.
    """
    aspect = max(height, width) / min(height, width)
    return round(side * math.sqrt(max(1.0, aspect / OBLONG)))


def _map_bytes(found: Floats, drawing: Drawing) -> bytes:
    if drawing.maps == "png":
        return map_to_16_bits(found, low=drawing.scale_low, high=drawing.scale_high)
    buffer = io.BytesIO()
    np.save(buffer, found, allow_pickle=False)
    return buffer.getvalue()
