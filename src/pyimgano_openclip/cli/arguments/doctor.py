"""The arguments of ``doctor``."""

from __future__ import annotations

import argparse

from .shared import Commands


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    commands.add_parser(
        "doctor",
        parents=[common],
        help="check the installation",
        description="Show versions, device, caches, and which detectors pyimgano will use. Exits "
        "with code 1 if there is a problem, which the install for exported files alone is not.",
    )
