"""The command ``evaluate``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Size
from ..files.atomic import write_atomically
from ..images.formats import file_suffixes
from ..images.reading import read_pixels
from ..report.page import Evaluation
from .answer import Answer
from .detectors import folder_of_masks, saved_detector
from .fit import complete
from .images import ImageFile, most_pixels, search_images
from .judging import map_of
from .marks import read_marks
from .measures import curves, image_measures, pixel_measures
from .messages import UsageError, counted, listed
from .outcome import Run, section_of
from .places import REPORT
from .reporting import write_report
from .score import score_folder

EVALUATION = "evaluation.json"
GOOD, TEST, MASKS = "good", "test", "ground_truth"  # folders of MVTec AD
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
}


@dataclass(frozen=True)
class Truth:
    """Images of which it is known whether they are anomalous.

    Attributes:
        images: The images.
        labels: 1 for each that is anomalous, else 0.
        masks: For each the file of its mask; None if it is normal, or without masks.
    """

    images: Sequence[ImageFile]
    labels: npt.NDArray[np.int64]
    masks: Sequence[Path | None]


def run(options: argparse.Namespace) -> Answer:
    """Score images of which the truth is known, and measure how well that goes."""
    with most_pixels(options.max_pixels), ExitStack() as stack:
        truth = _truth(options)
        saved = [options.detector, *([] if options.compare is None else [options.compare])]
        looking = _looking_by_masks(saved) if options.roi is not None else []
        out = options.out or Path(stack.enter_context(TemporaryDirectory()))
        runs, measured = {}, {}
        for number, (title, path) in enumerate(zip(_titles(saved), saved, strict=True)):
            # --model and --pretrained say where the weights of the first one are.
            elsewhere = {"model": None, "pretrained": None} if number else {}
            roi = options.roi if path in looking else None
            chosen = {**vars(options), "detector": path, "roi": roi, **elsewhere}
            runs[title] = _scored(argparse.Namespace(**chosen), truth, out / title)
            measured[title] = _measured(runs[title], truth)
        facts: dict[str, Any] = {
            "images": len(truth.images),
            "anomalous": int(truth.labels.sum()),
            "detectors": measured,
        }
        if options.out is not None:
            facts |= _written(options.out, runs, measured, truth)
    return Answer(_text(facts), facts)


def _looking_by_masks(saved: Sequence[Path]) -> Sequence[Path]:
    """Those whose masks ``--roi`` tells the place of; all, which refuse it, if none has any."""
    return [path for path in saved if folder_of_masks(path)] or saved


def _truth(options: argparse.Namespace) -> Truth:
    places, masks = options.images, options.masks
    if options.from_report is not None:
        if places or masks:
            raise UsageError("--from-report names the images; omit folders and --masks.")
        marks = read_marks(options.from_report)
        return _labelled(marks.of_truth(0), marks.of_truth(1), None)
    if len(places) == 2:
        return _labelled(places[:1], places[1:], masks)
    if len(places) == 1 and (places[0] / TEST / GOOD).is_dir():
        test = places[0] / TEST
        bad = sorted(place for place in test.iterdir() if place.is_dir() and place.name != GOOD)
        own = places[0] / MASKS
        return _labelled([test / GOOD], bad, masks or (own if own.is_dir() else None), test)
    raise UsageError(
        "Pass a folder of normal and one of anomalous images, one folder with test/good/ and "
        "test/DEFECT/ as in MVTec AD, or --from-report FILE."
    )


def _labelled(
    good: Sequence[Path], bad: Sequence[Path], masks: Path | None, root: Path | None = None
) -> Truth:
    if not good and not bad:
        raise ValueError("There are neither normal nor anomalous images; mark some first.")
    normal, anomalous = (
        set(complete(search_images(places).images) if places else ()) for places in (good, bad)
    )
    if both := sorted(str(path) for path in normal & anomalous):
        raise ValueError(f"Both normal and anomalous: {listed(both)}.")
    images = search_images([*good, *bad]).images
    labels = np.array([int(image.path in anomalous) for image in images])
    found: list[Path | None] = [None] * len(images)
    if masks is not None:
        base = (root or bad[0]).resolve()
        found = [
            _mask_of(image.path.relative_to(base), masks) if label else None
            for image, label in zip(images, labels, strict=True)
        ]
    return Truth(images, labels, found)


def _mask_of(image: Path, masks: Path) -> Path:
    """The mask of an anomalous image: of the same name, or with "_mask" behind it."""
    for stem in (image.stem, f"{image.stem}_mask"):
        for suffix in (".png", image.suffix, *sorted(file_suffixes())):
            mask = masks / image.parent / f"{stem}{suffix}"
            if mask.is_file():
                return mask
    raise ValueError(
        f"There is no mask of {image} in {masks}: expected {image.stem}.png or "
        f"{image.stem}_mask.png in {masks / image.parent}."
    )


def _titles(saved: Sequence[Path]) -> list[str]:
    stems = [path.stem for path in saved]
    if len(set(stems)) == len(stems):
        return stems
    return [f"{number}-{stem}" for number, stem in enumerate(stems, start=1)]


def _scored(options: argparse.Namespace, truth: Truth, out: Path) -> Run:
    detector = saved_detector(options)
    detector.on_error = "nan"
    return score_folder(
        detector, truth.images, out, saved=options.detector, maps="none", overlays="none"
    )


def _measured(done: Run, truth: Truth) -> dict[str, Any]:
    records, detector = done.tally.records, done.detector
    scores = np.array([record.get("score", np.nan) for record in records])
    read = ~np.isnan(scores)
    found = image_measures(scores, truth.labels, detector.label_threshold())
    found["unreadable"] = done.tally.unreadable
    found["curves"] = curves(scores, truth.labels)
    if not any(mask for mask, known in zip(truth.masks, read, strict=True) if known):
        return found
    kept = [row for row in zip(records, truth.masks, read.tolist(), strict=True) if row[2]]

    def maps_at(size: Size) -> list[Floats]:
        return [map_of(done.results, detector, record, size) for record, _, _ in kept]

    threshold = found["region_threshold"] = detector.region_threshold()
    masks = [_read_mask(mask) for _, mask, _ in kept]
    return {**found, **pixel_measures(maps_at, masks, threshold)}


def _read_mask(path: Path | None) -> npt.NDArray[np.bool_] | None:
    if path is None:
        return None
    return np.asarray((read_pixels(path) > 0).any(axis=2), bool)


def _written(
    out: Path, runs: Mapping[str, Run], measured: Mapping[str, Any], truth: Truth
) -> dict[str, str]:
    """Write the numbers and the report, in which the truth is marked already."""
    content = json.dumps(measured, indent=2) + "\n"
    write_atomically(out / EVALUATION, content.encode())
    words = {
        image.name: ("normal", "anomalous")[label]
        for image, label in zip(truth.images, truth.labels, strict=True)
    }
    sections = [
        replace(
            section_of(title, done),
            evaluation=Evaluation(_rows(measured[title]), measured[title]["curves"]),
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
    return (
        f"{100 * value['share']:.1f} % ({value['images']} of {value['of']}; 95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %)"
    )


def _text(facts: Mapping[str, Any]) -> str:
    bad, total = facts["anomalous"], facts["images"]
    lines = [f"{counted(total - bad, 'normal image')}, {bad} anomalous"]
    for title, measured in facts["detectors"].items():
        lines.append(f"\n{title} (threshold {measured['threshold']:.4g})")
        lines += [f"  {word:40} {value}" for word, value in _rows(measured).items()]
        if "auroc" not in measured:
            lines.append("  AUROC, average precision and F1 need normal and anomalous images")
        if measured["unreadable"]:
            lines.append(f"  unreadable, counted as flagged: {listed(measured['unreadable'])}")
    if "report" in facts:
        lines.append(f"\nreport: {facts['report']}")
    return "\n".join(lines)
