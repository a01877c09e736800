"""From options, or from a saved file alone, to a detector."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from inspect import signature
from typing import Any

from ..checkpoint import CheckpointError, plain, read_checkpoint
from ..detector import DEFAULT_MODEL, OpenCLIPDetector
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore

CLASSES: dict[str, type[OpenCLIPDetector]] = {
    found.__name__: found for found in (VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore)
}
PAIRS = ("force_image_size",)  # arguments that JSON turns from tuples into lists


def new_detector(options: argparse.Namespace, **more: Any) -> OpenCLIPDetector:
    """A detector of the options: zero-shot if there is a class name, else patch-kNN.

    Raises:
        ValueError: If an option or a setting is wrong.
    """
    arguments = {**_model(options), **_working(options), **more, **_tuples(dict(options.settings))}
    if options.class_name is None:
        if options.defects:
            raise ValueError("--defects name what to look for, so they need --class-name.")
        return _made(VisionOpenCLIPPatchKNN, arguments)
    words = {"class_name": options.class_name, "defects": options.defects}
    return _made(VisionOpenCLIPPromptScore, {**words, **arguments})


def saved_detector(options: argparse.Namespace) -> OpenCLIPDetector:
    """A detector as it was saved: its class, model and settings come from the file.

    ``--model`` and ``--pretrained`` say where the same weights lie on this machine.

    Raises:
        ValueError: If the file is damaged, or its model is not the one found here.
    """
    header = read_checkpoint(options.detector).header
    try:
        detector, model, settings = header["detector"], header["model"], dict(header["settings"])
        found = CLASSES[detector]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{options.detector} names no detector known here: {error}"
        ) from error
    if "name" not in model:
        raise ValueError(
            f"{options.detector} was fitted with an embedder of its user's own; load it in Python."
        )
    # What else the file tells is compared when it is loaded.
    known = signature(found).parameters
    chosen = {name: value for name, value in settings.items() if name in known}
    source = {"openclip_model_name": model["name"], "openclip_pretrained": model["pretrained"]}
    arguments = {**source, **_tuples(chosen), **_model(options), **_working(options)}
    return _made(found, arguments).load_checkpoint(options.detector)


def _made(found: type[OpenCLIPDetector], arguments: Mapping[str, Any]) -> OpenCLIPDetector:
    try:
        return found(**arguments)
    except TypeError as error:
        raise ValueError(f"{found.__name__}: {error}") from error


def _model(options: argparse.Namespace) -> dict[str, Any]:
    if options.model is None and options.pretrained is None:
        return {}
    chosen = {"openclip_pretrained": options.pretrained}
    if options.model is None:
        return chosen
    if options.pretrained is None and options.model == DEFAULT_MODEL:
        return {"openclip_model_name": options.model}
    if options.pretrained is None and not _brings_weights(options.model):
        raise ValueError(
            f"--model {options.model} needs --pretrained with a tag of open_clip or a weights "
            "file; 'pyimgano-openclip towers NAME' lists the tags."
        )
    return {"openclip_model_name": options.model, **chosen}


def _brings_weights(model: str) -> bool:
    return model == "bundled" or model.startswith(("local-dir:", "hf-hub:"))


def _working(options: argparse.Namespace) -> dict[str, Any]:
    names = ("device", "precision", "batch_size")
    return {name: getattr(options, name) for name in names}


def _tuples(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if name in PAIRS and isinstance(value, list) else value
        for name, value in settings.items()
    }


def settings_of(detector: OpenCLIPDetector) -> dict[str, Any]:
    """What a reader of results has to know about the detector, as JSON can hold it."""
    settings: Mapping[str, Any] = detector.get_params(deep=False)
    left_out = {"embedder", "text_features_normal", "text_features_anomaly", "references"}
    chosen = {
        name: value
        for name, value in sorted(settings.items())
        if name not in left_out and value is not None
    }
    facts: dict[str, Any] = plain({"detector": type(detector).__name__, **chosen})
    return facts
