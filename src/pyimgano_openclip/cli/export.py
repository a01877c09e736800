"""The command ``export``."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..export.looked_at import masks_refused
from ..export.onnx_file import SUFFIX, Exported, export_onnx
from ..export.proof import Comparison
from .answer import Answer
from .detectors import saved_detector
from .images import most_pixels, search_images
from .masks import folder_of_masks
from .messages import UsageError, counted


def run(options: argparse.Namespace) -> Answer:
    """Write a saved detector to an ONNX file, proved against the detector."""
    with most_pixels(options.max_pixels):
        return _run(options)


def _run(options: argparse.Namespace) -> Answer:
    to: Path = options.to
    if to.suffix != SUFFIX:
        raise UsageError(f"--to {to} must end in {SUFFIX}.")
    if os.path.lexists(to) and not options.overwrite:
        raise ValueError(f"{to} exists; choose another --to, or replace it with --overwrite.")
    found = search_images(options.verify).images if options.verify else []
    for image in found:
        if image.problem is not None:
            raise ValueError(f"{image.path} {image.problem}")
    if masks := folder_of_masks(options.detector):
        raise masks_refused(masks)  # wherever they are here
    detector = saved_detector(options)
    done = export_onnx(detector, to, verify=[image.path for image in found])
    return Answer("\n".join(_lines(done)), _facts(done))


def _lines(done: Exported) -> list[str]:
    lines = [f"{done.path}: {done.size / 1e6:.1f} MB in {done.seconds:.0f} s"]
    if done.data is not None:
        lines.append(f"weights: {done.data}, which must stay beside it: one file holds up to 2 GB")
    lines.append(_line("generated image", done.proof))
    if done.verified is not None:
        lines.append(_line("image", done.verified))
    return lines


def _line(noun: str, found: Comparison) -> str:
    return (
        f"{counted(found.images, noun)}: scores differ by at most {found.score:.1e}, maps by at "
        f"most {found.map:.1e}, no label differs"
    )


def _facts(done: Exported) -> dict[str, Any]:
    proofs = {"generated": done.proof, "verified": done.verified}
    return {
        "file": str(done.path),
        "data": None if done.data is None else str(done.data),
        "bytes": done.size,
        "seconds": round(done.seconds, 1),
        **{name: None if found is None else asdict(found) for name, found in proofs.items()},
    }
