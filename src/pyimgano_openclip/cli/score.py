"""The command ``score``."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..detector import OpenCLIPDetector
from ..report import Section
from .answer import Answer
from .detectors import new_detector, report_settings, saved_detector, settings_of
from .drawing import Drawing, draw_all
from .images import Source, search_images
from .messages import UsageError, counted, listed
from .reporting import build_section, write_report
from .results import REPORT, TABLE, Results
from .scoring import Tally, score_into

SOME_UNREADABLE = 3  # exit code


@dataclass(frozen=True)
class Run:
    """A results folder, complete except for the report."""

    results: Results
    detector: OpenCLIPDetector
    drawing: Drawing
    tally: Tally
    settings: Mapping[str, Any]


def run(options: argparse.Namespace) -> Answer:
    """Score images into a folder, draw the pictures and write the report."""
    _check(options)
    sources, others = search_images(options.images, leave_out=options.out)  # an earlier run's
    detector = new_detector(options) if options.detector is None else saved_detector(options)
    detector.on_error = options.on_error
    if options.threshold is not None:
        detector.threshold_ = options.threshold
    done = score_folder(
        detector,
        sources,
        options.out,
        saved=options.detector,
        maps=options.maps,
        overlays=options.overlays,
        overwrite=options.overwrite,
    )
    report = options.out / REPORT
    title = _title(options)
    write_report(report, title, [section_of(title, done)], [done.results])
    paths = {"report": str(report), "scores": str(options.out / TABLE)}
    facts = {**summary(done), "skipped": others, **paths}
    return Answer(_text(facts), facts, SOME_UNREADABLE if done.tally.unreadable else 0)


def score_folder(
    detector: OpenCLIPDetector,
    sources: Sequence[Source],
    out: Path,
    *,
    saved: Path | None = None,
    maps: str = "png",
    overlays: str = "all",
    overwrite: bool = False,
) -> Run:
    """Score and draw images, keeping what an earlier run with equal settings did.

    Args:
        detector: Detector that is ready to score; see :func:`~.scoring.score_into` for its
            ``on_error``.
        sources: Images to score.
        out: Results folder; see :class:`~.results.Results`.
        saved: File that the detector was loaded from, if any.
        maps: See :class:`~.drawing.Drawing`.
        overlays: See :class:`~.drawing.Drawing`.
        overwrite: Whether to discard earlier results.
    """
    settings = settings_of(detector)
    results = Results(out, _identity(detector, settings, saved), overwrite=overwrite)
    try:
        tally = score_into(results, detector, sources)
    finally:
        results.close()
    drawing = draw_all(results, detector, tally.records, maps=maps, overlays=overlays)
    return Run(results, detector, drawing, tally, report_settings(detector, saved))


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
        "kept": run.tally.kept,
        "unreadable": run.tally.unreadable,
        "folder": str(run.results.folder),
    }


def _check(options: argparse.Namespace) -> None:
    if (options.detector is None) == (options.class_name is None):
        raise UsageError("Pass either --detector FILE, or --class-name WORD for zero-shot scores.")
    if options.detector is not None and (options.defects or options.settings):
        raise UsageError("--defects and --set cannot change the settings of a saved detector.")


def _identity(
    detector: OpenCLIPDetector, settings: Mapping[str, Any], saved: Path | None
) -> dict[str, Any]:
    """Everything that a result depends on, without settings that only affect speed."""
    working = {"device", "precision", "batch_size", "contamination", "pretrained", "on_error"}
    identity = {name: value for name, value in settings.items() if name not in working}
    identity["threshold"] = detector.label_threshold()  # decides on regions and neighbours
    if detector.embedder is None:
        # Imports torch, which a custom embedder does not need.
        from ..weights import find_source

        identity["weights"] = find_source(
            detector.openclip_model_name,
            detector.openclip_pretrained,
            download=detector.pretrained,
            seed=detector.random_seed,
        ).identity
    if saved is not None:
        identity["saved"] = hashlib.sha256(saved.read_bytes()).hexdigest()
    return identity


def _title(options: argparse.Namespace) -> str:
    first = options.images[0].resolve()
    name = first.name if first.is_dir() else first.parent.name
    return f"{options.class_name}: {name}" if options.class_name else name


def _text(facts: Mapping[str, Any]) -> str:
    unreadable = f", {len(facts['unreadable'])} unreadable" if facts["unreadable"] else ""
    lines = [
        f"{counted(facts['images'], 'image')}, {facts['anomalous']} anomalous{unreadable} "
        f"(threshold {facts['threshold']:.4g})"
    ]
    if facts["kept"]:
        lines.append(f"{facts['kept']} scored by an earlier run, {facts['scored']} by this one")
    if facts["unreadable"]:
        lines.append(f"unreadable, labelled 1: {listed(facts['unreadable'])}")
    if facts["skipped"]:
        lines.append(f"{counted(facts['skipped'], 'file')} skipped: not an image by the suffix")
    lines += [f"scores: {facts['scores']}", f"report: {facts['report']}"]
    return "\n".join(lines)
