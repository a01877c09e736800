"""Builds a detector from command-line options or from a saved file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..detector.arguments import DEFAULT_MODEL
from ..detector.base import OpenCLIPDetector
from ..detector.calibrated import CalibratedDetector
from ..encoder.names import brings_weights
from ..files.checkpoint import plain
from ..loading import load_saved, make_detector
from ..mutual import VisionOpenCLIPMutual
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from .messages import UsageError, as_usage
from .promised import promise_line
from .usage import check_model_of_saved
from .words import OPTIONS

Detector = TypeVar("Detector", bound=OpenCLIPDetector)


def new_detector(options: argparse.Namespace, **more: Any) -> CalibratedDetector:
    """Build a detector from options: zero-shot with a class name, patch-kNN without.

    Raises:
        UsageError: If an option or a setting is invalid.
    """
    arguments = {**_model(options), **_working(options), **_looking(options), **_given(more)}
    if options.class_name is None:
        if options.defects:
            raise UsageError("--defects needs --class-name.")
        return _made(VisionOpenCLIPPatchKNN, _with_settings(arguments, options))
    arguments |= _given({"class_name": options.class_name, "defects": options.defects})
    return _made(VisionOpenCLIPPromptScore, _with_settings(arguments, options))


def pool_detector(options: argparse.Namespace) -> VisionOpenCLIPMutual:
    """Build a detector that compares the images to score with each other.

    With a ``contamination`` the threshold follows from that share, otherwise from the scores.

    Raises:
        UsageError: If an option or a setting is invalid.
    """
    if options.defects:
        raise UsageError("--defects needs --class-name.")
    arguments = {**_model(options), **_working(options), **_looking(options)}
    arguments = _with_settings(arguments, options)
    rule = "share" if "contamination" in arguments else "outliers"
    return _made(VisionOpenCLIPMutual, {"threshold_rule": rule, **arguments})


def _with_settings(arguments: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Arguments with those of ``--set``.

    Raises:
        UsageError: If one is given twice.
    """
    given = {name: f"{OPTIONS[name]} {_typed(value)}" for name, value in _given(arguments).items()}
    for name, value in options.settings:
        again = f"--set {name}={_typed(value)}"
        if name in given:
            raise UsageError(f"{given[name]} and {again} are both given; omit one of them.")
        given[name] = again
    return {**arguments, **dict(options.settings)}


def _typed(value: Any) -> str:
    """A value as it is typed after an option."""
    return value if isinstance(value, str) else json.dumps(value)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def _made(kind: type[Detector], arguments: Mapping[str, Any]) -> Detector:
    with as_usage():  # constructors read no images and load no weights
        return make_detector(kind, arguments)


def saved_detector(options: argparse.Namespace) -> OpenCLIPDetector:
    """Load a saved detector; its class, model and settings come from the file.

    ``--model`` and ``--pretrained`` tell where the same weights are on this machine, ``--roi``
    where the masks of these images are.

    Raises:
        UsageError: If options choose another model.
        ValueError: If the file is damaged, or the weights are not the ones it was fitted with.
    """
    check_model_of_saved(options)
    return load_saved(options.detector, **located(options))


def located(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments that tell where weights and masks are and how to compute."""
    masks = {} if vars(options).get("roi") is None else {"roi": options.roi}
    return {**_model(options), **_working(options), **masks}


def _model(options: argparse.Namespace) -> dict[str, Any]:
    if options.model is None and options.pretrained is None:
        return {}
    chosen = {"openclip_pretrained": options.pretrained}
    if options.model is None:
        return chosen
    if options.pretrained is not None and brings_weights(options.model):
        raise UsageError(f"--model {options.model} includes its weights; omit --pretrained.")
    if options.pretrained is None and options.model == DEFAULT_MODEL:
        return {"openclip_model_name": options.model}
    if options.pretrained is None and not brings_weights(options.model):
        _check_name(options.model)
        raise UsageError(
            f"--model {options.model} needs --pretrained with an open_clip tag or a weights "
            "file; 'pyimgano-openclip towers NAME' lists the tags."
        )
    return {"openclip_model_name": options.model, **chosen}


def _check_name(model: str) -> None:
    from ..encoder.weights import (
        find_source,  # imports torch, which is not needed for correct options
    )

    with as_usage():
        find_source(model, None, download=False)


def _working(options: argparse.Namespace) -> dict[str, Any]:
    return _given({name: getattr(options, name) for name in ("device", "precision", "batch_size")})


def _looking(options: argparse.Namespace) -> dict[str, Any]:
    """Where to look, and how closely."""
    return _given({name: getattr(options, name) for name in ("smallest_defect", "roi")})


def settings_of(detector: OpenCLIPDetector) -> dict[str, Any]:
    """The detector's settings that a reader of results needs, as JSON values."""
    settings: Mapping[str, Any] = detector.get_params(deep=False)
    left_out = {"embedder", "text_features_normal", "text_features_anomaly", "references"}
    chosen = {
        name: value
        for name, value in sorted(settings.items())
        if name not in left_out and value is not None
    }
    if detector.roi_ is not None:
        chosen["roi"] = str(detector.roi_)
    return plain({"detector": type(detector).__name__, **chosen})


def report_settings(detector: OpenCLIPDetector, saved: Path | None) -> dict[str, Any]:
    """The settings shown in a report, with the tower and device actually used.

    Args:
        detector: The detector after scoring.
        saved: File that it was loaded from, if any.
    """
    source = ("openclip_model_name", "openclip_pretrained", "pretrained", "device", "precision")
    facts = {name: value for name, value in settings_of(detector).items() if name not in source}
    file = {} if saved is None else {"saved detector": saved.name}
    promised = {}
    if isinstance(detector, CalibratedDetector) and hasattr(detector, "decision_scores_"):
        promised = {"false alarms": promise_line(detector.promise())}
    return {
        "detector": facts.pop("detector"),
        **file,
        **promised,
        **detector.tower_facts(),
        **facts,
    }
