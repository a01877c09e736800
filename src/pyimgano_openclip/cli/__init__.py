"""The command line ``pyimgano-openclip``.

Nothing heavy is imported before a command runs, so ``--help`` answers at once.
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
from .messages import told

if TYPE_CHECKING:
    from .answer import Answer

FAILED, INTERRUPTED = 1, 130  # exit codes; argparse itself ends with 2
EXIT_CODES = (
    "exit codes: 0 done; 1 it failed, stderr says why; 2 wrong usage; 3 done, but some images "
    "could not be read; 130 interrupted"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name; None for the process's own.

    Returns:
        The exit code.
    """
    options = _parser().parse_args(arguments)
    command = import_module(f".{options.command}", __name__)
    try:
        answer: Answer = command.run(options)
    except KeyboardInterrupt:
        again = " The same command goes on where this one stopped."
        sys.stderr.write(f"\nInterrupted.{again if options.command == 'score' else ''}\n")
        return INTERRUPTED
    except (ValueError, RuntimeError, OSError, ImportError, MemoryError) as error:
        sys.stderr.write(f"pyimgano-openclip: {told(error)}\n")
        return FAILED
    text = json.dumps(answer.facts, indent=2) if options.json else answer.text
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # as in "towers | head"; Python would complain again at its end
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
        help="both detectors on generated images, offline",
        description="Both detectors with the bundled model on generated images of leather. Needs "
        "no network and less than a minute; ends with the path of a report.",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("pyimgano-openclip-demo"),
        metavar="DIR",
        help="where to write (default: pyimgano-openclip-demo)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: auto)")


def _add_fit(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    parser = commands.add_parser(
        "fit",
        parents=[common],
        help="learn from a folder of normal images",
        description="Fit the patch-kNN detector on normal images and save it as one file. With "
        "--class-name it is the zero-shot detector, and the images set its threshold.",
        epilog="example: pyimgano-openclip fit --normal good/ --out screw.safetensors",
    )
    parser.add_argument(
        "--normal", nargs="+", type=Path, required=True, metavar="DIR", help="their folder"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="where to save: *.safetensors"
    )
    parser.add_argument(
        "--contamination",
        type=finite,
        default=0.1,
        metavar="SHARE",
        help="share of normal images that may be flagged (default: 0.1)",
    )
    parser.add_argument(
        "--as-references",
        action="store_true",
        help="with --class-name: also compare with the normal images, not only with words",
    )
    share(parser, "model", "words", "working", "settings")


def _add_score(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    parser = commands.add_parser(
        "score",
        parents=[common],
        help="score images, draw maps, write a report",
        description="Score images with a saved detector, or zero-shot with --class-name. Writes "
        "scores.csv, scores.jsonl, maps, overlays and report.html. Run again after an "
        "interruption: images that were scored are not scored again.",
        epilog="example: pyimgano-openclip score new/ --detector screw.safetensors --out results/",
    )
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE|DIR", help="folders with their subfolders"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    parser.add_argument("--detector", type=Path, metavar="FILE", help="saved by the command fit")
    parser.add_argument(
        "--threshold",
        type=finite,
        metavar="SCORE",
        help="label 1 above it (default: the fitted one; without fit 0.5)",
    )
    parser.add_argument(
        "--maps",
        choices=("png", "npy", "none"),
        default="png",
        help="anomaly maps in the size of the images: 16-bit PNG, or float32 (default: png)",
    )
    parser.add_argument(
        "--overlays",
        choices=("all", "flagged", "none"),
        default="all",
        help="which images to draw with their map on top (default: all)",
    )
    parser.add_argument(
        "--on-error",
        choices=ON_ERROR,
        default="nan",
        help="an image that cannot be read: note it, label it 1 and go on, or stop (default: nan)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="discard the results of other settings in --out"
    )
    share(parser, "model", "words", "working", "settings")


def _add_towers(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    parser = commands.add_parser(
        "towers",
        parents=[common],
        help="list the models of open_clip and what they can do",
        description="All models of open_clip. Patch-kNN works with every known family. Listed are: "
        "whether promptscore works too (prompts), whether the image tower takes images of any "
        "shape or only of its own, its input size, grid of patches and number of parameters, the "
        "number of weights, and whether any are cached.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="only models with this in the name")
    parser.add_argument("--cached", action="store_true", help="only models with weights here")


def _add_doctor(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    commands.add_parser(
        "doctor",
        parents=[common],
        help="look at what a detector needs on this machine",
        description="Versions, device, caches, and which detectors pyimgano will use. Ends with "
        "code 1 if something is wrong.",
    )


def _add_download(commands: argparse._SubParsersAction, common: argparse.ArgumentParser) -> None:  # type: ignore[type-arg]
    parser = commands.add_parser(
        "download",
        parents=[common],
        help="put a model into a folder, for a machine without network",
        description="Write config, weights and checksums of a model of open_clip to a folder, and "
        "read them back. Elsewhere --model local-dir:DIR loads it without network.",
        epilog="example: pyimgano-openclip download ViT-L-14-336 --pretrained openai --to vit-l",
    )
    parser.add_argument("model", metavar="MODEL", help="a model of open_clip")
    parser.add_argument("--pretrained", required=True, metavar="TAG|FILE", help="its weights")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="a new folder")
