"""Checks options before anything heavy is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..encoder.names import brings_weights
from ..files.exported import is_exported, not_saved
from .messages import UsageError


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
