"""Puts what ``evaluate`` has measured into words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .measures import SHARES
from .messages import counted, listed, listed_with, of_each_kind

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


def rows(measured: Mapping[str, Any]) -> dict[str, str]:
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


def lines_of(facts: Mapping[str, Any]) -> list[str]:
    """What an evaluation has found, for people."""
    bad = facts["anomalous"]
    totals = {"normal": facts["images"] - bad, "anomalous": bad}
    lines = [f"{counted(totals['normal'], 'normal image')}, {bad} anomalous"]
    if "masks_beside" in facts:
        masks = facts["masks_beside"]
        lines.append(f"{counted(len(masks), 'mask')} beside images, not scored: {listed(masks)}")
    if "copies" in facts:
        lines.append(_of_copies(facts["copies"], totals))
    for title, measured in facts["detectors"].items():
        lines += ["", f"{title} (threshold {measured['threshold']:.4g})"]
        lines += [*_of_images(measured), *_notes(measured, totals["normal"])]
    looking = ["looked_at" in measured for measured in facts["detectors"].values()]
    if any(looking) and len(looking) > 1:
        lines += ["", "pixel metrics: each detector by the pixels that it looks at"]
    if "empty_masks" in facts:
        lines += ["", f"no pixel is anomalous in {listed(facts['empty_masks'])}"]
    if "report" in facts:
        lines += ["", f"report: {facts['report']}"]
    return lines


def _notes(measured: Mapping[str, Any], normal: int) -> list[str]:
    """What the numbers of a detector leave out, or depend on, in lines."""
    lines = []
    if "auroc" not in measured:
        lines.append("  AUROC, average precision and F1 need normal and anomalous images")
    if "pixel_auroc" in measured and measured["image_sizes"] > 1:
        height, width = measured["map_size"]
        lines.append(
            f"  pixel metrics: all maps at {height} x {width} (height x width), since images "
            "differ in size"
        )
    if "map_size" in measured and "pixel_auroc" not in measured:
        where = " inside of the roi" if "looked_at" in measured else ""
        lines.append(f"  pixel metrics need normal and anomalous pixels{where}")
    lines += [f"  {what}: {which}" for what, which in of_learnt(measured, normal).items()]
    lines += [f"  check:  {doubt}" for doubt in measured["undrawn"]]
    if measured["unreadable"]:
        lines.append(f"  unreadable, counted as flagged: {listed(measured['unreadable'])}")
        lines += [f"    {reason}" for reason in of_each_kind(measured["reasons"])]
    return lines


def _of_copies(copies: Mapping[str, int], totals: Mapping[str, int]) -> str:
    """How many images are copies, and what that means, in words."""
    found = " and ".join(
        f"{copies[kind]} of {counted(total, f'{kind} image')}"
        for kind, total in totals.items()
        if copies[kind]
    )
    only = "is a copy of another" if sum(copies.values()) == 1 else "are copies of others"
    return f"{found} {only}; intervals hold for different images"


def of_learnt(measured: Mapping[str, Any], normal: int) -> dict[str, str]:
    """Which images were learnt from, or compared with each other, and what that means, in words."""
    if "in_pool" in measured:
        kinds = [
            counted(count, f"{kind} image") for kind, count in measured["in_pool"].items() if count
        ]
        return {"In the pool": f"{' and '.join(kinds)}, compared with each other without labels"}
    known = measured.get("learnt_from", {"normal": 0, "anomalous": 0})
    found = {}
    if known["normal"]:
        share = f"{known['normal']} of the {counted(normal, 'normal image')}"
        if not measured["threshold_chosen"]:  # which does not follow from what was learnt
            share += ": their false alarms follow from contamination"
        found["Learnt from"] = f"{share}; use others"
    if known["anomalous"]:
        found["Learnt from as normal"] = counted(known["anomalous"], "anomalous image")
    return found
