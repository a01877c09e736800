"""What is told of a run of ``score``: its report and its answer."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..report.page import Section
from .answer import Answer
from .beside import REMEDY, like_masks, told
from .doubts import doubts
from .drawing import Drawing
from .images import Found, skipped, skipped_lines
from .judging import Judge
from .messages import counted, listed, listed_with, of_each_kind
from .places import REPORT, TABLE, THUMBNAILS
from .reporting import build_section, write_report
from .results import Record, Results

UNLABELLED = (
    "These images were compared with each other: what few others resemble is anomalous; normal "
    "images ('fit --normal DIR', then --detector FILE) or --class-name WORD say more."
)
FALSE_ALARMS = "false alarms"  # name of the fact that tells what a threshold promises
ODDEST = 5  # images that are named first
SOME_UNREADABLE = 3  # exit code


@dataclass
class Tally:
    """Summary of a run.

    Attributes:
        scored: Number of images scored in this run.
        kept: Number of images scored by an earlier run.
        unreadable: Names of the images that cannot be read, and of folders that cannot be searched.
        gone: Number of images of an earlier run that are not among those of this one.
        seconds: How long the images scored in this run took, from reading to the journal.
        records: One record per image or such a folder, in order.
        latest: Those of images that were scored in this run.
    """

    scored: int = 0
    kept: int = 0
    gone: int = 0
    seconds: float = 0.0
    unreadable: list[str] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    latest: list[Record] = field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """A results folder, complete except for the report."""

    results: Results
    detector: Judge
    drawing: Drawing
    tally: Tally
    settings: Mapping[str, Any]


def answer(options: argparse.Namespace, found: Found, run: Run) -> Answer:
    """Write the report of a run, and tell what it has found."""
    report = options.out / REPORT
    title = _title(options)
    write_report(report, title, [section_of(title, run)], [run.results])
    paths = {"report": str(report), "scores": str(options.out / TABLE)}
    facts = {**summary(run), **skipped(found), **paths}
    masks, _ = like_masks([image.path for image in found.images if image.address is None])
    if masks:
        facts["doubts"].append(f"{told(masks)} and were scored too. {REMEDY}.")
    lines = _lines(facts)
    if options.detector is None and options.class_name is None:
        lines = [UNLABELLED, *_oddest(run), *lines]
    return Answer(lines, facts, SOME_UNREADABLE if run.tally.unreadable else 0)


def section_of(title: str, run: Run) -> Section:
    """Build the report section of a run."""
    return build_section(
        title, run.results, run.detector, run.drawing, run.tally.records, dict(run.settings)
    )


def summary(run: Run) -> dict[str, Any]:
    """Collect the facts that are printed about a run."""
    labels = [record["label"] for record in run.tally.records if "score" in record]
    return {
        "images": len(run.tally.records),  # the sum of anomalous, normal and unreadable ones
        "anomalous": sum(labels),
        "normal": len(labels) - sum(labels),
        "threshold": run.detector.label_threshold(),
        "scored": run.tally.scored,
        **_speed(run.tally),
        "kept": run.tally.kept,
        "gone": run.tally.gone,
        "unreadable": run.tally.unreadable,
        "reasons": reasons_of(run),
        "unlike": unlike(run.tally.records),
        "doubts": [*doubts(run.detector, run.tally.records, run.tally.latest), *undrawn(run)],
        "folder": str(run.results.folder),
    }


def reasons_of(run: Run) -> dict[str, str]:
    """Why images could not be read, by their names."""
    return {r["image"]: r["error"] for r in run.tally.records if "error" in r}


def unlike(records: Iterable[Record]) -> dict[str, str]:
    """Why images are anomalous as a whole, whatever the threshold, by their names."""
    return {r["image"]: r["unlike"] for r in records if "unlike" in r}


def undrawn(run: Run) -> list[str]:
    """A sentence about images of which there is no picture, if there are any."""
    names = [record["image"] for record in run.tally.records if "score" in record]
    missing = [name for name in names if not run.results.place(THUMBNAILS, name, "jpg").is_file()]
    if not missing:
        return []
    return [
        f"{counted(len(missing), 'image')} could not be drawn, because the files are gone or have "
        f"changed since they were scored: {listed(missing)}"
    ]


def _oddest(run: Run) -> list[str]:
    """The anomalous images with the highest scores, one a line."""
    scored = [record for record in run.tally.records if "score" in record and record["label"]]
    scored.sort(key=lambda record: record["score"], reverse=True)
    return [f"{record['score']:.4g}  {record['image']}" for record in scored[:ODDEST]]


def _speed(tally: Tally) -> dict[str, float | None]:
    """How fast this run has scored; None if it had nothing to score."""
    if not tally.scored:
        return {"images_per_second": None, "milliseconds_per_image": None}
    each = tally.seconds / tally.scored
    return {"images_per_second": 1 / each, "milliseconds_per_image": 1000 * each}


def _title(options: argparse.Namespace) -> str:
    first = options.images[0]
    if isinstance(first, str):  # a URI
        return first
    first = first.resolve()
    name = first.name if first.is_dir() else first.parent.name
    return f"{options.class_name}: {name}" if options.class_name else name


def _lines(facts: Mapping[str, Any]) -> list[str]:
    unreadable = f", {len(facts['unreadable'])} unreadable" if facts["unreadable"] else ""
    lines = [
        f"{counted(facts['images'], 'image')}, {facts['anomalous']} anomalous{unreadable} "
        f"(threshold {facts['threshold']:.4g})"
    ]
    if facts["kept"]:
        here = f", {facts['scored']} by this one" if facts["scored"] else ""
        lines.append(f"{facts['kept']} scored by an earlier run{here}")
    if facts["unreadable"]:
        lines.append(f"unreadable, labelled 1: {listed(facts['unreadable'])}")
        lines += [f"  {reason}" for reason in of_each_kind(facts["reasons"])]
    if facts["unlike"]:
        lines.append(f"scored above all thresholds: {listed_with(facts['unlike'])}")
    lines += [f"check:  {doubt}" for doubt in facts["doubts"]]
    if facts["gone"]:
        lines.append(
            f"{counted(facts['gone'], 'image')} of an earlier run not among these: results removed"
        )
    if facts["scored"]:
        lines.append(
            f"speed:  {facts['images_per_second']:.3g} images per second, "
            f"{facts['milliseconds_per_image']:.3g} ms an image"
        )
    lines += skipped_lines(facts)
    return [*lines, f"scores: {facts['scores']}", f"report: {facts['report']}"]
