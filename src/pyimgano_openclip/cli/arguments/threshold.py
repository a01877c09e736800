"""The arguments of ``threshold``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import Commands, finite


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "threshold",
        parents=[common],
        help="show or set the threshold of a saved detector",
        description="Show the threshold of a detector saved by 'fit', or store another one in its "
        "file. Needs no model. Run 'score' again afterwards: it labels what is scored anew.",
        epilog="example: pyimgano-openclip threshold screw.safetensors 0.31",
    )
    parser.add_argument("detector", type=Path, metavar="DETECTOR", help="file saved by 'fit'")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "value",
        nargs="?",
        type=finite,
        metavar="SCORE",
        help="the threshold to store; it then stays when images are added",
    )
    choice.add_argument(
        "--contamination",
        type=finite,
        metavar="SHARE",
        help="store the threshold that 'fit' would have set with this share, which also follows "
        "when images are added",
    )
    choice.add_argument(
        "--from-report",
        type=Path,
        metavar="FILE",
        help="store the threshold chosen in a report, from the file that it exports, like a SCORE",
    )
