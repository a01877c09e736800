"""The command ``evaluate``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..arrays import Floats, Size
from ..detector.base import OpenCLIPDetector
from ..files.atomic import write_atomically
from ..images.unreadable import UnreadableError, attempt
from ..report.page import Evaluation
from .answer import Answer
from .detectors import saved_detector
from .evaluated import lines_of, of_learnt, rows
from .identities import identity_in
from .images import most_pixels
from .judging import is_pool, map_of
from .masks import folder_of_masks
from .measures import SHARES, curves, image_measures, pixel_measures
from .outcome import SOME_UNREADABLE, Run, reasons_of, section_of, undrawn, unlike
from .places import REPORT
from .reporting import write_report
from .results import check_alone, check_shared
from .score import score_folder
from .truth import Truth, read_truth

EVALUATION = "evaluation.json"


def run(options: argparse.Namespace) -> Answer:
    """Score images of which the truth is known, and measure how well that goes."""
    with most_pixels(options.max_pixels), ExitStack() as stack:
        truth = read_truth(options)
        saved = [options.detector, *([] if options.compare is None else [options.compare])]
        if options.out is not None:
            _check_unwritten(options.out, _titles(saved), truth, overwrite=options.overwrite)
        looking = _looking_by_masks(saved) if options.roi is not None else []
        out = options.out or Path(stack.enter_context(TemporaryDirectory()))
        runs, measured = {}, {}
        for number, (title, path) in enumerate(zip(_titles(saved), saved, strict=True)):
            # --model and --pretrained say where the weights of the first one are.
            elsewhere = {"model": None, "pretrained": None} if number else {}
            roi = options.roi if path in looking else None
            chosen = {**vars(options), "detector": path, "roi": roi, **elsewhere}
            detector = saved_detector(argparse.Namespace(**chosen))
            scored = _scored(detector, path, truth, out / title, overwrite=options.overwrite)
            runs[title] = stack.enter_context(scored)
            measured[title] = _measured(runs[title], truth) | _learnt_from(detector, truth)
        facts: dict[str, Any] = {
            "images": len(truth.images),
            "anomalous": int(truth.labels.sum()),
            **({"masks_beside": [str(mask) for mask in truth.beside]} if truth.beside else {}),
            **({"copies": truth.copies} if any(truth.copies.values()) else {}),
            **({"empty_masks": [str(mask) for mask in truth.empty]} if truth.empty else {}),
            "detectors": measured,
        }
        if options.out is not None:
            facts |= _written(options.out, runs, measured, truth)
    unread = any(done.tally.unreadable for done in runs.values())
    return Answer(lines_of(facts), facts, SOME_UNREADABLE if unread else 0)


def _check_unwritten(out: Path, titles: Sequence[str], truth: Truth, *, overwrite: bool) -> None:
    """Check that nothing of others would be replaced or removed, and nobody else writes there.

    An interrupted evaluation has scored some of these images, and has written no other file.
    """
    for title in titles:
        check_alone(out / title)
    if overwrite:
        return
    for path in (out / EVALUATION, out / REPORT):
        if os.path.lexists(path):
            raise ValueError(
                f"{path} exists. Choose another folder with --out, or replace it with --overwrite."
            )
    for title in titles:
        check_shared(out / title, [image.name for image in truth.images])


def _looking_by_masks(saved: Sequence[Path]) -> Sequence[Path]:
    """Those whose masks ``--roi`` tells the place of; all, which refuse it, if none has any."""
    return [path for path in saved if folder_of_masks(path)] or saved


def _titles(saved: Sequence[Path]) -> list[str]:
    stems = [path.stem for path in saved]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{number}-{stem}" for number, stem in enumerate(stems, start=1)]


def _scored(
    detector: OpenCLIPDetector, saved: Path, truth: Truth, out: Path, *, overwrite: bool
) -> AbstractContextManager[Run]:
    detector.on_error = "nan"
    return score_folder(
        detector,
        truth.images,
        out,
        saved=saved,
        maps="none",
        overlays="none",
        overwrite=overwrite,
    )


def _measured(done: Run, truth: Truth) -> dict[str, Any]:
    records, detector = done.tally.records, done.detector
    scores = np.array([record.get("score", np.nan) for record in records])
    read = ~np.isnan(scores)
    found = image_measures(scores, truth.labels, detector.label_threshold())
    for name, kind in SHARES.items():
        if name in found:
            these = zip(records, truth.labels, strict=True)
            found[name]["unlike"] = unlike([one for one, label in these if label == kind])
    found["unreadable"] = done.tally.unreadable
    found["undrawn"] = undrawn(done)
    found["reasons"] = reasons_of(done)
    found["curves"] = curves(scores, truth.labels)
    if all(mask is None for mask, known in zip(truth.masks, read, strict=True) if known):
        return found
    kept = [row for row in zip(records, truth.masks, read.tolist(), strict=True) if row[2]]

    def maps_at(size: Size) -> list[Floats]:
        looked = partial(map_of, done.results, detector, size=size, outside=np.nan)
        return [looked(record) for record, _, _ in kept]

    found["image_sizes"] = len({(record["height"], record["width"]) for record, _, _ in kept})
    threshold = found["region_threshold"] = detector.region_threshold()
    return {**found, **pixel_measures(maps_at, [mask for _, mask, _ in kept], threshold)}


def _learnt_from(detector: OpenCLIPDetector, truth: Truth) -> dict[str, Any]:
    """How many of the images the detector has learnt from, or compared, if there are any."""
    known, labels = detector.identities_, list[int]()
    for image, label in zip(truth.images, truth.labels.tolist(), strict=True) if known else ():
        found = attempt(partial(identity_in, detector), image.path)
        if not isinstance(found, UnreadableError) and found in known:
            labels.append(label)
    if not labels:
        return {}
    counts = {"normal": labels.count(0), "anomalous": labels.count(1)}
    if is_pool(detector):
        return {"in_pool": counts}
    return {"learnt_from": counts, "threshold_chosen": detector.threshold_chosen_}


def _written(
    out: Path, runs: Mapping[str, Run], measured: Mapping[str, Any], truth: Truth
) -> dict[str, str]:
    """Write the numbers and the report, in which the truth is marked already."""
    content = json.dumps(measured, indent=2) + "\n"
    write_atomically(out / EVALUATION, content.encode())
    normal = len(truth.labels) - int(truth.labels.sum())
    words = {
        image.name: ("normal", "anomalous")[label]
        for image, label in zip(truth.images, truth.labels, strict=True)
    }
    sections = [
        replace(
            section_of(title, done),
            evaluation=Evaluation(
                rows(measured[title]) | of_learnt(measured[title], normal),
                measured[title]["curves"],
            ),
            truth=words,
        )
        for title, done in runs.items()
    ]
    folders = [done.results for done in runs.values()]
    write_report(out / REPORT, f"Evaluation: {', '.join(runs)}", sections, folders)
    return {"report": str(out / REPORT), "numbers": str(out / EVALUATION)}
