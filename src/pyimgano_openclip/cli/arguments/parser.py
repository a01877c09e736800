"""The parser of the command line, with its commands in the order of ``--help``."""

from __future__ import annotations

import argparse

from ...version import __version__
from . import add, demo, doctor, download, evaluate, export, fit, score, threshold, towers

COMMANDS = (demo, fit, score, evaluate, add, threshold, export, towers, doctor, download)
EXIT_CODES = (
    "exit codes: 0 success; 1 failure, explained on stderr; 2 wrong usage; 3 success, but some "
    "images could not be read or some folders not be searched; 130 interrupted "
    "by Ctrl-C, 143 by SIGTERM"
)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="pyimgano-openclip",
        description="Visual anomaly detection with OpenCLIP: zero-shot and few-shot.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.set_defaults(loads_model=False, again="")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    for command in COMMANDS:
        command.add_to(commands, common)
    return parser
