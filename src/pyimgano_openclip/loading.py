"""Loads a detector from its checkpoint."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from .detector.base import OpenCLIPDetector
from .encoder.names import brings_weights
from .files.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from .mutual import VisionOpenCLIPMutual
from .patchknn import VisionOpenCLIPPatchKNN
from .promptscore import VisionOpenCLIPPromptScore

Detector = TypeVar("Detector", bound=OpenCLIPDetector)

CLASSES: dict[str, type[OpenCLIPDetector]] = {
    found.__name__: found
    for found in (VisionOpenCLIPMutual, VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore)
}


def load_saved(path: Path, **overrides: Any) -> OpenCLIPDetector:
    """Load a checkpoint; see :func:`~.detector_file.load_detector`."""
    if {"contamination", "confidence"} & set(overrides):
        raise ValueError(
            f"contamination, confidence and threshold come from {path}; fit again, or set "
            "threshold_ after loading."
        )
    checkpoint = read_checkpoint(path)
    try:
        found = CLASSES[checkpoint.header["detector"]]
        saved = _arguments(checkpoint, found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} names an unknown detector: {error!r}") from error
    if "openclip_model_name" not in saved:
        if "embedder" not in overrides:
            raise ValueError(
                f"{path} was fitted with a custom embedder, a "
                f"{checkpoint.header['model'].get('embedder')}; pass it: "
                "load_detector(path, embedder=...)."
            )
        saved = {**_text_features(checkpoint, found), **saved}
    _check_weights(path, {**saved, **overrides}, overrides)
    return make_detector(found, {**saved, **overrides})._restore(checkpoint)


def _check_weights(path: Path, used: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse weights that would not be read, since the model's name tells which are."""
    model, weights = used.get("openclip_model_name"), given.get("openclip_pretrained")
    if weights is not None and isinstance(model, str) and brings_weights(model):
        raise ValueError(
            f"openclip_pretrained={os.fspath(weights)!r} (--pretrained), but {path} has the model "
            f"{model}, which includes its weights; omit it."
        )


def make_detector(found: type[Detector], arguments: Mapping[str, Any]) -> Detector:
    """Create a detector from arguments that were read from JSON.

    Raises:
        ValueError: If an argument is unknown, of the wrong type or out of range.
    """
    known = list(signature(found).parameters)
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        near = [found for name in unknown for found in difflib.get_close_matches(name, known, n=1)]
        hint = f"; did you mean {', '.join(near)}?" if near else "."
        raise ValueError(f"{found.__name__} has no argument {', '.join(unknown)}{hint}")
    try:
        return found(**arguments)
    except TypeError as error:  # such as a number instead of a list
        raise ValueError(f"{found.__name__} has an argument of the wrong type: {error}.") from error


def _arguments(checkpoint: Checkpoint, found: type[OpenCLIPDetector]) -> dict[str, Any]:
    """The constructor arguments in the header; the rest is compared when the file is loaded."""
    known, header = signature(found).parameters, checkpoint.header
    given, model = {**header.get("learning", {}), **header["settings"]}, header["model"]
    settings = {name: value for name, value in given.items() if name in known}
    if "name" not in model:
        return settings
    weights = None if brings_weights(model["name"]) else model["pretrained"]
    return {"openclip_model_name": model["name"], "openclip_pretrained": weights, **settings}


def _text_features(checkpoint: Checkpoint, found: type[OpenCLIPDetector]) -> dict[str, Any]:
    """The text vectors, which a detector with a custom embedder cannot encode itself."""
    if found is not VisionOpenCLIPPromptScore:
        return {}
    return {
        "text_features_normal": checkpoint.unit_vectors("text_normal", 1, "float32"),
        "text_features_anomaly": checkpoint.unit_vectors("text_anomaly", 1, "float32"),
    }
