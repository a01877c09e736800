"""The command line ``pyimgano-openclip``.

Heavy modules are imported only when a command runs, so ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING

from .arguments.parser import build_parser
from .console import complain, show, standing_in
from .host import import_base_alone
from .messages import UsageError, error_lines
from .places import RUN, outdated
from .stopping import exit_code, stoppable
from .usage import check, refuse_exported
from .words import command_words, given_paths

if TYPE_CHECKING:
    from .answer import Answer

FAILED, WRONG_USAGE = 1, 2  # exit codes; argparse's own is 2 too


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Arguments without the program name; None for those of the process.

    Returns:
        The exit code.
    """
    options = None
    with standing_in(), warnings.catch_warnings():
        paths = list[str]()
        warnings.showwarning = _warner(paths)
        try:
            options = _options(arguments)
            paths += given_paths(vars(options).values())
            if arguments is None:
                # Threads of torch that wait for each other leave the cores to those that read.
                os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
                # Importing torch makes 400,000 objects, to be looked through again and again.
                gc.set_threshold(10_000)
                import_base_alone()
            # Importing it takes seconds, and may be interrupted or fail as well.
            with nullcontext() if arguments is not None else stoppable():
                answer = _answer(options)
            show(json.dumps(answer.facts, indent=2) if options.json else answer.text)
        except KeyboardInterrupt as stop:
            complain("", f"Interrupted.{_advice(options)}")
            return exit_code(stop)
        except (ValueError, RuntimeError, OSError, ImportError, MemoryError) as error:
            first, *more = error_lines(error, paths)
            complain(f"pyimgano-openclip: {first}", *more)
            return WRONG_USAGE if isinstance(error, UsageError) else FAILED
        return answer.code


def _advice(options: argparse.Namespace | None) -> str:
    """How an interrupted command goes on, and which of its results are old until then."""
    if options is None:
        return ""
    old = [str(path) for path in outdated(options.out)] if options.command == "score" else []
    are = "are" if len(old) > 1 else "is"
    until = f" Until then, {' and '.join(old)} {are} of an earlier run." if old else ""
    return f"{options.again}{until}"


def _warner(paths: Sequence[str]) -> Callable[..., None]:
    """Tells warnings, each once in a command, however often it calls a detector.

    Where in the code a warning arose does not help who calls a command. Paths that it may name are
    told as they are.
    """
    told: set[str] = set()

    def warn(message: object, *_: object) -> None:
        if str(message) not in told:
            told.add(str(message))
            complain(f"pyimgano-openclip: warning: {command_words(str(message), *paths)}")

    return warn


def _answer(options: argparse.Namespace) -> Answer:
    refuse_exported(options)
    answer: Answer | None = None
    if options.command == "score" and (options.out / RUN).is_file():
        answer = import_module(".relabel", __name__).run(options)
    if answer is None:
        check(options)
        if options.loads_model and not options.json:
            complain("Loading the model ...")
        answer = import_module(f".{options.command}", __name__).run(options)
    return answer


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    # argparse would pass over what cannot be written.
    with redirect_stdout(StringIO()) as told, redirect_stderr(StringIO()) as complaint:
        try:
            return build_parser().parse_args(arguments)
        except SystemExit as stop:
            code = stop.code
    if code:
        complain(*complaint.getvalue().rstrip().split("\n"))
    else:
        show(told.getvalue().rstrip())
    raise SystemExit(code)
