"""How a detector is printed and shown in a notebook, without loading any weights."""

from __future__ import annotations

import reprlib
from inspect import signature
from typing import Any

import numpy as np

from .templating import render

LONGEST = 60  # maximum number of characters of an argument's value
MOST = 4  # maximum number of items shown of a list


class ShownDetector:
    """The part of a detector that describes its settings and its state."""

    _embedder: Any
    canvas_: Any

    def __repr__(self) -> str:
        """Class, arguments that differ from their defaults, and state, on one line."""
        arguments = ", ".join(f"{name}={value}" for name, value in self._chosen().items())
        state = ", ".join(" ".join(fact) for fact in self._learnt_facts().items())
        return f"<{type(self).__name__}({arguments}): {state}>"

    def _repr_html_(self) -> str:
        """A small table for notebooks, without colours of its own to fit any theme."""
        facts = {**self.tower_facts(), **self._learnt_facts()}
        return render(
            "detector.html", name=type(self).__name__, facts=facts, settings=self._chosen()
        )

    def _chosen(self) -> dict[str, str]:
        """Short representations of the arguments that differ from their defaults."""
        defaults = signature(type(self)).parameters
        settings: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        short = _Short().repr
        return {
            name: short(value)
            for name, value in settings.items()
            if short(value) != short(defaults[name].default)
        }

    def tower_facts(self) -> dict[str, str]:
        """The tower, its device and precision, and the canvas once it is chosen."""
        embedder = self._embedder
        if not hasattr(embedder, "origin"):
            return {"tower": "custom embedder"}
        facts = {
            "tower": embedder.origin,
            "device": f"{embedder.device}, {str(embedder.dtype).removeprefix('torch.')}",
        }
        if self.canvas_ is not None:
            facts["images resized to"] = "{} x {} pixels".format(*self.canvas_)
        return facts

    def _learnt_facts(self) -> dict[str, str]:
        """What the detector has learnt; subclasses add to it."""
        scores = getattr(self, "decision_scores_", None)
        threshold = getattr(self, "threshold_", None)
        return {
            "fitted on": "nothing" if scores is None else f"{len(scores)} images",
            "threshold": "not set" if threshold is None else f"{threshold:.4g}",
        }


class _Short(reprlib.Repr):
    """Shortens the values of arguments to fit on a line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST
        self.maxlist = self.maxtuple = self.maxdict = MOST

    def repr_ndarray(self, array: np.ndarray[Any, Any], _level: int) -> str:
        """Show shape and type instead of numbers."""
        return f"array of shape {array.shape}, {array.dtype}"
