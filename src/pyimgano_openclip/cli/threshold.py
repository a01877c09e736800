"""The command ``threshold``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import check_number
from ..detector.learnt import Calibration
from ..detector.promises import upper_quantile
from ..detector.saving import TRAINING_SCORES, saved_calibration
from ..detector.spans import check_threshold, of_saved
from ..detector.thresholds import share_threshold
from ..files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ..pool.shares import SPAN
from .answer import Answer
from .marks import read_marks
from .messages import UsageError, counted

Header = Mapping[str, Any]


def run(options: argparse.Namespace) -> Answer:
    """Show or store the threshold of a saved detector; the model is not loaded."""
    before = read_checkpoint(options.detector)
    after = _changed(options, before)
    if after != before.header:
        write_checkpoint(options.detector, after, before.arrays)
    facts = {
        "file": str(options.detector),
        "detector": after["detector"],
        "threshold": after["threshold"],
        "before": before.header["threshold"],
        "contamination": after["contamination"],
        "training_images": len(_training_scores(before)),
        "training_images_above": _count_above(before, after["threshold"]),
    }
    return Answer(_text(facts), facts)


def _changed(options: argparse.Namespace, found: Checkpoint) -> Header:
    """The header with the threshold that is asked for."""
    most = of_saved(found.header)
    if options.value is not None:
        threshold = check_threshold("SCORE", options.value, most)
        return {**found.header, "threshold": threshold}
    if options.from_report is not None:
        marks = read_marks(options.from_report)
        if marks.detector not in (None, options.detector.name):
            raise ValueError(
                f"{options.from_report} is about {marks.detector}, not {options.detector.name}; "
                "pass the threshold itself if it shall hold for both."
            )
        threshold = check_threshold(f"{options.from_report}: threshold", marks.threshold, most)
        return {**found.header, "threshold": threshold}
    if options.contamination is None:
        return found.header
    try:
        share = check_number("--contamination", options.contamination, above=0, most=0.5)
    except ValueError as error:
        raise UsageError(str(error)) from error
    scores = _training_scores(found)
    if not len(scores):
        raise ValueError(
            f"{found.path} has no training scores; pass the threshold itself, or fit again."
        )
    known = saved_calibration(found) or Calibration.of(scores)
    if found.header["detector"] == "VisionOpenCLIPMutual":
        threshold = share_threshold(known.scores, share, SPAN)
    else:
        threshold = min(upper_quantile(known, share, found.header.get("confidence")), most)
    return {**found.header, "threshold": threshold, "contamination": share}


def _training_scores(found: Checkpoint) -> Any:
    if TRAINING_SCORES not in found.arrays:
        return np.empty(0)
    return found.numbers(TRAINING_SCORES, 1, "float64")


def _count_above(found: Checkpoint, threshold: float | None) -> int | None:
    if threshold is None:
        return None
    return int((_training_scores(found) > threshold).sum())


def _text(facts: Mapping[str, Any]) -> str:
    if facts["threshold"] is None:
        return f"{facts['file']}: no threshold; zero-shot, the neutral score decides"
    text = f"{facts['file']}: threshold {facts['threshold']:.6g}"
    if facts["before"] not in (None, facts["threshold"]):
        text += f", before {facts['before']:.6g}"
    if not facts["training_images"]:
        return text
    above, count = facts["training_images_above"], counted(facts["training_images"], "image")
    return f"{text}\nabove it: {above} of the {count} that it was fitted on"
