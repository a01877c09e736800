"""Builds report sections from results folders."""

from __future__ import annotations

import io
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import Image

from ..atomic import write_atomically
from ..detector import OpenCLIPDetector
from ..frame import read_pixels
from ..maps import anomaly_map
from ..pictures import heat_picture
from ..report import Finding, Neighbour, Region, Section, crop, render_report
from .drawing import Drawing, fair_side
from .messages import printable
from .results import THUMBNAILS, Record, Results

HEAT_SIDE = 112  # pixels, longer side; the browser interpolates
PACKAGES = ("pyimgano", "open_clip_torch", "torch", "timm", "numpy", "opencv-python", "pillow")


def build_section(
    title: str,
    results: Results,
    detector: OpenCLIPDetector,
    drawing: Drawing,
    records: Sequence[Record],
    settings: dict[str, Any],
) -> Section:
    """Build the section of one detector."""
    scored = [record for record in records if "score" in record]
    training = getattr(detector, "decision_scores_", ())
    return Section(
        title=title,
        threshold=detector.label_threshold(),
        findings=[_finding(results, drawing, record) for record in scored],
        training=training,
        unreadable={r["image"]: r["error"] for r in records if "error" in r},
        settings=settings,
    )


def write_report(
    path: Path, title: str, sections: Sequence[Section], folders: Sequence[Results]
) -> None:
    """Write the report; thumbnails come from the first folder that has them."""
    pictures: dict[str, bytes] = {}
    for section, results in zip(sections, folders, strict=True):
        for finding in section.findings:
            if finding.name not in pictures:
                thumbnail = results.place(THUMBNAILS, finding.name, "jpg")
                pictures[finding.name] = thumbnail.read_bytes()
    page = render_report(title, sections, pictures, versions())
    write_atomically(path, printable(page).encode())


def versions() -> dict[str, str]:
    """Names and versions of the installed software that affects scores."""
    found = {"Python": platform.python_version(), "platform": platform.platform(terse=True)}
    known = {package: installed(package) for package in PACKAGES}
    return {**found, **{name: number for name, number in known.items() if number is not None}}


def installed(package: str) -> str | None:
    """Version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _finding(results: Results, drawing: Drawing, record: Record) -> Finding:
    height, width = record["height"], record["width"]
    scale = fair_side(HEAT_SIDE, height, width) / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = anomaly_map(results.patches(record["image"]), size)
    buffer = io.BytesIO()
    picture = heat_picture(small, low=drawing.low, high=drawing.high)
    picture.save(buffer, "PNG", optimize=True)
    return Finding(
        name=record["image"],
        score=record["score"],
        size=(height, width),
        heat=buffer.getvalue(),
        percentile=record.get("percentile"),
        regions=[
            Region(found["box"], found["peak"], found["defect"], found["probability"])
            for found in record["regions"]
        ],
        neighbours=_neighbours(record),
    )


def _neighbours(record: Record) -> list[Neighbour]:
    nearest = record.get("nearest")
    if not nearest:
        return []
    image = Image.fromarray(read_pixels(record["file"][0]))
    return [
        Neighbour(
            distance=found["distance"],
            patch=crop(image, found["box"]),
            normal=_normal_patch(found),
            source=Path(found["path"]).name
            if found["path"]
            else f"training image {found['training_image'] + 1}",
        )
        for found in nearest
    ]


def _normal_patch(found: Record) -> bytes | None:
    """The normal patch, if its image is still where it was during fit."""
    if found["path"] is None or not Path(found["path"]).is_file():
        return None
    try:
        normal = Image.fromarray(read_pixels(found["path"]))
    except ValueError:
        return None
    return crop(normal, found["training_box"])
