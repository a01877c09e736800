"""Results of unreadable images, and the warning about them."""

from __future__ import annotations

import warnings
from typing import Literal, get_args

import numpy as np

from ..arrays import Size
from ..images.items import Item
from ..images.notices import callers_level
from ..images.unreadable import UnreadableError
from .scores import ImageScores

OnError = Literal["raise", "nan"]
ON_ERROR: tuple[str, ...] = get_args(OnError)

NAMED = 3  # maximum number of unreadable images that the warning names
UNKNOWN: Size = (1, 1)  # for an image of unknown size


class UnreadableImageWarning(RuntimeWarning):
    """Some images could not be read; their score is NaN, or they were not learnt from."""


def gap(item: Item, error: UnreadableError) -> ImageScores:
    """Scores of an image that cannot be read: all NaN.

    Its size is taken from the file header or the array's shape; it is 1 x 1 if neither is known.
    """
    # Imports Pillow, which listing models does not need.
    from ..images.reading import image_size

    try:
        size = image_size(item)
    except UnreadableError:
        size = UNKNOWN
    return ImageScores.of(np.full((1, 1), np.nan, dtype=np.float32), np.nan, size, str(error))


class Gaps:
    """Counts the unreadable images of one call.

    Args:
        fate: What became of them.

    Attributes:
        seen: Number of images seen so far, readable or not.
        count: Number of unreadable ones.
    """

    def __init__(self, fate: str = "scored NaN") -> None:
        self.seen = 0
        self.count = 0
        self._named: list[str] = []
        self._fate = fate

    def add(self, error: UnreadableError) -> None:
        """Record an image by its error, which includes its index."""
        self.count += 1
        if len(self._named) < NAMED:
            self._named.append(str(error))

    @property
    def named(self) -> str:
        """The first of them, each with the reason, and how many more there are."""
        more = self.count - len(self._named)
        return "; ".join(self._named) + (f"; and {more} more" if more else "")

    def warn(self) -> None:
        """Issue one warning about all recorded images, if there are any."""
        if not self.count:
            return
        what = "1 image" if self.count == 1 else f"{self.count} images"
        warnings.warn(
            f"{what} could not be read and {self._fate}: {self.named}",
            UnreadableImageWarning,
            stacklevel=callers_level(),
        )
