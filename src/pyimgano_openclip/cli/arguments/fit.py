"""The arguments of ``fit``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import Commands, finite, overwriting, share


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "fit",
        parents=[common],
        help="fit a detector on normal images",
        description="Fit the patch-kNN detector on normal images and save it as one file. With "
        "--class-name, save the zero-shot detector instead; the images set its threshold.",
        epilog="example: pyimgano-openclip fit --normal good/ --out screw.safetensors",
    )
    parser.add_argument(
        "--normal",
        nargs="+",
        type=Path,
        required=True,
        metavar="IMAGE|DIR",
        help="normal images, or folders to search for them recursively, except for what 'score' "
        "has drawn; links are followed, hidden files skipped",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="output file: *.safetensors"
    )
    parser.add_argument(
        "--contamination",
        type=finite,
        metavar="SHARE",
        help="accepted share of false alarms among normal images (default: 0.1)",
    )
    parser.add_argument(
        "--confidence",
        type=finite,
        metavar="SHARE",
        help="how sure that share is, such as 0.95 (default: on average only)",
    )
    parser.add_argument(
        "--as-references",
        action="store_true",
        help="with --class-name: compare with the normal images as well as with texts",
    )
    overwriting(parser, "replace the file --out if there is one")
    share(parser, "model", "words", "resolution", "roi", "parts")
    share(parser, "working", "reading", "settings")
    parser.set_defaults(loads_model=True)
