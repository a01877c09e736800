"""The arguments of ``towers``."""

from __future__ import annotations

import argparse

from .shared import Commands


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "towers",
        parents=[common],
        help="list the models of open_clip and what they support",
        description="List the models of open_clip. All known families support patch-kNN. The "
        "columns tell whether prompts are supported too, whether the image tower takes images of "
        "any shape or only its own, its input size, patch grid and number of parameters, the "
        "number of pretrained weights, and whether any of them are cached.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="only models whose name has NAME in it"
    )
    parser.add_argument("--cached", action="store_true", help="only models with cached weights")
