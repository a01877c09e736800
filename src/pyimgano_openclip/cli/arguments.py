"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

ON_ERROR = ("nan", "raise")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def share(parser: argparse.ArgumentParser, *groups: str) -> None:
    """Add groups of arguments: "model", "words", "working" and "settings"."""
    for group in groups:
        _GROUPS[group](parser)


def finite(text: str) -> float:
    """A finite number, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def count(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def setting(text: str) -> tuple[str, Any]:
    """``NAME=VALUE`` with a value in JSON; what is no JSON is taken as a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a model of open_clip, local-dir:DIR, hf-hub:ORG/REPO, or bundled "
        "(default: ViT-B-16-plus-240)",
    )
    parser.add_argument(
        "--pretrained", metavar="TAG|FILE", help="its weights (default model: laion400m_e31)"
    )


def _words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class-name", metavar="WORD", help="what the images show, such as screw: zero-shot"
    )
    parser.add_argument(
        "--defects",
        type=lambda text: [word.strip() for word in text.split(",") if word.strip()],
        metavar="A,B",
        help="kinds of damage to look for and to name: 'scratch,oil stain'",
    )


def _working(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="of the tower's arithmetic (default: auto, bfloat16 where the hardware has it)",
    )
    parser.add_argument(
        "--batch-size", type=count, metavar="N", help="images per pass (default: by device)"
    )


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="any further argument of the detector, its value in JSON: max_patches=5000",
    )


_GROUPS = {"model": _model, "words": _words, "working": _working, "settings": _settings}
