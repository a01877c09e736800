"""Saves detectors to checkpoints and restores them, completely or not at all."""

from __future__ import annotations

import copy
import math
import os
import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from . import __version__
from .checkpoint import (
    Checkpoint,
    CheckpointError,
    plain,
    read_checkpoint,
    short,
    write_checkpoint,
)
from .checks import check_count, check_number
from .embedding import InjectedEmbedder, Size
from .tensor_file import Arrays

# Constructor arguments that affect where and how to compute, not the scores.
WORKING = {
    "embedder", "device", "batch_size", "precision", "contamination", "random_seed", "on_error",
}  # fmt: skip
MODEL = {
    "openclip_model_name",
    "openclip_pretrained",
    "pretrained",
}  # identified by the weights instead
TRAINING_SCORES = "training_scores"

T = TypeVar("T", bound="SavedDetector")


class SavedDetector:
    """The part of a detector that saves and loads; subclasses provide the learnt state."""

    embedder: Any
    contamination: float
    canvas_: Size | None
    _embedder: Any
    _cache: Any
    _scorer: Any
    _stream: Any

    @property
    def _free_settings(self) -> frozenset[str]:
        """Further constructor arguments that may differ from those of a checkpoint."""
        return frozenset()

    @abstractmethod
    def _state(self) -> tuple[Arrays, dict[str, Any]]:
        """The learnt state, as arrays and as JSON values.

        Raises:
            RuntimeError: If there is none yet.
        """

    @abstractmethod
    def _restored(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """The attributes that hold the learnt state, from a checkpoint with equal settings.

        Raises:
            ValueError: If the checkpoint does not fit.
        """

    def save_checkpoint(self, path: str | os.PathLike[str]) -> Path:
        """Save the detector to one safetensors file, without the model's weights.

        An existing file is replaced completely or not at all, even if the process is killed.

        Args:
            path: Path of the file; its folder is created if needed.

        Returns:
            The path.

        Raises:
            RuntimeError: If there is nothing to save; call ``fit`` first.
            OSError: If the file cannot be written.
        """
        arrays, facts = self._state()
        header = {
            "package_version": __version__,
            "detector": type(self).__name__,
            "model": self._identity(),
            "settings": self._scoring_settings(),
            "contamination": self.contamination,
            "canvas": self.canvas_,
            "threshold": getattr(self, "threshold_", None),
            "state": facts,
        }
        if hasattr(self, "decision_scores_"):
            arrays = {**arrays, TRAINING_SCORES: self.decision_scores_}
        write_checkpoint(Path(path), plain(header), arrays)
        return Path(path)

    def load_checkpoint(self: T, path: str | os.PathLike[str]) -> T:  # noqa: PYI019 - see spool.py
        """Load the state of a detector that was saved with equal settings and an equal model.

        Scores, maps and threshold are then equal to those of the saved detector; ``contamination``
        is loaded as well. The model's weights are loaded for comparison.

        A loaded patch-kNN detector does not recognise its training images: they find their own
        patches in the bank, so their scores are near zero. Use ``decision_scores_`` for them.

        Args:
            path: File written by :meth:`save_checkpoint`.

        Returns:
            The detector itself, unchanged if anything fails.

        Raises:
            ValueError: If the file is damaged or not a checkpoint, or was saved with another model
                or with other settings that change scores; the message says what was found and
                expected.
            OSError: If the file cannot be opened.
        """
        checkpoint = read_checkpoint(Path(path))
        with _refusing(checkpoint):
            self._expect_settings(checkpoint)
        mine = self._identity()
        with _refusing(checkpoint):
            _expect_model(checkpoint, mine)
            restored = {**_common(checkpoint), **self._restored(checkpoint)}
        self._try_out(checkpoint, restored)
        for name in ("threshold_", "decision_scores_", "labels_"):
            self.__dict__.pop(name, None)
        self.__dict__.update(restored)
        self._cache.clear()
        return self

    def _expect_settings(self, checkpoint: Checkpoint) -> None:
        """Raise a ValueError unless the checkpoint's settings are equal to this detector's."""
        header, name = checkpoint.header, type(self).__name__
        checkpoint.expect("detector", header["detector"], name, "Load it with that class.")
        saved, own = header["settings"], self._scoring_settings()
        for name in sorted({*saved, *own}):
            remedy = f"Create the detector with {name}={short(saved.get(name))}, or fit again."
            checkpoint.expect(name, saved.get(name), own.get(name), remedy)

    def _try_out(self, checkpoint: Checkpoint, restored: Mapping[str, Any]) -> None:
        """Score a small grey image with the restored state, unless the embedder is a custom one.

        Raises:
            CheckpointError: If that fails, or the detector would never choose the canvas.
        """
        canvas, bank = restored["canvas_"], checkpoint.header["state"]
        injected = isinstance(self._embedder, InjectedEmbedder)
        usual = (
            canvas is None if injected else canvas and self._embedder.canvases.may_choose(canvas)
        )
        if not (usual or (canvas is None and not bank)):
            raise CheckpointError(
                f"{checkpoint.path} is damaged: this detector never resizes images to {canvas}."
            )
        if injected:
            return
        twin = copy.copy(self)
        twin.__dict__.update(restored)
        small = self._embedder.canvases.smallest(self._embedder.windows)
        (patches,) = twin._stream([np.full((8, 8), 127, np.uint8)], small)
        try:
            twin._scorer(canvas)(patches)
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.path} is damaged: {error}") from error

    def _scoring_settings(self) -> dict[str, Any]:
        free = WORKING | MODEL | self._free_settings
        settings: Mapping[str, Any] = self.get_params(deep=False)  # type: ignore[attr-defined]
        scoring = {name: value for name, value in settings.items() if name not in free}
        # Not an argument of the detector, but another version may change the default.
        return {**scoring, "dimension": getattr(self._embedder, "dimension", None)}

    def _identity(self) -> dict[str, Any]:
        if isinstance(self._embedder, InjectedEmbedder):
            return {"embedder": type(self.embedder).__qualname__}
        return {
            "name": self._embedder.model_name,
            "pretrained": self._embedder.pretrained,
            "weights": self._embedder.fingerprint,
        }


@contextmanager
def _refusing(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn any error caused by a file's content into one that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{checkpoint.path} is damaged: {error!r}") from error


def _expect_model(checkpoint: Checkpoint, mine: Mapping[str, Any]) -> None:
    """Raise a ValueError unless the weights, or the classes of custom embedders, are the same."""
    saved = checkpoint.header["model"]
    if any(saved.get(key) != mine.get(key) for key in ("weights", "embedder")):
        checkpoint.expect("model", saved, mine, "Create the detector with the saved model.")


def _common(checkpoint: Checkpoint) -> dict[str, Any]:
    """The attributes that all detectors have."""
    header = checkpoint.header
    threshold, contamination = header["threshold"], header["contamination"]
    check_number("contamination", contamination, above=0, most=0.5)
    restored: dict[str, Any] = {
        "contamination": float(contamination),
        "canvas_": as_canvas(header["canvas"]),
    }
    if threshold is not None:
        check_number("threshold", threshold, above=-math.inf, most=sys.float_info.max)
        restored["threshold_"] = float(threshold)
    if TRAINING_SCORES in checkpoint.arrays:
        scores = checkpoint.numbers(TRAINING_SCORES, 1, "float64")
        restored["decision_scores_"] = scores
        restored["labels_"] = (scores > restored["threshold_"]).astype(np.int64)
    return restored


def as_canvas(saved: Any) -> Size | None:
    """Check (height, width) read from JSON."""
    if saved is None:
        return None
    height, width = saved
    check_count("canvas", height)
    check_count("canvas", width)
    return height, width
