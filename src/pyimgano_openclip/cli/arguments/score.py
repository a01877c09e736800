"""The arguments of ``score``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import AGAIN, ON_ERROR, Commands, count, finite, overwriting, place, share


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "score",
        parents=[common],
        help="score images, draw maps, write a report",
        description="Score images with a saved detector, or zero-shot with --class-name, or with "
        "neither by comparing them with each other: then most of them should be normal. Writes "
        "scores.csv, scores.jsonl, maps, overlays and report.html. After an interruption, run the "
        "same command again: images that are already scored and have not changed are skipped. "
        "Files in --out that no earlier run has written are kept: without --overwrite, the command "
        "fails if they have the names of results.",
        epilog="example: pyimgano-openclip score new/ --detector screw.safetensors --out results/",
    )
    _inputs(parser)
    _results(parser)
    overwriting(
        parser,
        "discard earlier results in --out, and replace files there that have the names of results; "
        "other files stay",
    )
    _cluster(parser)
    share(parser, "model", "words", "resolution", "roi", "working", "reading", "settings")
    parser.set_defaults(loads_model=True, again=AGAIN)


def _inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        nargs="+",
        type=place,
        metavar="IMAGE|DIR",
        help="images, or folders to search for them recursively, except for --out and for what "
        "earlier runs have drawn; links are followed, hidden files skipped. With --ray also "
        "Parquet files and URIs such as s3://bucket/folder",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the results; of an earlier run there, results of images that are not "
        "among these are removed, unless none is, which is refused",
    )
    parser.add_argument("--detector", type=Path, metavar="FILE", help="file saved by 'fit'")


def _results(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threshold",
        type=finite,
        metavar="SCORE",
        help="images with a higher score are anomalous (default: that of the detector; with "
        "words alone 0.5, or what references set; of a folder alone by what stands out)",
    )
    parser.add_argument(
        "--maps",
        choices=("png", "npy", "none"),
        default="png",
        help="format of the anomaly maps: 16-bit PNG or float32 NumPy, both at the size of the "
        "image (default: png)",
    )
    parser.add_argument(
        "--overlays",
        choices=("all", "flagged", "none"),
        default="all",
        help="which images to draw with their anomaly map on top (default: all)",
    )
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default="nan",
        help="images that cannot be read and folders that cannot be searched: nan records them, "
        "labels them 1 and continues; raise stops (default: nan)",
    )


def _cluster(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "many machines", "Needs pip install 'pyimgano-openclip[ray]' on all of them."
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="score and draw on a Ray cluster, into the same --out: auto, HOST:6379, "
        "ray://HOST:10001; without ADDRESS that in RAY_ADDRESS, or else on this machine alone. "
        "Workers that die are replaced. All of them must be able to open the images",
    )
    group.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="detectors at work (default: one a GPU, or else one a processor)",
    )
    group.add_argument(
        "--column",
        metavar="NAME",
        help="of Parquet files that holds images as bytes or their paths (default: the only such "
        "one, or 'image')",
    )
