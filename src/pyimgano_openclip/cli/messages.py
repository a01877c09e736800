"""Rephrases the library's errors for the command line."""

from __future__ import annotations

from collections.abc import Sequence

from ..images.unreadable import UnreadableError

# Names in the library's messages, and what they are called on the command line.
WORDS = {
    "openclip_model_name": "--model",
    "openclip_pretrained": "--pretrained",
    "open_clip.list_models()": "pyimgano-openclip towers",
    "set_most_pixels() of pyimgano_openclip.images.opening": "--max-pixels N",
    "roi=DIR": "--roi DIR",
    "vision_openclip_patchknn": "patch-kNN (no --class-name)",
}
SHOWN = 5  # names listed before "and 7 more"


class UsageError(ValueError):
    """The command was called with invalid arguments."""


def printable(text: str) -> str:
    """Escape what UTF-8 cannot encode: bytes of a path that were not UTF-8 either."""
    return text.encode("utf-8", "backslashreplace").decode()


def error_message(error: Exception) -> str:
    """Describe an error to the user of a command."""
    if isinstance(error, UnreadableError) and isinstance(error.__cause__, UnreadableError):
        error = error.__cause__  # without the index in a list that the user never saw
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return command_words(str(error))


def command_words(text: str) -> str:
    """Put the command line's names in place of the library's."""
    for name, word in WORDS.items():
        text = text.replace(name, word)
    return text


def listed(names: Sequence[str]) -> str:
    """Join names with commas, shortening long lists."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def counted(count: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is 1."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
