"""Arguments shared by several commands."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, TypeAlias

from ...files.remote import is_remote

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
AGAIN = " Run the same command again to resume."  # told when a command is interrupted
ON_ERROR = ("nan", "raise")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")


def share(parser: argparse.ArgumentParser, *groups: str) -> None:
    """Add groups of arguments, by their names in the table below."""
    for group in groups:
        _GROUPS[group](parser)


def overwriting(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the argument without which no command replaces files.

    Args:
        parser: Parser of the command.
        what: What is replaced with it.
    """
    parser.add_argument("--overwrite", action="store_true", help=what)


def finite(text: str) -> float:
    """Parse a finite number for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not a finite number")
    return number


def positive(text: str) -> float:
    """Parse a positive number for argparse."""
    number = finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return number


def count(text: str) -> int:
    """Parse a positive integer for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def place(text: str) -> Path | str:
    """Parse a path, or a URI, for argparse."""
    return text if is_remote(text) else Path(text)


def setting(text: str) -> tuple[str, Any]:
    """Parse ``NAME=VALUE`` for argparse; a VALUE that is not JSON is taken as a string."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def roi(text: str) -> Any:
    """Parse a path, or a JSON list of boxes or polygons, for argparse."""
    if not text.lstrip().startswith("["):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON list: {error}") from error


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


def _weights(parser: argparse.ArgumentParser) -> None:
    """Where the weights of a saved detector are; see :func:`~..usage.check_model_of_saved`."""
    parser.add_argument(
        "--model",
        metavar="local-dir:DIR",
        help="folder on this machine with the saved model, as 'download' writes it (default: as in "
        "the file of the detector)",
    )
    parser.add_argument(
        "--pretrained",
        metavar="FILE",
        help="weights of the saved model on this machine (default: as in the file of the detector)",
    )


def _resolution(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--smallest-defect",
        type=positive,
        metavar="PIXELS",
        help="side of the smallest defect to find, in pixels of images of the usual size; large "
        "images are then seen as a whole and through windows, which takes longer",
    )


def _roi(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--roi",
        type=roi,
        metavar="MASK|DIR|LIST",
        help="where to look: a mask, white is inside, transparent outside; a folder of masks named "
        "like the images; or boxes [[left, top, right, bottom], ...] or polygons [[[x, y], ...], "
        "...], in pixels, for images of the sizes of the training images only, or in shares of the "
        "sides if all numbers are in [0, 1] and one has a decimal point",
    )


def _masks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--roi",
        type=roi,
        metavar="DIR",
        help="where the folder of masks is that tells a detector saved with one where to look; "
        "what else it looks at is in its file",
    )


def _parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--group-by",
        metavar="folder|prefix|FILE",
        help="which images show one part, where there are several of each: those of one folder; "
        "those whose names differ in the last piece only (part7_1.png, part7_2.png), whatever "
        "their folder, so that different parts need different names; or as a CSV file of lines "
        "image,group tells",
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
    parser.add_argument("--device", help="auto, cpu, cuda, ... (default: auto)")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="precision of the image tower (default: float32 if a saved detector was fitted with "
        "it, else auto: bfloat16 where the hardware supports it)",
    )
    parser.add_argument(
        "--batch-size",
        type=count,
        metavar="N",
        help="images per forward pass (default: depends on the device)",
    )


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-pixels",
        type=count,
        metavar="N",
        help="largest image that is decoded, in pixels; a small file can unpack to a huge image, "
        "so raise it only for files that you trust (default: 178956970)",
    )


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="any other argument of the detector, with a JSON value, such as max_patches=20000",
    )


_GROUPS = {
    "model": _model,
    "weights": _weights,
    "words": _words,
    "resolution": _resolution,
    "roi": _roi,
    "masks": _masks,
    "parts": _parts,
    "working": _working,
    "reading": _reading,
    "settings": _settings,
}
