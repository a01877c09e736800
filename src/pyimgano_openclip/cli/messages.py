"""Errors of the library in the words of the command line."""

from __future__ import annotations

from collections.abc import Sequence

from ..unreadable import UnreadableError

# What the library calls an argument, and what this program calls it.
WORDS = {
    "openclip_model_name": "--model",
    "openclip_pretrained": "--pretrained",
    "open_clip.list_models()": "pyimgano-openclip towers",
    "vision_openclip_patchknn": "patch-kNN (no --class-name)",
}
SHOWN = 5  # names, before "and 7 more"


def told(error: Exception) -> str:
    """What went wrong, for somebody who typed a command."""
    if isinstance(error, UnreadableError) and isinstance(error.__cause__, UnreadableError):
        error = error.__cause__  # without the place in a list that nobody typed
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    text = str(error)
    for name, word in WORDS.items():
        text = text.replace(name, word)
    return text


def listed(names: Sequence[str]) -> str:
    """A few of many names."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
