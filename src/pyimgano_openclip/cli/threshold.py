"""The command ``threshold``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..checks import check_number
from ..detector.learnt import Calibration
from ..detector.promises import promise, tell_few, upper_quantile
from ..detector.saving import (
    BY_REFERENCES,
    THRESHOLD_CHOSEN,
    THRESHOLDS,
    TRAINING_SCORES,
    saved_calibration,
    saved_method,
    saved_peaks,
    threshold_chosen,
)
from ..detector.spans import check_threshold, of_saved
from ..detector.thresholds import HOSTS, OUTLIERS, QUANTILE, pool_threshold, threshold_from
from ..files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from ..files.lock import one_at_a_time
from ..pool.shares import SPAN
from .answer import Answer
from .console import complain
from .marks import Marks, read_marks
from .messages import as_usage, counted
from .promised import as_chosen, promise_facts, promise_line, tell_doubt

Header = Mapping[str, Any]
POOL = "VisionOpenCLIPMutual"


def run(options: argparse.Namespace) -> Answer:
    """Show or store the threshold of a saved detector; the model is not loaded."""
    with one_at_a_time(options.detector.absolute().parent):  # with 'add'
        before = read_checkpoint(options.detector)
        after = _changed(options, before)
        if after != before.header:
            write_checkpoint(options.detector, after, before.arrays)
    threshold, chosen = _in_force(after), after.get(THRESHOLD_CHOSEN, False)
    facts = {
        "file": str(options.detector),
        "detector": after["detector"],
        "threshold": threshold,
        "before": _in_force(before.header),
        "by_references": _by_references(after),
        "chosen": chosen,
        "computed": _computed(before, after["contamination"]),
        "contamination": after["contamination"],
        "training_images": len(_training_scores(before)),
        "training_images_above": _count_above(before, threshold),
        **_of_regions(before.header, after),
    }
    lines = _lines(facts)
    known = _of_normal_images(before)
    if threshold is None or known is None:
        return Answer(lines, facts)
    share, confidence = after["contamination"], after.get("confidence")
    promised = promise(known, threshold, share, confidence, chosen=chosen)
    if options.contamination is not None:
        by_rank = saved_method(before)[HOSTS[0]] in QUANTILE
        tell_few(known, threshold, share, confidence, by_rank=by_rank)
        tell_doubt(promised, confidence)
    facts |= {"false_alarms": promise_facts(promised)}
    return Answer([*lines, promise_line(promised)], facts)


def _changed(options: argparse.Namespace, found: Checkpoint) -> Header:
    """The header with the threshold that is asked for."""
    threshold_chosen(found)  # raises if it is damaged
    if options.value is not None:
        with as_usage():
            return _with_chosen(found, "SCORE", options.value)
    if options.from_report is not None:
        marks = read_marks(options.from_report)
        if other := _other(marks, found):
            raise ValueError(
                f"{options.from_report} is {other}; pass the threshold itself, "
                f"{marks.threshold:g}, if it shall hold here too."
            )
        return _with_chosen(found, f"{options.from_report}: threshold", marks.threshold)
    if options.contamination is None:
        return found.header
    with as_usage():
        share = check_number("--contamination", options.contamination, above=0, most=0.5)
    return _with_share(found, share)


def _other(marks: Marks, found: Checkpoint) -> str | None:
    """What the marks are about if not this detector, in words."""
    name = found.path.name
    if marks.detector is None:
        return f"of no saved detector, not about {name}"
    if marks.digest is not None:  # a file that was renamed is the same detector
        same = marks.digest == found.scoring_digest
    else:
        same = marks.detector == name
    if same:
        return None
    if marks.detector == name:
        return f"about another {name}, with other scores: it has learnt since or was fitted again"
    return f"about {marks.detector}, not about {name}"


def _with_share(found: Checkpoint, share: float) -> Header:
    """The header with the threshold that ``fit`` would have set by that contamination."""
    known, threshold = _calibration(found), _computed(found, share)
    if known is None:
        raise ValueError(
            f"{found.path} has no training scores; pass the threshold itself, or fit again."
        )
    if found.header["detector"] == POOL and _rule(found) == OUTLIERS:
        raise ValueError(
            f"{found.path} was fitted with threshold_rule={OUTLIERS!r}: its threshold follows from "
            f"the scores ({threshold:.6g}), not from --contamination {share:g}. Pass the threshold "
            "itself, or fit again with threshold_rule='share'."
        )
    header = {**found.header, "contamination": share}
    if not _by_references(header):
        header |= {"threshold": threshold, THRESHOLD_CHOSEN: False}
    return _with_regions(header, threshold, known, found)


def _with_chosen(found: Checkpoint, name: str, value: float) -> Header:
    threshold = check_threshold(name, value, of_saved(found.header))
    return {**found.header, "threshold": threshold, THRESHOLD_CHOSEN: True}


def _in_force(header: Header) -> float | None:
    """The threshold of images; None if there is but the neutral score."""
    own = _by_references(header)
    return header["state"][THRESHOLDS]["label"] if own else header["threshold"]


def _by_references(header: Header) -> bool:
    """Whether the thresholds are those of references, before any image was learnt from."""
    state = header["state"]
    return header["threshold"] is None and THRESHOLDS in state and bool(state.get(BY_REFERENCES))


def _with_regions(
    header: Header, label: float | None, known: Calibration, found: Checkpoint
) -> Header:
    """The same with the threshold of regions, where it is set apart."""
    state, peaks = header["state"], saved_peaks(found)
    if THRESHOLDS not in state:
        return header
    if peaks is None:
        complain(
            f"pyimgano-openclip: warning: {found.path} does not tell the peaks of the training "
            f"maps, so that the threshold of regions stays {state[THRESHOLDS]['region']:.4g}; fit "
            "again to set it by --contamination."
        )
        return header
    of_peaks = known._replace(scores=peaks)
    region = upper_quantile(of_peaks, header["contamination"], header.get("confidence"))
    thresholds = {"label": label, "region": region}
    return {**header, "state": {**state, THRESHOLDS: thresholds}}


def _computed(found: Checkpoint, share: float) -> float | None:
    """The threshold that follows from the training images; None without any."""
    known, header = _calibration(found), found.header
    if known is None:
        return None
    detector = SimpleNamespace(
        contamination=share, threshold_rule=_rule(found), **saved_method(found)
    )
    if header["detector"] == POOL:
        return pool_threshold(detector, known, SPAN)[0]
    return min(threshold_from(detector, known, header.get("confidence"))[0], of_saved(header))


def _rule(found: Checkpoint) -> Any:
    """How the threshold of a pool follows."""
    return found.header.get("learning", {}).get("threshold_rule")


def _of_normal_images(found: Checkpoint) -> Calibration | None:
    """What a threshold follows from and promises by; None without any, as in a pool."""
    return None if found.header["detector"] == POOL else _calibration(found)


def _calibration(found: Checkpoint) -> Calibration | None:
    """Scores of the training images, normal or not; of version 0.1.0 those of all."""
    scores = _training_scores(found)
    return saved_calibration(found) or (Calibration.of(scores) if len(scores) else None)


def _training_scores(found: Checkpoint) -> Any:
    if TRAINING_SCORES not in found.arrays:
        return np.empty(0)
    return found.numbers(TRAINING_SCORES, 1, "float64")


def _count_above(found: Checkpoint, threshold: float | None) -> int | None:
    if threshold is None:
        return None
    return int((_training_scores(found) > threshold).sum())


def _of_regions(before: Header, after: Header) -> dict[str, Any]:
    """The threshold of regions, where it is set apart from that of images."""
    if THRESHOLDS not in after["state"]:
        return {}
    then, now = (header["state"][THRESHOLDS]["region"] for header in (before, after))
    return {"region_threshold": now, "region_threshold_before": then}


def _lines(facts: Mapping[str, Any]) -> list[str]:
    if facts["threshold"] is None:
        return [f"{facts['file']}: no threshold; zero-shot, the neutral score decides"]
    from_them = ", from the references" if facts["by_references"] else ""
    moved = _moved(facts["before"], facts["threshold"])
    lines = [f"{facts['file']}: threshold {moved}{from_them}"]
    if "region_threshold" in facts:
        then, now = facts["region_threshold_before"], facts["region_threshold"]
        lines.append(f"of regions: {_moved(then, now)}")
    if facts["chosen"]:
        known = "pool" if facts["detector"] == POOL else "training images"
        lines.append(as_chosen(facts["computed"], known))
    if facts["training_images"]:
        above, count = facts["training_images_above"], counted(facts["training_images"], "image")
        known = "of the pool" if facts["detector"] == POOL else "that it was fitted on"
        lines.append(f"above it: {above} of the {count} {known}")
    return lines


def _moved(before: float | None, now: float) -> str:
    text = f"{now:.6g}"
    return text if before in (None, now) else f"{text}, before {before:.6g}"
