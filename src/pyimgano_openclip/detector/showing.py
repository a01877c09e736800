"""How a detector is printed, logged and shown in a notebook, without loading any weights."""

from __future__ import annotations

import logging
import reprlib
from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arrays import Size
from ..encoder.tokens import InjectedEmbedder
from ..images.notices import stretching, tell_stretching
from ..report.templating import render

if TYPE_CHECKING:
    from .base import OpenCLIPDetector

LOG = logging.getLogger("pyimgano_openclip")
MOST_CHARACTERS = 60  # of an argument's value
MOST_ITEMS = 4  # shown of a list


def line(detector: OpenCLIPDetector) -> str:
    """Class, arguments that differ from their defaults, and state, on one line."""
    with detector._lock:  # arguments and state of one moment
        chosen, facts = _chosen(detector), detector._learnt_facts()
    arguments = ", ".join(f"{name}={value}" for name, value in chosen.items())
    state = ", ".join(" ".join(fact) for fact in facts.items())
    return f"<{type(detector).__name__}({arguments}): {state}>"


def table(detector: OpenCLIPDetector) -> str:
    """A small HTML table for notebooks, without colours of its own to fit any theme."""
    with detector._lock:
        facts = {**tower_facts(detector), **detector._learnt_facts()}
        chosen = _chosen(detector)
    return render("detector.html", name=type(detector).__name__, facts=facts, settings=chosen)


def tower_facts(detector: OpenCLIPDetector) -> dict[str, str]:
    """The tower, its device and precision, and the canvas once it is chosen."""
    embedder = detector._embedder
    if not hasattr(embedder, "origin"):
        return {"tower": "custom embedder"}
    facts = {
        "tower": embedder.origin,
        "device": f"{embedder.device}, {str(embedder.dtype).removeprefix('torch.')}",
    }
    if detector.canvas_ is not None:
        facts["images resized to"] = "{} x {} pixels".format(*detector.canvas_)
    return {**facts, **resolution_facts(detector)}


def resolution_facts(detector: OpenCLIPDetector) -> dict[str, str]:
    """How ``smallest_defect`` is met, once the canvas is chosen: windows, patch, and cost."""
    embedder = detector._embedder
    if isinstance(embedder, InjectedEmbedder) or detector.canvas_ is None:
        return {}
    resolution = embedder.resolution(detector.canvas_, _usual_size(detector), detector.roi_)
    return {} if resolution is None else {"resolution": resolution}


def patch_facts(detector: OpenCLIPDetector) -> dict[str, str]:
    """How much of the training images a patch covers, and whether that differs much."""
    facts, told = resolution_facts(detector) or _covered(detector), stretched(detector)
    return facts if told is None else {**facts, "proportions": told}


def tell_learnt(detector: OpenCLIPDetector, *, known: bool = False) -> None:
    """Log how images are seen; warn if they are stretched much, unless that is known."""
    for fact in patch_facts(detector).values():
        LOG.info("%s: %s", type(detector).__name__, fact)
    told = stretched(detector)
    if told is not None and not known:
        tell_stretching(told)


def stretched(detector: OpenCLIPDetector) -> str | None:
    """What is done to training images of very different proportions, unless it was asked for."""
    embedder, learnt = detector._embedder, detector._learnt
    if isinstance(embedder, InjectedEmbedder) or embedder.resize != "keep":
        return None
    if learnt.canvas is None or not learnt.each_size:
        return None
    return stretching(learnt.each_size, learnt.canvas)


def _covered(detector: OpenCLIPDetector) -> dict[str, str]:
    """What a patch covers, where ``smallest_defect`` does not tell."""
    embedder, canvas, size = detector._embedder, detector._learnt.canvas, _usual_size(detector)
    if isinstance(embedder, InjectedEmbedder) or canvas is None or size is None:
        return {}
    height, width = np.array(size) * embedder.tower.patch_size / canvas
    one = len(set(detector._learnt.each_size)) == 1
    images = "these images" if one else "images of the usual size"
    covered = f"one patch covers {height:.0f} x {width:.0f} pixels of {images}"
    return {"resolution": f"{covered}; smaller defects are hard to see (smallest_defect)"}


def _usual_size(detector: OpenCLIPDetector) -> Size | None:
    """The median (height, width) of the training images in pixels; None if it is not known."""
    sizes = detector._learnt.each_size
    if not sizes:
        return None
    height, width = np.median(sizes, axis=0).tolist()
    return round(height), round(width)


def learnt_facts(detector: OpenCLIPDetector) -> dict[str, str]:
    """What any detector has learnt."""
    scores = getattr(detector, "decision_scores_", None)
    threshold = getattr(detector, "threshold_", None)
    return {
        "fitted on": "nothing" if scores is None else f"{len(scores)} images",
        "threshold": "not set" if threshold is None else f"{threshold:.4g}",
        **resolution_facts(detector),
    }


def _chosen(detector: OpenCLIPDetector) -> dict[str, str]:
    """Short representations of the arguments that differ from their defaults."""
    defaults = signature(type(detector)).parameters
    settings: dict[str, Any] = detector.get_params(deep=False)
    found = {
        name: _short(value)
        for name, value in settings.items()
        if _short(value) != _short(defaults[name].default)
    }
    if isinstance(settings["roi"], Mapping):  # run lengths
        found["roi"] = f"<{detector._roi}>"
    return found


def _short(value: Any) -> str:
    """A value on part of a line; lists, as they are read from a checkpoint, like tuples."""
    return _Short().repr(tuple(value) if isinstance(value, list) else value)


class _Short(reprlib.Repr):
    """Shortens the values of arguments to fit on a line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = MOST_CHARACTERS
        self.maxlist = self.maxtuple = self.maxdict = MOST_ITEMS

    def repr_ndarray(self, array: np.ndarray[Any, Any], _level: int) -> str:
        """Show shape and type instead of numbers."""
        return f"array of shape {array.shape}, {array.dtype}"
