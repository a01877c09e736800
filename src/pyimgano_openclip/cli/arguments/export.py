"""The arguments of ``export``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .shared import Commands, overwriting, share


def add_to(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        parents=[common],
        help="write a saved detector to an ONNX file, for machines without torch",
        description="Write a detector saved by 'fit' to one ONNX file that gives its scores, maps "
        "and labels in float32, without torch. The file is scored beside the detector in float32 "
        "before it is put in place: scores may differ by 1e-4, map values by 1e-3, and no label "
        "may differ. OnnxDetector gives these labels; another program must also flag what is "
        "unlike the training images, as examples/line_pc.cpp does. Where 'score' computes in "
        "another precision ('doctor' tells), its scores differ by more, and the output says by how "
        "much.",
        epilog="example: pyimgano-openclip export screw.safetensors --to screw.onnx --verify new/",
    )
    parser.add_argument("detector", type=Path, metavar="FILE", help="file saved by 'fit'")
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FILE", help="output file: *.onnx"
    )
    parser.add_argument(
        "--verify",
        nargs="+",
        type=Path,
        default=[],
        metavar="IMAGE|DIR",
        help="images to score with both, or folders to search for them recursively; those that "
        "the detector has learnt from are scored as if they were new",
    )
    overwriting(parser, "replace the file --to if there is one")
    share(parser, "weights", "reading")
    # The file computes so, too.
    parser.set_defaults(loads_model=True, device="cpu", precision="float32", batch_size=None)
