"""The command ``export``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..encoder.hardware import choose_device, choose_dtype
from ..export.looked_at import masks_refused
from ..export.onnx_file import Exported, compare_with, export_onnx
from ..export.proof import Comparison
from ..files.atomic import check_writable
from ..files.exported import SUFFIX
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
    check_writable(to)
    found = search_images(options.verify).images if options.verify else []
    for image in found:
        if image.problem is not None:
            raise ValueError(f"{image.path} {image.problem}")
    if masks := folder_of_masks(options.detector):
        raise masks_refused(masks)  # wherever they are here
    detector = saved_detector(options)
    images = [image.path for image in found]
    done = export_onnx(detector, to, verify=images)
    here = _scored_here(options, images)
    lines = [*_lines(done), *([_advice(here, done)] if here else [])]
    return Answer(lines, {**_facts(done), "scored_here": here})


def _scored_here(options: argparse.Namespace, images: Sequence[Path]) -> dict[str, Any] | None:
    """How 'score' differs from the file on this machine; None if it computes in float32, too."""
    if choose_dtype("auto", choose_device("auto")) == torch.float32:
        return None  # without loading the model again
    usual = {**vars(options), "device": "auto", "precision": None}
    detector = saved_detector(argparse.Namespace(**usual))
    embedder = detector._embedder
    if embedder.dtype == torch.float32:  # since it was fitted so
        return None
    precision, found = str(embedder.dtype), compare_with(detector, options.to, images)
    where = {"precision": precision.removeprefix("torch."), "device": str(embedder.device)}
    return {**where, **asdict(found)}


def _advice(here: dict[str, Any], done: Exported) -> str:
    images = counted(here["images"], "generated image" if done.verified is None else "image")
    labels = len(here["labels"])
    differ = f"and {counted(labels, 'label')}" if labels else "no label differs"
    return (
        f"in {here['precision']}, as 'score' computes here ({here['device']}), scores of {images} "
        f"differ from the file's by up to {here['score']:.1e}, {differ}; fit with --precision "
        "float32 if the threshold is to come from the same arithmetic"
    )


def _lines(done: Exported) -> list[str]:
    lines = [f"{done.path}: {done.size / 1e6:.1f} MB in {done.seconds:.0f} s"]
    if done.data is not None:
        lines.append(f"weights: {done.data}, which must stay beside it: one file holds up to 2 GB")
    lines.append(_line("generated image", done.proof))
    if done.verified is not None:
        lines.append(_line("image", done.verified))
    return lines


def _line(noun: str, found: Comparison) -> str:
    line = (
        f"{counted(found.images, noun)}: scores differ by at most {found.score:.1e}, maps by at "
        f"most {found.map:.1e}, no label differs"
    )
    if not found.known:
        return line
    return (
        f"{line}, all compared as new images; the detector knows {found.known} of them or a near "
        "copy, and gives them higher scores than the file, which compares them with themselves"
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
