"""The command ``fit``."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..arrays import Scores
from ..detector.base import OpenCLIPDetector
from ..detector.calibrated import CalibratedDetector
from ..detector.showing import patch_facts
from ..detector.suspects import Suspect
from ..files.atomic import check_writable
from ..images.notices import MixedProportionsWarning
from ..images.reading import read_pixels
from ..images.unreadable import UnreadableError
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from .answer import Answer
from .beside import check_images_alone
from .detectors import new_detector
from .groups import groups_of, parts_line
from .images import ImageFile, most_pixels, search_images, skipped, skipped_lines
from .masks import places_of_masks
from .messages import SeveralError, UsageError, counted
from .promised import copies_lines, promise_facts, promise_line, tell_doubt
from .words import command_words, given_paths

SUFFIX = ".safetensors"
NAMED = 5  # maximum number of images that stand out, in the text


def run(options: argparse.Namespace) -> Answer:
    """Fit a detector on normal images and save it."""
    with most_pixels(options.max_pixels):
        return _run(options)


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be written or does not fit together, before anything takes time."""
    if options.out.is_dir():
        raise ValueError(f"{options.out} is a folder; pass a file name such as screw.safetensors.")
    if options.out.suffix != SUFFIX:
        raise UsageError(f"--out {options.out} must end in {SUFFIX}.")
    if options.as_references and options.class_name is None:
        raise UsageError("--as-references needs --class-name: it compares images as well as texts.")
    if os.path.lexists(options.out) and not options.overwrite:
        raise ValueError(
            f"{options.out} exists; choose another --out, or replace it with --overwrite."
        )
    check_writable(options.out)


def _run(options: argparse.Namespace) -> Answer:
    _check(options)
    found = search_images(options.normal, masks=places_of_masks(options))
    paths = learnt_from(options.normal, found.images)
    detector = new_detector(
        options, contamination=options.contamination, confidence=options.confidence
    )
    groups = groups_of(paths, options.group_by)
    _learn(detector, paths, groups, as_references=options.as_references)
    detector.save_checkpoint(options.out)
    promise = detector.promise()
    tell_doubt(promise, detector.confidence)
    seen, suspects = patch_facts(detector), detector.suspects()
    if detector.roi_ is not None:
        seen["roi"] = str(detector.roi_)
    facts = {
        "detector": type(detector).__name__,
        "images": len(paths),
        **skipped(found),
        "threshold": detector.threshold_,
        "contamination": detector.contamination,
        "false_alarms": promise_facts(promise),
        "canvas": detector.canvas_,
        **_bank_facts(detector),
        **seen,
        **({} if groups is None else {"parts": len(set(groups))}),
        "suspects": suspect_facts(paths, suspects, detector.decision_scores_),
        "file": str(options.out),
        "bytes": options.out.stat().st_size,
    }
    images = counted(len(paths), "normal image")
    text = f"{facts['detector']}: {images}, threshold {detector.threshold_:.4g}"
    masks = given_paths([options.roi])
    looks = [command_words(f"{name}: {value}", *masks) for name, value in seen.items()]
    parts = [] if groups is None else [parts_line(paths, groups, options.group_by)]
    promised = [promise_line(promise), *copies_lines(len(paths), promise)]
    notes = [*parts, *promised, *looks, *doubtful(paths, suspects), *skipped_lines(facts)]
    lines = [text + _bank_line(facts), *notes, f"saved:  {options.out}"]
    return Answer(lines, facts)


def _learn(
    detector: CalibratedDetector,
    paths: Sequence[Path],
    groups: Sequence[str] | None,
    *,
    as_references: bool,
) -> None:
    """Fit, and name all images that cannot be read if one cannot."""
    with all_unreadable(detector, paths), warnings.catch_warnings():
        warnings.simplefilter("ignore", MixedProportionsWarning)  # the answer says it
        if isinstance(detector, VisionOpenCLIPPromptScore):
            detector.fit(paths, groups=groups, use_as_references=as_references)
        else:
            detector.fit(paths, groups=groups)


def _bank_facts(detector: OpenCLIPDetector) -> dict[str, Any]:
    if not isinstance(detector, VisionOpenCLIPPatchKNN):
        return {}
    bank, distance = detector.memory_bank_, detector.covering_distance_
    return {"patches": len(bank), "patches_seen": bank.seen, "covering_distance": distance}


def _bank_line(facts: Mapping[str, Any]) -> str:
    if "patches" not in facts:
        return ""
    patches, seen = facts["patches"], facts["patches_seen"]
    if patches == seen:
        return f", {patches} stored patches"
    stored = f", {patches} of {seen} patches stored"
    if not 0 < facts["covering_distance"] < 1:  # the bound tells nothing
        return f"{stored} (--set max_patches=N)"
    return (
        f"{stored}; each of the others is within a cosine distance of about "
        f"{facts['covering_distance']:.2g} of one of them (--set max_patches=N stores more, where "
        "that is not far below the threshold)"
    )


def suspect_facts(
    paths: Sequence[Path], suspects: Sequence[Suspect], scores: Scores
) -> list[dict[str, Any]]:
    """The images that stand out, as JSON values, with their training scores beside."""
    return [
        {
            "image": str(paths[found.image]),
            "score": found.score,
            "times": found.times,
            "training_score": float(scores[found.image]),
        }
        for found in suspects
    ]


def doubtful(paths: Sequence[Path], suspects: Sequence[Suspect]) -> list[str]:
    """Lines that name the images that stand out, most first.

    Their scores are left out, since they are on another scale than the threshold.
    """
    lines = []
    for found in suspects[:NAMED]:
        times = f"{found.times:.1f}"
        above = "" if times == "1.0" else f", at {times} times the highest of the others"
        lines.append(f"{paths[found.image]} stands out{above}: is it normal?")
    more = len(suspects) - NAMED
    return [*lines, f"and {counted(more, 'other image')}"] if more > 0 else lines


def learnt_from(places: Sequence[Path], sources: Sequence[ImageFile]) -> list[Path]:
    """The paths of the images found in these places, complete and without masks.

    Raises:
        ValueError: If a folder cannot be searched, or holds what is like masks of its images.
    """
    paths = complete(sources)
    if any(place.is_dir() for place in places):
        check_images_alone(paths)
    return paths


def complete(sources: Sequence[ImageFile]) -> list[Path]:
    """The paths of the images, if nothing is missing of what the detector has to learn from."""
    for source in sources:
        if source.problem is not None:
            raise ValueError(f"{source.path} {source.problem}")
    return [source.path for source in sources]


@contextmanager
def all_unreadable(detector: OpenCLIPDetector, paths: Sequence[Path]) -> Iterator[None]:
    """Name all images that cannot be read or have no mask when learning stops at the first.

    Raises:
        SeveralError: In place of the error about the first one.
    """
    try:
        yield
    except UnreadableError:
        reasons = [reason for path in paths if (reason := _why_unreadable(detector, path))]
        if not reasons:
            raise
        if len(reasons) == 1:
            raise SeveralError(*reasons) from None
        raise SeveralError(
            f"{len(reasons)} images cannot be read; what a detector learns from must be complete:",
            *(f"  {reason}" for reason in reasons),
        ) from None


def _why_unreadable(detector: OpenCLIPDetector, path: Path) -> str | None:
    try:
        read_pixels(path)
        detector.area_of(path)
    except UnreadableError as error:
        return command_words(str(error), str(path))
    return None
