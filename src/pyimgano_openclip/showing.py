"""How a detector looks when it is printed and in a notebook; neither loads any weights."""

from __future__ import annotations

import reprlib
from inspect import signature
from typing import Any

import numpy as np

from .templating import render

LONGEST = 60  # characters of an argument's value
MOST = 4  # values that are shown of a list


class ShownDetector:
    """The part of a detector that tells what it is and what state it is in."""

    _embedder: Any
    canvas_: Any

    def __repr__(self) -> str:
        """The class, the arguments that are no defaults, and the state, on one line."""
        arguments = ", ".join(f"{name}={told}" for name, told in self._chosen().items())
        state = ", ".join(" ".join(fact) for fact in self._learnt_facts().items())
        return f"<{type(self).__name__}({arguments}): {state}>"

    def _repr_html_(self) -> str:
        """A small table for notebooks, without colours of its own, so that it fits any theme."""
        facts = {**self.tower_facts(), **self._learnt_facts()}
        return render(
            "detector.html", name=type(self).__name__, facts=facts, settings=self._chosen()
        )

    def _chosen(self) -> dict[str, str]:
        """The arguments that are no defaults, each short."""
        defaults = signature(type(self)).parameters
        settings: dict[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        told = _Short().repr
        return {
            name: told(value)
            for name, value in settings.items()
            if told(value) != told(defaults[name].default)
        }

    def tower_facts(self) -> dict[str, str]:
        """The tower, its device and precision, and the canvas once it is chosen."""
        embedder = self._embedder
        if not hasattr(embedder, "origin"):
            return {"tower": "an embedder of the caller's"}
        facts = {
            "tower": embedder.origin,
            "device": f"{embedder.device}, {str(embedder.dtype).removeprefix('torch.')}",
        }
        if self.canvas_ is not None:
            facts["images read at"] = "{} x {} pixels".format(*self.canvas_)
        return facts

    def _learnt_facts(self) -> dict[str, str]:
        """What the detector knows of its images; heirs tell more."""
        scores = getattr(self, "decision_scores_", None)
        threshold = getattr(self, "threshold_", None)
        return {
            "fitted on": "nothing" if scores is None else f"{len(scores)} images",
            "threshold": "not set" if threshold is None else f"{threshold:.4g}",
        }


class _Short(reprlib.Repr):
    """Values of arguments, each short enough for a line."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = LONGEST
        self.maxlist = self.maxtuple = self.maxdict = MOST

    def repr_ndarray(self, array: np.ndarray[Any, Any], _level: int) -> str:
        """Its shape and type; its numbers tell a reader nothing."""
        return f"array of shape {array.shape}, {array.dtype}"
