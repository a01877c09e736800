"""Checks options before anything heavy is imported."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..encoder.names import brings_weights
from ..files.exported import is_exported, not_saved
from .messages import UsageError

SHARES = ("contamination", "confidence")  # arguments that a threshold follows from


def check(options: argparse.Namespace) -> None:
    """Check the options of any command, and that a saved detector is there.

    Raises:
        UsageError: If options exclude each other.
        OSError: If there is no file of the detector.
    """
    if options.command == "score":
        _check_score(options)
    if options.command == "evaluate" and options.ray is not None:
        raise UsageError(
            "evaluate runs on one machine; omit --ray, or score on the cluster and compare "
            "scores.csv with the truth."
        )
    detector = vars(options).get("detector")
    if isinstance(detector, Path):
        detector.stat()


def refuse_exported(options: argparse.Namespace) -> None:
    """Refuse exported detectors, which no command takes.

    Raises:
        ValueError: If one is passed.
        OSError: If it is not there.
    """
    for name in ("detector", "compare"):
        path = vars(options).get(name)
        if isinstance(path, Path) and is_exported(path):
            path.stat()
            raise ValueError(not_saved(path))


def _check_score(options: argparse.Namespace) -> None:
    if options.detector is not None and options.class_name is not None:
        raise UsageError("Pass --detector FILE or --class-name WORD, not both.")
    for name, value in options.settings:
        if name == "on_error":  # which the option sets in any case
            raise UsageError(f"--set on_error={value}: pass --on-error {value} instead.")
    if options.ray is None and (options.workers or options.column):
        raise UsageError("--workers and --column need --ray.")
    if options.ray is not None and options.detector is None and options.class_name is None:
        raise UsageError(
            "Images are compared with each other on one machine; with --ray pass --detector FILE "
            "or --class-name WORD."
        )
    changed = options.defects or options.settings or options.smallest_defect
    if options.detector is not None and changed:
        raise UsageError(
            "--defects, --smallest-defect and --set cannot change the settings of a saved detector."
        )
    if options.detector is not None:
        check_model_of_saved(options)
    if options.class_name is not None:
        _check_shares(options.class_name, dict(options.settings))


def _check_shares(class_name: str, settings: Mapping[str, Any]) -> None:
    """Check that no share of normal images is given to words, which set no threshold by it.

    Raises:
        UsageError: If one is, and there are no two references that would.
    """
    references = settings.get("references")
    if isinstance(references, list) and len(references) > 1:
        return
    for name in SHARES:
        if name in settings:
            raise UsageError(
                f"--set {name}={settings[name]} needs normal images: fit on them ('fit --normal "
                f"DIR --class-name {class_name}', then --detector FILE), or pass --threshold "
                "instead."
            )


def check_model_of_saved(options: argparse.Namespace) -> None:
    """Check that options only tell where the weights of a saved detector are.

    Raises:
        UsageError: If they choose another model.
    """
    if options.model and not options.pretrained and not brings_weights(options.model):
        raise UsageError(
            f"A saved detector has its own model; omit --model {options.model}, or locate its "
            "weights on this machine with --model local-dir:DIR or --pretrained FILE."
        )
