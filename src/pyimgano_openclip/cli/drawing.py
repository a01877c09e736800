"""Draws the maps, overlays and thumbnails that a results folder does not have yet."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..atomic import write_atomically
from ..detector import OpenCLIPDetector
from ..frame import read_pixels
from ..maps import anomaly_map
from ..pictures import colour_range, map_to_16_bits, overlay, thumbnail
from ..promptscore import VisionOpenCLIPPromptScore
from .results import MAPS, OVERLAYS, THUMBNAILS, Record, Results

SETTINGS = "pictures.json"
SCALES = {"probability": (0.0, 1.0), "diff": (-2.0, 2.0), "ratio": (0.0, 1.0)}
DISTANCES = (0.0, 2.0)  # cosine
# Longer side of a thumbnail in pixels, by maximum number of images; keeps the report small enough
# to send.
THUMBNAIL_SIDES = ((60, 960), (300, 640), (1000, 400))
SMALLEST_SIDE = 280
OBLONG = 4  # aspect ratio beyond which a small picture would be a line
QUALITY = 82  # JPEG


@dataclass(frozen=True)
class Drawing:
    """How to draw the pictures, the same for all images.

    Attributes:
        maps: ``"png"``, ``"npy"`` or ``"none"``.
        overlays: ``"all"``, ``"flagged"`` or ``"none"``.
        low: Map value drawn transparent.
        high: Map value drawn in the hottest colour.
        threshold: Map value above which a pixel may be hot.
        scale_low: Map value stored as 0 in a 16-bit map.
        scale_high: Map value stored as 65535 in a 16-bit map.
        thumbnail_side: Longer side of a thumbnail in pixels.
    """

    maps: str
    overlays: str
    low: float
    high: float
    threshold: float
    scale_low: float
    scale_high: float
    thumbnail_side: int


def draw_all(
    results: Results,
    detector: OpenCLIPDetector,
    records: Sequence[Record],
    *,
    maps: str,
    overlays: str,
) -> Drawing:
    """Draw the missing pictures.

    Args:
        results: Results folder to draw into.
        detector: Detector that computed the scores.
        records: Records of the images; unreadable ones are skipped.
        maps: See :class:`Drawing`.
        overlays: See :class:`Drawing`.

    Returns:
        How the pictures are drawn.
    """
    scored = [record for record in records if "score" in record]
    drawing = _choose(results, detector, scored, maps, overlays)
    content = (json.dumps(asdict(drawing), indent=2) + "\n").encode()
    settings = results.folder / SETTINGS
    if not settings.is_file() or settings.read_bytes() != content:
        # Pictures with other colours could not be compared.
        settings.unlink(missing_ok=True)
        _discard(results, scored)
        write_atomically(settings, content)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        drawn = pool.map(partial(_draw, results, drawing), scored)
        for _ in tqdm(drawn, desc="pictures", total=len(scored), unit="image", disable=None):
            pass
    return drawing


def _choose(
    results: Results,
    detector: OpenCLIPDetector,
    scored: Sequence[Record],
    maps: str,
    overlays: str,
) -> Drawing:
    hot = detector.region_threshold()
    grids = [results.patches(record["image"]) for record in scored]
    low, high = colour_range(grids, hot) if grids else (hot, hot + 1)
    prompts = isinstance(detector, VisionOpenCLIPPromptScore)
    scale = SCALES[detector.mode] if prompts else DISTANCES
    side = next((s for most, s in THUMBNAIL_SIDES if len(scored) <= most), SMALLEST_SIDE)
    return Drawing(maps, overlays, low, high, hot, *scale, side)


def _discard(results: Results, scored: Sequence[Record]) -> None:
    for record in scored:
        for kind in (OVERLAYS, THUMBNAILS):
            results.place(kind, record["image"], "jpg").unlink(missing_ok=True)


def _draw(results: Results, drawing: Drawing, record: Record) -> None:
    name = record["image"]
    wanted: dict[str, Path] = {"thumbnail": results.place(THUMBNAILS, name, "jpg")}
    if drawing.maps != "none":
        wanted["map"] = results.place(MAPS, name, drawing.maps)
    if drawing.overlays == "all" or (drawing.overlays == "flagged" and record["label"]):
        wanted["overlay"] = results.place(OVERLAYS, name, "jpg")
    missing = {what: path for what, path in wanted.items() if not path.is_file()}
    if not missing:
        return
    found = anomaly_map(results.patches(name), (record["height"], record["width"]))
    if "map" in missing:
        write_atomically(missing["map"], _map_bytes(found, drawing))
    if "thumbnail" not in missing and "overlay" not in missing:
        return
    pixels = read_pixels(record["file"][0])
    if "thumbnail" in missing:
        small = thumbnail(pixels, fair_side(drawing.thumbnail_side, *pixels.shape[:2]))
        write_atomically(missing["thumbnail"], _jpeg(small))
    if "overlay" in missing:
        low, high = drawing.low, drawing.high
        drawn = overlay(pixels, found, low=low, high=high, threshold=record["hot"])
        write_atomically(missing["overlay"], _jpeg(drawn))


def fair_side(side: int, height: int, width: int) -> int:
    """Longer side of a small picture, greater for oblong images, whose short side would vanish.

    Args:
        side: Longer side in pixels up to proportions of 4:1; beyond, the area stays that of 4:1.
        height: Of the image.
        width: Of the image.
    """
    aspect = max(height, width) / min(height, width)
    return round(side * math.sqrt(max(1.0, aspect / OBLONG)))


def _map_bytes(found: Any, drawing: Drawing) -> bytes:
    buffer = io.BytesIO()
    if drawing.maps == "npy":
        np.save(buffer, found, allow_pickle=False)
    else:
        low, high = drawing.scale_low, drawing.scale_high
        map_to_16_bits(found, low=low, high=high).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
