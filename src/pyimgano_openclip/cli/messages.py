"""Rephrases the library's errors for the command line."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from ..full_install import explained
from ..images.unreadable import UnreadableError
from .words import command_words

SHOWN = 5  # names listed before "and 7 more"
NUMBER = re.compile(r"\d+")
# Control characters, ends of lines and what reverses the direction of a text.
UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class UsageError(ValueError):
    """The command was called with invalid arguments."""


@contextmanager
def as_usage() -> Iterator[None]:
    """Turn an error about a value into one about the arguments."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


class SeveralError(ValueError):
    """An error of several lines, which are its arguments, in words of the command line."""

    def __str__(self) -> str:
        return "\n".join(self.args)


def encodable(text: str) -> str:
    """Escape what UTF-8 cannot encode: bytes of a path that were not UTF-8 either."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(line: str) -> str:
    """Escape what a terminal would obey in place of showing it; a file can be called anything."""
    return UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), line)


def error_lines(error: Exception, paths: Sequence[str] = ()) -> Sequence[str]:
    """Describe an error to the user of a command, in lines.

    Where it may name a file, whose name may have several, it is of one line.

    Args:
        error: The error.
        paths: Those that it may name, as :func:`~.words.given_paths` tells them.
    """
    if isinstance(error, SeveralError):
        return list(error.args)
    message = error_message(error, paths)
    names_file = isinstance(error, ValueError) or getattr(error, "filename", None) is not None
    return [message] if names_file else message.split("\n")


def error_message(error: Exception, paths: Sequence[str]) -> str:
    """The same as one text."""
    if isinstance(error, UnreadableError) and isinstance(error.__cause__, UnreadableError):
        error = error.__cause__  # without the index in a list that the user never saw
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, ModuleNotFoundError) and (told := explained(error)) is not None:
        return told
    return command_words(str(error), *paths)


def listed(names: Sequence[str]) -> str:
    """Join names with commas, shortening long lists."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def listed_with(reasons: Mapping[str, str]) -> str:
    """Join names as in :func:`listed`, each with a reason."""
    return listed([f"{name} ({reason})" for name, reason in reasons.items()])


def of_each_kind(reasons: Mapping[str, str]) -> list[str]:
    """A line for every kind of reason; those that differ but in the image and numbers are one.

    Args:
        reasons: Reasons that begin with the path of an image, by the image's name.
    """
    kinds = defaultdict[str, list[str]](list)
    for name, reason in reasons.items():
        kinds[NUMBER.sub("", _of_any(name, reason))].append(name)
    return [
        f"{len(names)} images, such as {names[0]} and {names[1]}: "
        f"{_of_any(names[0], reasons[names[0]])}"
        if len(names) > 1
        else reasons[names[0]]
        for names in kinds.values()
    ]


def _of_any(name: str, reason: str) -> str:
    """A reason without the path of its image, and with ``*`` for the names of its files."""
    path, found, rest = reason.partition(name.rstrip("/"))
    stem = re.escape(PurePosixPath(name).stem)
    return re.sub(rf"(?<!\w){stem}(?=[._])", "*", rest.lstrip(": ") if found else path)


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
