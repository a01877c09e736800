"""The command ``add``."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..bank.copies import CopiesWarning
from ..files.atomic import check_writable
from ..files.digest import digest_of_file
from ..files.lock import one_at_a_time
from ..maps.scores import ImageScores
from ..patchknn import VisionOpenCLIPPatchKNN
from .answer import Answer
from .detectors import saved_detector
from .fit import all_unreadable, learnt_from
from .groups import groups_of
from .identities import identity_in
from .images import most_pixels, search_images, skipped, skipped_lines
from .marks import read_marks
from .masks import places_of_masks
from .messages import UsageError, counted
from .promised import as_chosen, promise_facts, promise_line
from .suspected import doubt_about

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
    found = search_images(places, masks=places_of_masks(options))
    paths = learnt_from(places, found.images)
    digest = digest_of_file(options.detector)
    detector = saved_detector(options)
    if not isinstance(detector, VisionOpenCLIPPatchKNN):
        raise ValueError(
            f"{options.detector} is a {type(detector).__name__}; only patch-kNN learns more "
            "images. Fit it again with all of them."
        )
    check_writable(options.detector)
    before = _state(detector)
    with all_unreadable(detector, paths):
        sorted_out = _sorted_out(detector, paths)
        scored = _learn(detector, sorted_out, options, digest)
    promise = detector.promise()
    doubt = doubt_about(detector, scored, before["threshold"])
    facts = {
        "file": str(options.detector),
        "images": len(paths),
        "added": len(sorted_out.new),
        "copies": sorted_out.copies,
        "known": sorted_out.known,
        **skipped(found),
        "before": before,
        "after": _state(detector),
        "false_alarms": promise_facts(promise),
        **doubt.facts(),
    }
    return Answer(_lines(facts, [promise_line(promise), *doubt.lines()]), facts)


def _learn(
    detector: VisionOpenCLIPPatchKNN,
    sorted_out: _SortedOut,
    options: argparse.Namespace,
    digest: str | None,
) -> dict[Path, ImageScores]:
    """Learn images part by part, and return what they scored before any of them was learnt.

    The digest is that of the file that the detector was read from.
    """
    new, learnt = sorted_out.new, detector.groups_ or ()
    # Of all, so that a missing one is told first, and no name means two of them.
    paths = [*new, *sorted_out.repeated]
    told = groups_of(paths, options.group_by, learnt, sorted_out.repeated.keys())
    groups = {} if told is None else dict(zip(paths, told, strict=True))
    joining = sorted_out.joining(groups, learnt) if told and learnt else []
    # All by the detector as it is now, whatever part they are in.
    scores = detector.score_iter(new) if new else iter(())
    scored = dict[Path, ImageScores]()
    for start in range(0, len(new), PART):
        fresh = new[start : start + PART]
        scored |= zip(fresh, scores, strict=False)
        part = [*joining, *fresh]
        with warnings.catch_warnings():
            # The answer counts them, and those that join groups are the same files.
            warnings.filterwarnings("ignore", r"\d+ of \d+ images to learn", CopiesWarning)
            detector.partial_fit(part, groups=told and [groups[path] for path in part])
        with one_at_a_time(options.detector.absolute().parent):
            if digest_of_file(options.detector) != digest:
                raise ValueError(
                    f"{options.detector} was changed meanwhile; run the command again."
                )
            detector.save_checkpoint(options.detector)
            digest = digest_of_file(options.detector)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # learning has told what is odd about the files
        next(scores, None)  # ends it
    return scored


class _SortedOut(NamedTuple):
    """Images by whether there is something to learn from them.

    Attributes:
        new: Those that there is.
        repeated: What the others show as well: one of these, or an image that was learnt, by its
            index in the bank.
    """

    new: list[Path]
    repeated: dict[Path, Path | int]

    @property
    def known(self) -> int:
        """Number of those that have been learnt, so that adding them again changes nothing."""
        return sum(isinstance(same, int) for same in self.repeated.values())

    @property
    def copies(self) -> int:
        """Number of those that show the same as one of the new ones."""
        return len(self.repeated) - self.known

    def joining(self, groups: Mapping[Path, str], learnt: Sequence[str]) -> list[Path]:
        """Images by which two groups are one, since they were told to be of both.

        Args:
            groups: The group of each image, as it is told.
            learnt: The group of each image in the bank.
        """
        in_use, found = {*learnt, *(groups[path] for path in self.new)}, dict[Any, Path]()
        for path, same in self.repeated.items():
            own = learnt[same] if isinstance(same, int) else groups[same]
            if groups[path] != own and groups[path] in in_use:
                found.setdefault((groups[path], own), path)
        return list(found.values())


def _sorted_out(detector: VisionOpenCLIPPatchKNN, paths: Sequence[Path]) -> _SortedOut:
    bank, new, repeated = detector.memory_bank_, dict[str, Path](), dict[Path, Path | int]()
    for path in paths:
        within = identity_in(detector, path)
        number = bank.number_of(within)
        if number is not None:
            repeated[path] = number
        elif new.setdefault(within, path) != path:
            repeated[path] = new[within]
    return _SortedOut(list(new.values()), repeated)


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


def _lines(facts: Mapping[str, Any], notes: Sequence[str]) -> list[str]:
    before, after, copies = facts["before"], facts["after"], facts["copies"]
    lines = [f"{counted(facts['added'], 'image') if facts['added'] else 'no image'} added"]
    if copies:
        lines[0] += f", {copies} {'a copy' if copies == 1 else 'copies'}"
    if facts["known"]:
        lines[0] += f", {facts['known']} known already"
    lines.append(f"threshold: {_threshold(before, after)}")
    lines += [
        f"{name + ':':10} {before[name]} -> {after[name]}" for name in COUNTS if name in after
    ]
    lines += [*notes, *skipped_lines(facts)]
    lines.append(f"saved:     {facts['file']}" if facts["added"] else "nothing to save")
    return lines


def _threshold(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    if not after["threshold_chosen"]:
        return f"{before['threshold']:.4g} -> {after['threshold']:.4g}"
    return f"{after['threshold']:.4g}, {as_chosen(after['computed_threshold'])}"
