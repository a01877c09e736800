"""The arguments of ``demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import Commands, overwriting


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="run patch-kNN and prompts on generated images, offline",
        description="Run two of the three detectors, patch-kNN and prompts, with the bundled "
        "model on generated images of leather. Needs no network, takes less than a minute, and "
        "prints the path of a report.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("pyimgano-openclip-demo"),
        metavar="DIR",
        help="output folder, new or empty (default: pyimgano-openclip-demo)",
    )
    overwriting(parser, "replace an earlier demo in --out; other files there stay")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")
    parser.set_defaults(loads_model=True)
