"""The command ``add``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.digest import digest_of_file
from ..images.identity import of_pixels
from ..images.reading import read_pixels
from ..images.roi import identity_within
from ..patchknn import VisionOpenCLIPPatchKNN
from .answer import Answer
from .detectors import saved_detector
from .fit import all_unreadable, complete
from .groups import groups_of
from .images import most_pixels, search_images, skipped, skipped_lines
from .marks import read_marks
from .messages import UsageError, counted
from .promised import as_chosen

COUNTS = ("images", "parts", "patches")
PART = 100  # images that are learnt between two savings


def run(options: argparse.Namespace) -> Answer:
    """Add normal images to a saved detector, part by part.

    After each part its file is replaced, completely or not at all. The same command goes on after
    an interruption, since images that have been learnt are known.
    """
    with most_pixels(options.max_pixels):
        return _run(options)


def _run(options: argparse.Namespace) -> Answer:
    if bool(options.images) == (options.from_report is not None):
        raise UsageError("Pass either images or folders, or --from-report FILE.")
    places = options.images or read_marks(options.from_report).false_alarms
    if not places:
        raise ValueError(
            f"{options.from_report} has no false alarm: mark flagged images as normal first."
        )
    found = search_images(places)
    paths = complete(found.images)
    digest = digest_of_file(options.detector)
    detector = saved_detector(options)
    if not isinstance(detector, VisionOpenCLIPPatchKNN):
        raise ValueError(
            f"{options.detector} is a {type(detector).__name__}; only patch-kNN learns more "
            "images. Fit it again with all of them."
        )
    before = _state(detector)
    with all_unreadable(paths):
        new = [path for path in paths if not _is_known(detector, path)]
        _learn(detector, new, options, digest)
    facts = {
        "file": str(options.detector),
        "images": len(paths),
        "added": len(new),
        **skipped(found),
        "before": before,
        "after": _state(detector),
    }
    return Answer(_text(facts), facts)


def _learn(
    detector: VisionOpenCLIPPatchKNN,
    new: list[Path],
    options: argparse.Namespace,
    digest: str | None,
) -> None:
    """Learn images part by part; the digest is that of the file that the detector was read from."""
    # Of all, so that a missing one is told first.
    groups = groups_of(new, options.group_by, detector.groups_ or ())
    for start in range(0, len(new), PART):
        part = slice(start, start + PART)
        detector.partial_fit(new[part], groups=groups and groups[part])
        if digest_of_file(options.detector) != digest:
            raise ValueError(f"{options.detector} was changed meanwhile; run the command again.")
        detector.save_checkpoint(options.detector)
        digest = digest_of_file(options.detector)


def _is_known(detector: VisionOpenCLIPPatchKNN, path: Path) -> bool:
    """Whether an image has been learnt, so that adding it again changes nothing."""
    image = of_pixels(read_pixels(path))
    within = identity_within(image, detector.roi_, detector.area_of(path))
    return detector.memory_bank_.number_of(within) is not None


def _state(detector: VisionOpenCLIPPatchKNN) -> dict[str, Any]:
    groups = detector.groups_
    return {
        **({} if groups is None else {"parts": len(set(groups))}),
        "threshold": detector.threshold_,
        "threshold_chosen": detector.threshold_chosen_,
        "computed_threshold": detector.computed_threshold(),
        "images": len(detector.memory_bank_.images),
        "patches": len(detector.memory_bank_),
        "covering_distance": detector.covering_distance_,
    }


def _text(facts: Mapping[str, Any]) -> str:
    before, after = facts["before"], facts["after"]
    known = facts["images"] - facts["added"]
    lines = [f"{counted(facts['added'], 'image')} added"]
    if known:
        lines[0] += f", {known} known already"
    lines.append(f"threshold: {_threshold(before, after)}")
    lines += [
        f"{name + ':':10} {before[name]} -> {after[name]}" for name in COUNTS if name in after
    ]
    lines += skipped_lines(facts)
    lines.append(f"saved:     {facts['file']}" if facts["added"] else "nothing to save")
    return "\n".join(lines)


def _threshold(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if not after["threshold_chosen"]:
        return f"{before['threshold']:.4g} -> {after['threshold']:.4g}"
    return f"{after['threshold']:.4g}, {as_chosen(after['computed_threshold'])}"
