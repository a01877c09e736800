"""Writes to standard output and standard error, which a process may lack or be unable to use."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

from .messages import printable

STANDARD_OUTPUT = "standard output"  # its name in messages


@contextmanager
def standing_in() -> Iterator[None]:
    """Discard what is written to a stream that is missing, as without a console, or closed.

    Progress bars and warnings of other libraries need one to write to.
    """
    with ExitStack() as stack:
        for stream, redirect in ((sys.stdout, redirect_stdout), (sys.stderr, redirect_stderr)):
            if stream is None or getattr(stream, "closed", False):
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(redirect(nowhere))
        try:
            yield
        finally:
            complain()  # warnings of libraries that could not be written fail here, not at exit


def show(text: str) -> None:
    """Write a line to standard output; a reader that has stopped reading is no error.

    Raises:
        OSError: If it cannot be written, for example to a full disk.
    """
    try:
        sys.stdout.write(f"{_encodable(text, sys.stdout)}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # as in "towers | head"
        _give_up(sys.stdout)
    except OSError as error:
        _give_up(sys.stdout)
        raise OSError(error.errno, error.strerror, STANDARD_OUTPUT) from error


def complain(*lines: str) -> None:
    """Write lines to standard error, as in answers; if it fails there is nowhere to say so."""
    try:
        for line in lines:
            sys.stderr.write(f"{_encodable(printable(line), sys.stderr)}\n")
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def _give_up(stream: TextIO) -> None:
    """Let what is left in a stream's buffer go nowhere; Python would complain again at exit."""
    try:
        number = stream.fileno()
    except OSError:  # not a file
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _encodable(text: str, stream: TextIO) -> str:
    encoding = (
        getattr(stream, "encoding", None) or "utf-8"
    )  # a path may have bytes that it cannot encode
    return text.encode(encoding, "backslashreplace").decode(encoding)
