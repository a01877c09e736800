"""Loads a detector from a checkpoint alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint, CheckpointError, read_checkpoint
from .detector import OpenCLIPDetector
from .patchknn import VisionOpenCLIPPatchKNN
from .promptscore import VisionOpenCLIPPromptScore

CLASSES: dict[str, type[OpenCLIPDetector]] = {
    found.__name__: found for found in (VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore)
}


def load_detector(path: str | os.PathLike[str], **overrides: Any) -> OpenCLIPDetector:
    """Load a detector saved with ``save_checkpoint``; class, model and settings come from the file.

    ```python
    detector = load_detector("screw.safetensors", device="cuda", batch_size=64)
    labels = detector.predict(["part1.png", "part2.png"])
    ```

    A loaded patch-kNN detector does not recognise its training images: they find their own patches
    in the bank, so their scores are near zero. Use ``decision_scores_`` for training images.

    Args:
        path: File written by ``save_checkpoint``.
        overrides: Detector arguments that depend on the machine: ``device``, ``precision``,
            ``batch_size``; ``openclip_model_name`` and ``openclip_pretrained`` if the same weights
            have another name here; ``embedder`` if the detector was fitted with a custom embedder.
            Arguments that change no score, such as ``knn_backend``, are accepted too.

    Returns:
        A detector of the saved class, with the saved threshold.

    Raises:
        ValueError: If the file is damaged or not a checkpoint, an argument is unknown or would
            change scores, or the weights are not the ones the detector was fitted with.
        OSError: If the file cannot be opened.
        ImportError: If open_clip, or the library of ``knn_backend``, is needed and missing.
    """
    path = Path(path)
    if "contamination" in overrides:
        raise ValueError(
            f"contamination and threshold come from {path}; fit again, or set threshold_ after "
            "loading."
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
    return make_detector(found, {**saved, **overrides}).load_checkpoint(path)


def make_detector(found: type[OpenCLIPDetector], arguments: Mapping[str, Any]) -> OpenCLIPDetector:
    """Create a detector from arguments that were read from JSON.

    Raises:
        ValueError: If an argument is unknown, of the wrong type or out of range.
    """
    unknown = sorted(set(arguments) - set(signature(found).parameters))
    if unknown:
        raise ValueError(f"{found.__name__} has no argument {', '.join(unknown)}.")
    try:
        return found(**arguments)
    except TypeError as error:  # such as a number instead of a list
        raise ValueError(f"{found.__name__} has an argument of the wrong type: {error}.") from error


def _arguments(checkpoint: Checkpoint, found: type[OpenCLIPDetector]) -> dict[str, Any]:
    """The constructor arguments in the header; the rest is compared when the file is loaded."""
    known, model = signature(found).parameters, checkpoint.header["model"]
    settings = {
        name: value for name, value in checkpoint.header["settings"].items() if name in known
    }
    if "name" not in model:
        return settings
    source = {"openclip_model_name": model["name"], "openclip_pretrained": model["pretrained"]}
    return {**source, **settings}


def _text_features(checkpoint: Checkpoint, found: type[OpenCLIPDetector]) -> dict[str, Any]:
    """The text vectors, which a detector with a custom embedder cannot encode itself."""
    if found is not VisionOpenCLIPPromptScore:
        return {}
    return {
        "text_features_normal": checkpoint.unit_vectors("text_normal", 1, "float32"),
        "text_features_anomaly": checkpoint.unit_vectors("text_anomaly", 1, "float32"),
    }
