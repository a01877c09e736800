"""The command ``fit``."""

from __future__ import annotations

import argparse

from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from .answer import Answer
from .detectors import new_detector
from .images import find_images


def run(options: argparse.Namespace) -> Answer:
    """Fit a detector on normal images and save it."""
    if options.out.is_dir():
        raise ValueError(f"{options.out} is a folder; pass a file name such as screw.safetensors.")
    if options.as_references and options.class_name is None:
        raise ValueError("--as-references needs --class-name: it compares images as well as texts.")
    sources = find_images(options.normal)
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
        "threshold": detector.threshold_,
        "contamination": detector.contamination,
        "canvas": detector.canvas_,
        "file": str(options.out),
        "bytes": options.out.stat().st_size,
    }
    text = f"{facts['detector']}: {len(sources)} normal images, threshold {detector.threshold_:.4g}"
    if isinstance(detector, VisionOpenCLIPPatchKNN):
        facts["patches"] = len(detector.memory_bank_)
        text += f", {facts['patches']} stored patches"
    return Answer(f"{text}\nsaved:  {options.out}", facts)
