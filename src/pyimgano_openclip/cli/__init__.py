"""The command line ``pyimgano-openclip``.

Heavy modules are imported only when a command runs, so ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from .arguments import ON_ERROR, finite, share
from .messages import UsageError, error_message

if TYPE_CHECKING:
    from .answer import Answer

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130  # exit codes; argparse's own is 2 too
EXIT_CODES = (
    "exit codes: 0 success; 1 failure, explained on stderr; 2 wrong usage; 3 success, but some "
    "images could not be read; 130 interrupted"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Arguments without the program name; None for those of the process.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    command = import_module(f".{options.command}", __name__)
    try:
        answer: Answer = command.run(options)
    except KeyboardInterrupt:
        again = " Run the same command again to resume."
        sys.stderr.write(f"\nInterrupted.{again if options.command == 'score' else ''}\n")
        return INTERRUPTED
    except (ValueError, RuntimeError, OSError, ImportError, MemoryError) as error:
        sys.stderr.write(f"pyimgano-openclip: {error_message(error)}\n")
        return WRONG_USAGE if isinstance(error, UsageError) else FAILED
    text = json.dumps(answer.facts, indent=2) if options.json else answer.text
    encoding = sys.stdout.encoding or "utf-8"  # a path may have bytes that it cannot encode
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # as in "towers | head"; Python would complain again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return answer.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyimgano-openclip",
        description="Visual anomaly detection with OpenCLIP: zero-shot and few-shot.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    for add in (_add_demo, _add_fit, _add_score, _add_towers, _add_doctor, _add_download):
        add(commands, common)
    return parser


def _add_demo(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="run both detectors on generated images, offline",
        description="Run both detectors with the bundled model on generated images of leather. "
        "Needs no network, takes less than a minute, and prints the path of a report.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("pyimgano-openclip-demo"),
        metavar="DIR",
        help="output folder (default: pyimgano-openclip-demo)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")


def _add_fit(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
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
        help="normal images, or folders to search for them recursively",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="output file: *.safetensors"
    )
    parser.add_argument(
        "--contamination",
        type=finite,
        default=0.1,
        metavar="SHARE",
        help="accepted share of false alarms among normal images (default: 0.1)",
    )
    parser.add_argument(
        "--as-references",
        action="store_true",
        help="with --class-name: compare with the normal images as well as with texts",
    )
    share(parser, "model", "words", "working", "settings")


def _add_score(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    parser = commands.add_parser(
        "score",
        parents=[common],
        help="score images, draw maps, write a report",
        description="Score images with a saved detector, or zero-shot with --class-name. Writes "
        "scores.csv, scores.jsonl, maps, overlays and report.html. After an interruption, run the "
        "same command again: images that are already scored are skipped.",
        epilog="example: pyimgano-openclip score new/ --detector screw.safetensors --out results/",
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE|DIR",
        help="images, or folders to search for them recursively",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="output folder")
    parser.add_argument("--detector", type=Path, metavar="FILE", help="file saved by 'fit'")
    parser.add_argument(
        "--threshold",
        type=finite,
        metavar="SCORE",
        help="images with a higher score are anomalous (default: the fitted threshold, or 0.5 "
        "without one)",
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
        help="unreadable images: nan records them, labels them 1 and continues; raise stops "
        "(default: nan)",
    )
    parser.add_argument("--overwrite", action="store_true", help="discard earlier results in --out")
    share(parser, "model", "words", "working", "settings")


def _add_towers(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
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


def _add_doctor(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    commands.add_parser(
        "doctor",
        parents=[common],
        help="check the installation",
        description="Show versions, device, caches, and which detectors pyimgano will use. Exits "
        "with code 1 if there is a problem.",
    )


def _add_download(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
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
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="new folder")
