"""The arguments of ``evaluate``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import AGAIN, Commands, overwriting, share


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "evaluate",
        parents=[common],
        help="measure how well a saved detector does",
        description="Score normal and anomalous images and print AUROC, average precision, the "
        "best F1, recall and false alarms at the detector's threshold with their 95 % intervals "
        "(Clopper-Pearson), and with masks AUPRO and the F1 of segmentation.",
        epilog="example: pyimgano-openclip evaluate held-out-good/ bad/ "
        "--detector screw.safetensors",
    )
    parser.add_argument(
        "images",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="a folder of normal images that were not learnt from and one of anomalous images, or "
        "one folder with test/good/, test/DEFECT/ and ground_truth/DEFECT/ as in MVTec AD",
    )
    parser.add_argument(
        "--detector", type=Path, required=True, metavar="FILE", help="file saved by 'fit'"
    )
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="another saved detector, put beside it"
    )
    parser.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="masks of the anomalous images, of the same names or with _mask behind them, and of "
        "the same proportions, also beside them; what is not black or transparent is anomalous",
    )
    parser.add_argument(
        "--from-report",
        type=Path,
        metavar="FILE",
        help="the images that were marked in a report, from the file that it exports",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for evaluation.json, a report with curves, and scores (default: none of them)",
    )
    overwriting(
        parser, "replace evaluation.json and report.html in --out, and discard earlier scores there"
    )
    parser.add_argument("--ray", nargs="?", const="", help=argparse.SUPPRESS)  # to be refused
    share(parser, "weights", "masks", "working", "reading")
    parser.set_defaults(loads_model=True, again=AGAIN)
