"""Arguments shared by several commands."""

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
    """Parse a finite number for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def count(text: str) -> int:
    """Parse a positive integer for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def setting(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE`` for argparse; a VALUE that is not JSON is taken as a string."""
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
        help="name of an open_clip model, local-dir:DIR, hf-hub:ORG/REPO, or bundled "
        "(default: ViT-B-16-plus-240)",
    )
    parser.add_argument(
        "--pretrained", metavar="TAG|FILE", help="its weights (of the default model: laion400m_e31)"
    )


def _words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--class-name",
        metavar="WORD",
        help="what the images show, such as screw; selects the zero-shot detector",
    )
    parser.add_argument(
        "--defects",
        type=lambda text: [word.strip() for word in text.split(",") if word.strip()],
        metavar="A,B",
        help="defects to look for and to name, such as 'scratch,oil stain'",
    )


def _working(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="precision of the image tower (default: auto, bfloat16 where the hardware supports "
        "it)",
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        metavar="N",
        help="images per forward pass (default: depends on the device)",
    )


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="any other argument of the detector, with a JSON value, such as max_patches=5000",
    )


_GROUPS = {"model": _model, "words": _words, "working": _working, "settings": _settings}
