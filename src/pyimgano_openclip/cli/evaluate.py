"""The command ``evaluate``."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
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
from .identities import identity_in
from .images import most_pixels
from .judging import map_of
from .masks import folder_of_masks
from .measures import SHARES, curves, image_measures, pixel_measures
from .messages import counted, listed, listed_with, of_each_kind
from .outcome import SOME_UNREADABLE, Run, reasons_of, section_of, unlike
from .places import REPORT
from .reporting import write_report
from .results import check_shared
from .score import score_folder
from .truth import Truth, read_truth

EVALUATION = "evaluation.json"
ROWS = {
    "auroc": "AUROC",
    "average_precision": "Average precision",
    "f1_max": "Best F1 of any threshold",
    "recall": "Recall: anomalous images flagged",
    "false_alarms": "False alarms: normal images flagged",
    "pixel_auroc": "Pixel AUROC",
    "aupro_0.3": "AUPRO up to 0.3",
    "aupro_0.05": "AUPRO up to 0.05",
    "segmentation_f1": "Segmentation F1 of the regions",
    "looked_at": "Pixels inside of the roi, which count",
    "anomalous_outside": "Anomalous pixels outside of the roi",
}


def run(options: argparse.Namespace) -> Answer:
    """Score images of which the truth is known, and measure how well that goes."""
    with most_pixels(options.max_pixels), ExitStack() as stack:
        truth = read_truth(options)
        saved = [options.detector, *([] if options.compare is None else [options.compare])]
        if options.out is not None and not options.overwrite:
            _check_unwritten(options.out, _titles(saved), truth)
        looking = _looking_by_masks(saved) if options.roi is not None else []
        out = options.out or Path(stack.enter_context(TemporaryDirectory()))
        runs, measured = {}, {}
        for number, (title, path) in enumerate(zip(_titles(saved), saved, strict=True)):
            # --model and --pretrained say where the weights of the first one are.
            elsewhere = {"model": None, "pretrained": None} if number else {}
            roi = options.roi if path in looking else None
            chosen = {**vars(options), "detector": path, "roi": roi, **elsewhere}
            detector = saved_detector(argparse.Namespace(**chosen))
            runs[title] = _scored(detector, path, truth, out / title, overwrite=options.overwrite)
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
    return Answer(_text(facts), facts, SOME_UNREADABLE if unread else 0)


def _check_unwritten(out: Path, titles: Sequence[str], truth: Truth) -> None:
    """Check that nothing of others would be replaced or removed.

    An interrupted evaluation has scored some of these images, and has written no other file.
    """
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
) -> Run:
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
    found["reasons"] = reasons_of(done)
    found["curves"] = curves(scores, truth.labels)
    if all(mask is None for mask, known in zip(truth.masks, read, strict=True) if known):
        return found
    kept = [row for row in zip(records, truth.masks, read.tolist(), strict=True) if row[2]]

    def maps_at(size: Size) -> list[Floats]:
        looked = partial(map_of, done.results, detector, size=size, outside=np.nan)
        return [looked(record) for record, _, _ in kept]

    threshold = found["region_threshold"] = detector.region_threshold()
    return {**found, **pixel_measures(maps_at, [mask for _, mask, _ in kept], threshold)}


def _learnt_from(detector: OpenCLIPDetector, truth: Truth) -> dict[str, Any]:
    """How many of the images the detector has learnt from, if there are any."""
    known, labels = detector.identities_, list[int]()
    for image, label in zip(truth.images, truth.labels.tolist(), strict=True) if known else ():
        found = attempt(partial(identity_in, detector), image.path)
        if not isinstance(found, UnreadableError) and found in known:
            labels.append(label)
    if not labels:
        return {}
    return {"learnt_from": {"normal": labels.count(0), "anomalous": labels.count(1)}}


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
                _rows(measured[title]) | _of_learnt(measured[title], normal),
                measured[title]["curves"],
            ),
            truth=words,
        )
        for title, done in runs.items()
    ]
    folders = [done.results for done in runs.values()]
    write_report(out / REPORT, f"Evaluation: {', '.join(runs)}", sections, folders)
    return {"report": str(out / REPORT), "numbers": str(out / EVALUATION)}


def _rows(measured: Mapping[str, Any]) -> dict[str, str]:
    """The numbers in words."""
    return {word: _shown(measured[name]) for name, word in ROWS.items() if name in measured}


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{100 * value:.1f} %"
    low, high = value["interval"]
    unread = f", {value['unreadable']} unreadable" if value["unreadable"] else ""
    return (
        f"{100 * value['share']:.1f} % ({value['images']} of {value['of']}{unread}; 95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %)"
    )


def _of_images(measured: Mapping[str, Any]) -> list[str]:
    """The numbers as lines, and which of the flagged images are so as a whole."""
    lines = []
    for name, word in ROWS.items():
        if name not in measured:
            continue
        lines.append(f"  {word:40} {_shown(measured[name])}")
        if name in SHARES and (reasons := measured[name]["unlike"]):
            are = "is" if len(reasons) == 1 else "are"
            lines.append(
                f"    of these, {len(reasons)} {are} anomalous as a whole, whatever the threshold: "
                f"{listed_with(reasons)}"
            )
    return lines


def _text(facts: Mapping[str, Any]) -> str:
    bad, total = facts["anomalous"], facts["images"]
    lines = [f"{counted(total - bad, 'normal image')}, {bad} anomalous"]
    if "masks_beside" in facts:
        masks = facts["masks_beside"]
        lines.append(f"{counted(len(masks), 'mask')} beside images, not scored: {listed(masks)}")
    if "copies" in facts:
        lines.append(_of_copies(facts["copies"], {"normal": total - bad, "anomalous": bad}))
    for title, measured in facts["detectors"].items():
        lines.append(f"\n{title} (threshold {measured['threshold']:.4g})")
        lines += _of_images(measured)
        if "auroc" not in measured:
            lines.append("  AUROC, average precision and F1 need normal and anomalous images")
        if "map_size" in measured and "pixel_auroc" not in measured:
            where = " inside of the roi" if "looked_at" in measured else ""
            lines.append(f"  pixel metrics need normal and anomalous pixels{where}")
        lines += [f"  {what}: {which}" for what, which in _of_learnt(measured, total - bad).items()]
        if measured["unreadable"]:
            lines.append(f"  unreadable, counted as flagged: {listed(measured['unreadable'])}")
            lines += [f"    {reason}" for reason in of_each_kind(measured["reasons"])]
    looking = ["looked_at" in measured for measured in facts["detectors"].values()]
    if any(looking) and len(looking) > 1:
        lines.append("\npixel metrics: each detector by the pixels that it looks at")
    if "empty_masks" in facts:
        lines.append(f"\nno pixel is anomalous in {listed(facts['empty_masks'])}")
    if "report" in facts:
        lines.append(f"\nreport: {facts['report']}")
    return "\n".join(lines)


def _of_copies(copies: Mapping[str, int], totals: Mapping[str, int]) -> str:
    """How many images are copies, and what that means, in words."""
    found = " and ".join(
        f"{copies[kind]} of {counted(total, f'{kind} image')}"
        for kind, total in totals.items()
        if copies[kind]
    )
    only = "is a copy of another" if sum(copies.values()) == 1 else "are copies of others"
    return f"{found} {only}; intervals hold for different images"


def _of_learnt(measured: Mapping[str, Any], normal: int) -> dict[str, str]:
    """Which images were learnt from, and what that means, in words."""
    known = measured.get("learnt_from", {"normal": 0, "anomalous": 0})
    found = {}
    if known["normal"]:
        found["Learnt from"] = (
            f"{known['normal']} of the {counted(normal, 'normal image')}: their false alarms "
            "follow from contamination; use others"
        )
    if known["anomalous"]:
        found["Learnt from as normal"] = counted(known["anomalous"], "anomalous image")
    return found
