"""Builds report sections from results folders."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import numpy as np
from PIL import Image

from ..files.atomic import write_atomically
from ..files.remote import is_remote
from ..images.reading import read_pixels
from ..maps.levels import Levels
from ..maps.pictures import jpeg
from ..maps.regions import lowest_of
from ..report.page import Finding, Neighbour, Section, crop, render_report
from .drawing import Drawing, fair_side, original
from .judging import Judge, is_pool, map_of, training_scores
from .messages import encodable
from .places import THUMBNAILS
from .results import Record, Results
from .versions import versions

Box: TypeAlias = tuple[int, ...]
Normal: TypeAlias = Mapping[str, Mapping[Box, bytes]]  # pictures by training image and box
HEAT_SIDE = 112  # pixels, longer side; the browser interpolates
GREY = (128, 128, 128)


def build_section(
    title: str,
    results: Results,
    detector: Judge,
    drawing: Drawing,
    records: Sequence[Record],
    settings: dict[str, Any],
) -> Section:
    """Build the section of one detector."""
    scored = [record for record in records if "score" in record]
    highest = max((record["spot"]["peak"] for record in scored), default=drawing.high)
    levels = Levels.of(drawing.low, drawing.high, detector.region_threshold(), highest)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wanted = _normal_boxes(scored)
        normal = dict(zip(wanted, pool.map(_normal_patches, wanted.items()), strict=True))
        findings = list(pool.map(partial(_finding, results, detector, levels, normal), scored))
    return Section(
        title=title,
        threshold=detector.label_threshold(),
        findings=findings,
        training=training_scores(detector),
        pool=is_pool(detector),
        unreadable={r["image"]: r["error"] for r in records if "error" in r},
        settings=settings,
        folder=_folder_of(records),
        saved=settings.get("saved detector"),
        digest=results.identity.get("saved"),
        scale=(drawing.low, drawing.high),
        levels=levels.values.tolist(),
        region=detector.region_threshold(),
        follows=detector.region_share(),
    )


def _folder_of(records: Sequence[Record]) -> str:
    """The folder that the names of images are relative to."""
    if not records:
        return ""
    path, name = records[0]["file"][0], records[0]["image"].rstrip("/")
    if is_remote(path):
        return unquote(path.partition("?")[0]).removesuffix(f"/{name}")
    return str(Path(path).parents[name.count("/")])


def write_report(
    path: Path, title: str, sections: Sequence[Section], folders: Sequence[Results]
) -> None:
    """Write the report; thumbnails come from the first folder that has them."""
    pictures: dict[str, bytes] = {}
    for section, results in zip(sections, folders, strict=True):
        for finding in section.findings:
            if finding.name not in pictures:
                thumbnail = results.place(THUMBNAILS, finding.name, "jpg")
                pictures[finding.name] = (
                    thumbnail.read_bytes() if thumbnail.is_file() else _blank(*finding.size)
                )
    date = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    page = render_report(title, sections, pictures, versions(), date)
    write_atomically(path, encodable(page).encode())


def _blank(height: int, width: int) -> bytes:
    """A grey picture in place of an image that could not be drawn."""
    scale = HEAT_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return jpeg(np.asarray(Image.new("RGB", size, GREY)))


def _finding(
    results: Results, detector: Judge, levels: Levels, normal: Normal, record: Record
) -> Finding:
    height, width = record["height"], record["width"]
    scale = fair_side(HEAT_SIDE, height, width) / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = map_of(results, detector, record, size)
    return Finding(
        name=record["image"],
        score=record["score"],
        size=(height, width),
        heat=levels.picture(small),
        percentile=record.get("percentile"),
        regions=record["regions"],
        unlike=record.get("unlike"),
        neighbours=_neighbours(record, normal, detector) if record["label"] else (),
        lowest=lowest_of(small),
    )


def _neighbours(record: Record, normal: Normal, detector: Judge) -> list[Neighbour]:
    known = "pool" if is_pool(detector) else "training"
    nearest = record.get("nearest")
    if not nearest:
        return []
    pixels = original(record)
    image = None if pixels is None else Image.fromarray(pixels)
    return [
        Neighbour(
            distance=found["distance"],
            patch=None if image is None else crop(image, found["box"]),
            normal=normal.get(found["path"], {}).get(tuple(found["training_box"])),
            source=Path(found["path"]).name
            if found["path"]
            else f"{known} image {found['training_image'] + 1}",
        )
        for found in nearest
    ]


def _normal_boxes(records: Sequence[Record]) -> dict[str, set[Box]]:
    """The boxes to show of each training image; many images share a few of them."""
    wanted: dict[str, set[Box]] = defaultdict(set)
    for record in records:
        for found in record.get("nearest", ()) if record["label"] else ():
            if found["path"] is not None:
                wanted[found["path"]].add(tuple(found["training_box"]))
    return wanted


def _normal_patches(wanted: tuple[str, set[Box]]) -> dict[Box, bytes]:
    """Pictures of patches of a training image, if it is still where it was during fit."""
    path, boxes = wanted
    if not Path(path).is_file():
        return {}
    try:
        image = Image.fromarray(read_pixels(path))
    except ValueError:
        return {}
    return {box: crop(image, box) for box in boxes}
