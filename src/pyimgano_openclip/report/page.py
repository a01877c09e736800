"""Builds the HTML report, one file that needs neither network nor other files.

The page is a Jinja2 template that includes its style and script. Images are stored as data of a
script element and shown only when scrolled into view, so pages with thousands stay fast.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..maps.pictures import colour_scale
from ..maps.regions import OWN
from ..version import __version__
from .templating import render

COLOURS = 64  # of the colour scale


@dataclass(frozen=True)
class Neighbour:
    """A hot patch and the normal patch nearest to it.

    Attributes:
        distance: Cosine distance between them.
        patch: Picture of the patch; None if its image is not available.
        normal: Picture of the normal patch; None if its image is not available.
        source: Name of the image that the normal patch comes from.
    """

    distance: float
    patch: bytes | None
    normal: bytes | None
    source: str


@dataclass(frozen=True)
class Finding:
    """One image of a report.

    Attributes:
        name: Name of the image, unique within a :class:`Section`.
        score: Image score; higher is more anomalous.
        size: (height, width) of the image in pixels.
        heat: Grey PNG of the anomaly map: the numbers of its levels in those of the section.
        percentile: Share of the training scores below the score, if there are any.
        regions: Hot regions, hottest first, each with the attributes of
            :class:`~..maps.regions.Region` as JSON values.
        neighbours: Hottest patches, each with its nearest normal patch.
        unlike: Why the image as a whole is nothing to be judged by its patches, if it is.
        lowest: Map value from which the peaks of regions are measured.
    """

    name: str
    score: float
    size: tuple[int, int]
    heat: bytes
    percentile: float | None = None
    regions: Sequence[Mapping[str, Any]] = ()
    neighbours: Sequence[Neighbour] = ()
    unlike: str | None = None
    lowest: float = 0.0


@dataclass(frozen=True)
class Evaluation:
    """How well a detector does on images of which the truth is known.

    Attributes:
        rows: Numbers in words, by name.
        curves: Points (x, y) in [0, 1] of each curve, by name.
    """

    rows: Mapping[str, str]
    curves: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Section:
    """Results of one detector.

    Attributes:
        title: Title of the section's tab, if there are several.
        threshold: Image score above which an image is anomalous.
        findings: The images.
        training: Scores of the images that the detector knows, shown in the histogram; may be
            empty.
        pool: Whether these are unlabelled images that were compared with each other, in place of
            normal training images.
        unreadable: For each image that could not be read, the reason.
        settings: Settings that the scores depend on.
        folder: Folder that the names of the images are relative to.
        saved: Name of the file that the detector was loaded from, if any.
        digest: Digest of what the scores depend on in that file.
        scale: Map values of the first and the last colour.
        levels: Map values that the pictures of maps tell apart, at most 256.
        region: Map value that a pixel has to exceed to be hot.
        follows: What the threshold of regions is as a multiple of that of images; then the slider
            moves contours. 0 if it is one of its own.
        truth: ``"normal"`` or ``"anomalous"`` for images that were marked as such, by name.
        evaluation: How well the detector does, if the truth is known.
    """

    title: str
    threshold: float
    findings: Sequence[Finding]
    training: Sequence[float] | npt.NDArray[np.float64] = ()
    pool: bool = False
    unreadable: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    saved: str | None = None
    digest: str | None = None
    scale: tuple[float, float] = (0.0, 1.0)
    levels: Sequence[float] = ()
    region: float = 0.0
    follows: float = 1.0
    truth: Mapping[str, str] = field(default_factory=dict)
    evaluation: Evaluation | None = None


def render_report(
    title: str,
    sections: Sequence[Section],
    pictures: Mapping[str, bytes],
    versions: Mapping[str, str],
    date: str = "",
) -> str:
    """Build the report.

    Args:
        title: Title of the page.
        sections: One section per detector, at least one.
        pictures: JPEG images by name; sections may share them.
        versions: Names and versions of the software that computed the scores.
        date: When it was written, as it is shown.

    Returns:
        Text of an HTML file.

    Raises:
        ValueError: If there is no section, or a finding has no picture.
    """
    if not sections:
        raise ValueError("A report needs at least one section.")
    for section in sections:
        for finding in section.findings:
            if finding.name not in pictures:
                raise ValueError(f"There is no picture of {finding.name}.")
    data = {
        "pictures": {name: _uri(picture) for name, picture in pictures.items()},
        "sections": [_section(section) for section in sections],
        "own": OWN,
        "colours": colour_scale(COLOURS),
    }
    return render(
        "report.html",
        title=title,
        data=_for_script(data),
        date=date,
        sections=sections,
        versions={"pyimgano-openclip": __version__, **versions},
    )


def crop(image: Image.Image, box: Sequence[int], margin: float = 1.0, side: int = 120) -> bytes:
    """Crop an image to an outlined box and its surroundings, as JPEG.

    Args:
        image: RGB image.
        box: (left, top, right, bottom) in pixels.
        margin: Width of the surroundings as a multiple of the box's longer side.
        side: Longer side of the picture in pixels.
    """
    left, top, right, bottom = box
    reach = round(margin * max(right - left, bottom - top))
    corner = max(left - reach, 0), max(top - reach, 0)
    around = image.crop(
        (*corner, min(right + reach, image.width), min(bottom + reach, image.height))
    )
    scale = side / max(around.size)
    size = (max(1, round(around.width * scale)), max(1, round(around.height * scale)))
    picture = around.resize(size, Image.Resampling.BICUBIC)
    outline = [
        min((at - corner[axis % 2]) * scale, size[axis % 2] - 1) for axis, at in enumerate(box)
    ]
    ImageDraw.Draw(picture).rectangle(outline, outline="white")
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _section(section: Section) -> dict[str, Any]:
    ordered = sorted(section.findings, key=lambda finding: -finding.score)
    return {
        "title": section.title,
        "threshold": section.threshold,
        "training": [float(score) for score in section.training],
        "pool": section.pool,
        "unreadable": len(section.unreadable),
        "folder": section.folder,
        "saved": section.saved,
        "digest": section.digest,
        "scale": section.scale,
        "levels": section.levels,
        "region": section.region,
        "follows": section.follows,
        "truth": section.truth,
        "named": bool(section.settings.get("defects")),
        "images": [
            *(_finding(finding) for finding in ordered),
            *(_unread(name, reason) for name, reason in section.unreadable.items()),
        ],
    }


def _unread(name: str, reason: str) -> dict[str, Any]:
    return {"name": name, "score": None, "error": reason, "regions": [], "neighbours": []}


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "score": finding.score,
        "height": finding.size[0],
        "width": finding.size[1],
        "percentile": finding.percentile,
        "unlike": finding.unlike,
        "heat": _uri(finding.heat, "png"),
        "lowest": finding.lowest,
        "regions": list(finding.regions),
        "neighbours": [
            {
                "distance": found.distance,
                "patch": None if found.patch is None else _uri(found.patch),
                "normal": None if found.normal is None else _uri(found.normal),
                "source": found.source,
            }
            for found in finding.neighbours
        ],
    }


def _uri(picture: bytes, kind: str = "jpeg") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def _for_script(data: object) -> str:
    """Serialise to JSON in which no file name can close the script element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
