"""The arguments of ``download``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import Commands, overwriting


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "download",
        parents=[common],
        help="save a model to a folder, for machines without network access",
        description="Save the config, weights and checksums of an open_clip model to a folder and "
        "verify them. Elsewhere, --model local-dir:DIR loads the model without network access.",
        epilog="example: pyimgano-openclip download ViT-L-14-336 --pretrained openai --to vit-l",
    )
    parser.add_argument("model", metavar="MODEL", help="name of an open_clip model")
    parser.add_argument("--pretrained", required=True, metavar="TAG|FILE", help="its weights")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="output folder, new or empty"
    )
    overwriting(parser, "replace an earlier download in --to; other files there stay")
