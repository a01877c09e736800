"""Gaps in the results where images could not be read, and the one warning about them."""

from __future__ import annotations

import sys
import warnings
from typing import Literal, get_args

import numpy as np

from .embedding import Size
from .items import Item
from .maps import ImageScores
from .unreadable import UnreadableError

OnError = Literal["raise", "nan"]
ON_ERROR: tuple[str, ...] = get_args(OnError)

NAMED = 3  # unreadable images that the warning names
UNKNOWN: Size = (1, 1)  # of an image whose size nothing tells


class UnreadableImageWarning(RuntimeWarning):
    """Some images could not be read; their score is NaN."""


def gap(item: Item, error: UnreadableError) -> ImageScores:
    """What stands in the results for an image that cannot be read: all NaN.

    Its size is that of the file's header or of the array's shape, 1 x 1 if neither can be told.
    """
    # Pillow is loaded where images are, not where models are listed.
    from .frame import image_size

    try:
        size = image_size(item)
    except UnreadableError:
        size = UNKNOWN
    return ImageScores(np.full((1, 1), np.nan, dtype=np.float32), np.nan, size, str(error))


class Gaps:
    """Counts the unreadable images of one call."""

    def __init__(self) -> None:
        self.count = 0
        self._named: list[str] = []

    def add(self, error: UnreadableError) -> None:
        """Note an image; the error has its place."""
        self.count += 1
        if len(self._named) < NAMED:
            self._named.append(str(error))

    def warn(self) -> None:
        """Warn of all of them at once, if there are any."""
        if not self.count:
            return
        more = self.count - len(self._named)
        named = "; ".join(self._named) + (f"; and {more} more" if more else "")
        what = "1 image" if self.count == 1 else f"{self.count} images"
        warnings.warn(
            f"{what} could not be read, so the score is NaN: {named}",
            UnreadableImageWarning,
            stacklevel=_callers_level(),
        )


def _callers_level() -> int:
    """How far up the stack the caller of the package is, counted as by :func:`warnings.warn`."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    return level + 1
