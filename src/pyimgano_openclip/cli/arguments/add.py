"""The arguments of ``add``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import AGAIN, Commands, share


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "add",
        parents=[common],
        help="add normal images to a saved detector",
        description="Add normal images, such as those flagged wrongly, to a patch-kNN detector: "
        "its bank grows and its threshold follows, unless it was chosen with 'threshold'. The file "
        "is replaced after each hundred images, completely or not at all; images that it has "
        "learnt are passed over, so that the same command goes on after an interruption.",
        epilog="example: pyimgano-openclip add more/ --detector screw.safetensors",
    )
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="IMAGE|DIR",
        help="normal images, or folders to search for them as in 'fit'",
    )
    parser.add_argument(
        "--detector", type=Path, required=True, metavar="FILE", help="file saved by 'fit'"
    )
    parser.add_argument(
        "--from-report",
        type=Path,
        metavar="FILE",
        help="the flagged images that were marked as normal in a report, from the file that it "
        "exports",
    )
    share(parser, "weights", "masks", "parts", "working", "reading")
    parser.set_defaults(loads_model=True, again=AGAIN)
