"""From options, or from a saved file alone, to a detector."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoint import plain
from ..detector import DEFAULT_MODEL, OpenCLIPDetector
from ..loading import load_detector, make_detector
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore


def new_detector(options: argparse.Namespace, **more: Any) -> OpenCLIPDetector:
    """A detector of the options: zero-shot if there is a class name, else patch-kNN.

    Raises:
        ValueError: If an option or a setting is wrong.
    """
    arguments = {**_model(options), **_working(options), **more, **dict(options.settings)}
    if options.class_name is None:
        if options.defects:
            raise ValueError("--defects name what to look for, so they need --class-name.")
        return make_detector(VisionOpenCLIPPatchKNN, arguments)
    words = {"class_name": options.class_name, "defects": options.defects}
    return make_detector(VisionOpenCLIPPromptScore, {**words, **arguments})


def saved_detector(options: argparse.Namespace) -> OpenCLIPDetector:
    """A detector as it was saved: its class, model and settings come from the file.

    ``--model`` and ``--pretrained`` say where the same weights lie on this machine.

    Raises:
        ValueError: If the file is damaged, or its model is not the one found here.
    """
    return load_detector(options.detector, **_model(options), **_working(options))


def _model(options: argparse.Namespace) -> dict[str, Any]:
    if options.model is None and options.pretrained is None:
        return {}
    chosen = {"openclip_pretrained": options.pretrained}
    if options.model is None:
        return chosen
    if options.pretrained is not None and _brings_weights(options.model):
        raise ValueError(f"--model {options.model} brings its weights; leave out --pretrained.")
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


def told_settings(detector: OpenCLIPDetector, saved: Path | None) -> dict[str, Any]:
    """The settings in a report: with the tower and the device that there were in the end.

    Args:
        detector: After scoring.
        saved: The file that it was loaded from.
    """
    source = ("openclip_model_name", "openclip_pretrained", "pretrained", "device", "precision")
    facts = {name: value for name, value in settings_of(detector).items() if name not in source}
    file = {} if saved is None else {"saved detector": saved.name}
    return {"detector": facts.pop("detector"), **file, **detector.tower_facts(), **facts}
