"""The command ``fit``."""

from __future__ import annotations

import argparse
import filecmp
import sys
from collections.abc import Sequence
from pathlib import Path

from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from .answer import Answer
from .detectors import new_detector
from .images import search_images
from .messages import UsageError, counted

SUFFIX = ".safetensors"
FEW = 10  # images; fewer do not settle a threshold


def run(options: argparse.Namespace) -> Answer:
    """Fit a detector on normal images and save it."""
    if options.out.is_dir():
        raise ValueError(f"{options.out} is a folder; pass a file name such as screw.safetensors.")
    if options.out.suffix != SUFFIX:
        raise UsageError(f"--out {options.out} must end in {SUFFIX}.")
    if options.as_references and options.class_name is None:
        raise UsageError("--as-references needs --class-name: it compares images as well as texts.")
    sources, others = search_images(options.normal)
    detector = new_detector(options, contamination=options.contamination)
    paths = [source.path for source in sources]
    if isinstance(detector, VisionOpenCLIPPromptScore):
        detector.fit(paths, use_as_references=options.as_references)
    else:
        detector.fit(paths)
    detector.save_checkpoint(options.out)
    facts = {
        "detector": type(detector).__name__,
        "images": len(sources),
        "skipped": others,
        "threshold": detector.threshold_,
        "contamination": detector.contamination,
        "canvas": detector.canvas_,
        "file": str(options.out),
        "bytes": options.out.stat().st_size,
    }
    if doubt := _doubt(paths):
        sys.stderr.write(f"pyimgano-openclip: warning: {doubt}\n")
    images = counted(len(sources), "normal image")
    text = f"{facts['detector']}: {images}, threshold {detector.threshold_:.4g}"
    if isinstance(detector, VisionOpenCLIPPatchKNN):
        facts["patches"] = len(detector.memory_bank_)
        text += f", {facts['patches']} stored patches"
    if others:
        text += f"\n{counted(others, 'file')} skipped: not an image by the suffix"
    return Answer(f"{text}\nsaved:  {options.out}", facts)


def _doubt(paths: Sequence[Path]) -> str | None:
    """Why the threshold should not be trusted, if there is a reason."""
    first, *more = paths
    if more and all(filecmp.cmp(first, path, shallow=False) for path in more):
        return f"all {len(paths)} images are identical, so the threshold says nothing about others."
    if len(paths) < FEW:
        return (
            f"{counted(len(paths), 'image')} cannot settle a threshold; fit on {FEW} or more, or "
            "pass --threshold to 'score'."
        )
    return None
