"""Warnings about images that can be read, but perhaps not as they were meant."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Generator, Iterable
from contextlib import closing
from typing import Any

from ..arrays import Size
from .areas import Shapes, either
from .items import Item, describe

NAMED = 3  # maximum number of images that a warning names
HARDLY = 1 / 4  # of the range, up to which it counts as hardly used: 14 bits of 16
BITS = 16  # of the range
ALIKE = 1.5  # times the width for a height, up to which proportions count as one kind


class SeveralPagesWarning(UserWarning):
    """Some image files have several pages or frames; only the first of each is used."""


class UnusedRangeWarning(UserWarning):
    """Deep images use so little of their range that few grey levels remain."""


class FlatFrameWarning(UserWarning):
    """Nothing can be seen on some images; unless they are to be learnt, their labels are 1."""


class MixedProportionsWarning(UserWarning):
    """Images of very different proportions are stretched to those of one canvas."""


class MixedSizesWarning(UserWarning):
    """Images of several sizes are looked at within one region in pixels, which lie elsewhere."""


class FlatFrames:
    """Counts the images of one call on which nothing can be seen.

    Args:
        roi: Where in them was looked; None for everywhere.
        learnt: Whether they are learnt from, which may be a mistake.
    """

    def __init__(self, roi: object | None = None, *, learnt: bool = False) -> None:
        self._roi = roi
        self._learnt = learnt
        self._seen = self._count = 0
        self._named: list[str] = []

    def add(self, item: Item, reason: str | None) -> None:
        """Record an image by what it is instead; None if something can be seen on it."""
        self._seen += 1
        if reason is None:
            return
        self._count += 1
        if len(self._named) < NAMED:
            self._named.append(f"{describe(item)} is {reason}")

    def warn(self) -> None:
        """Warn of all of them at once, if there are any."""
        if not self._count:
            return
        more = f"; and {self._count - NAMED} more" if self._count > NAMED else ""
        warnings.warn(
            f"Nothing can be seen {self._where()}: {'; '.join(self._named)}{more}",
            FlatFrameWarning,
            stacklevel=callers_level(),
        )

    def _where(self) -> str:
        one, every = self._count == 1, self._count == self._seen > 1
        images = f"{'all ' if every else ''}{self._count} image{'' if one else 's'}"
        fate = "learnt as normal" if self._learnt else "scored above all thresholds"
        told = f"on {images}, which {'is' if one else 'are'} {fate}"
        if every and self._roi is not None:
            told = f"within roi ({self._roi}) {told}"
            return f"{told}; unless parts look like that there, choose another roi"
        return f"{told}; unless parts look like that, leave them out" if self._learnt else told


class Pages:
    """Counts the images of one call whose files have several pages or frames."""

    def __init__(self) -> None:
        self._count = 0
        self._named: list[str] = []

    def add(self, item: Item, pages: int) -> None:
        """Record an image by the number of its pages."""
        if pages <= 1:
            return
        self._count += 1
        if len(self._named) < NAMED:
            self._named.append(f"{describe(item)} ({pages} pages)")

    def warn(self) -> None:
        """Issue one warning about all recorded images, if there are any."""
        if not self._count:
            return
        more = self._count - len(self._named)
        named = ", ".join(self._named) + (f" and {more} more" if more else "")
        what = "1 image has" if self._count == 1 else f"{self._count} images have"
        warnings.warn(
            f"{what} several pages or frames, of which only the first is used: {named}. "
            "Save each page as a file of its own.",
            SeveralPagesWarning,
            stacklevel=callers_level(),
        )


class Ranges:
    """Watches how much of their range all images of one call use.

    Args:
        images: What they are called in the warning.
    """

    def __init__(self, images: str = "images to learn from") -> None:
        self._images = images
        self._used: list[float | None] = []
        self._doubtful = 0

    def add(self, used: float | None, *, doubtful: bool = True) -> None:
        """Record an image.

        Args:
            used: Its highest value as a share of its range; None without any.
            doubtful: Whether a range that is hardly used may be to blame for something.
        """
        self._used.append(used)
        self._doubtful += doubtful

    def __str__(self) -> str:
        """What is wrong with them if all are deep and hardly use their range; else empty.

        At least half of them have to be doubtful: a detector may know that its images are dark.
        """
        deep = [used for used in self._used if used is not None]
        if not deep or len(deep) < len(self._used) or not 0 < max(deep) <= HARDLY:
            return ""
        if 2 * self._doubtful < len(deep):
            return ""
        bits = math.ceil(math.log2(max(deep) * (2**BITS - 1) + 1))
        return (
            f"the highest value of all {self._images} is {max(deep):.2%} of the range that "
            f"their type or file declares, as if {bits} bits were stored in {BITS}: of 256 grey "
            f"levels {math.ceil(max(deep) * 255) + 1} remain. If so, multiply the values of all "
            f"images by {2 ** (BITS - bits)}."
        )

    def warn(self) -> None:
        """Issue one warning about that, if there is anything."""
        if told := str(self):
            told = f"{told[0].upper()}{told[1:]}"
            warnings.warn(told, UnusedRangeWarning, stacklevel=callers_level())


class Sizes:
    """Watches whether images of several sizes are looked at within one region in pixels.

    Args:
        roi: Where in them is looked; None for everywhere.
        beside: (height, width) of others that are looked at within it.
    """

    def __init__(self, roi: object | None, beside: frozenset[Size] = frozenset()) -> None:
        meant_for_all = isinstance(roi, Shapes) and not (roi.shares or roi.sizes)
        self._roi = roi if meant_for_all else None
        self._seen = set(beside)

    def add(self, size: Size) -> None:
        """Record an image by its (height, width)."""
        self._seen.add(size)

    def warn(self) -> None:
        """Issue one warning if they differ."""
        if self._roi is None or len(self._seen) < 2:
            return
        warnings.warn(
            f"roi ({self._roi}) lies elsewhere in images of other sizes, and these have "
            f"{either(self._seen)} pixels (height x width); give the roi in shares of the sides, "
            "or as a mask, or pass images of one size.",
            MixedSizesWarning,
            stacklevel=callers_level(),
        )


class Watch:
    """Watches the images that one call compares or learns from, and warns once of each doubt.

    Args:
        roi: Where in the images is looked; None for everywhere.
        learnt: Whether they are learnt as normal.
        beside: (height, width) of others that are looked at within the same region.
    """

    def __init__(
        self, roi: object | None, *, learnt: bool, beside: frozenset[Size] = frozenset()
    ) -> None:
        self._pages, self._ranges = Pages(), Ranges()
        self._flat, self._sizes = FlatFrames(roi, learnt=learnt), Sizes(roi, beside)

    def add(self, item: Item, patches: Any) -> None:
        """Record an image by its tokens."""
        self._pages.add(item, patches.pages)
        self._ranges.add(patches.range_used)
        self._flat.add(item, patches.look and patches.look.flat)
        self._sizes.add(patches.size)

    def warn(self) -> None:
        """Tell what there is to be told of them."""
        for notice in (self._pages, self._ranges, self._flat, self._sizes):
            notice.warn()


def noticed(
    outcomes: Generator[Any, None, None],
    items: Iterable[Item | None],
    roi: object | None = None,
    beside: frozenset[Size] = frozenset(),
) -> Generator[Any, None, None]:
    """Pass on the tokens of images that are learnt from; warn of these images at the end.

    Args:
        outcomes: The tokens of images, and of copies that were made from their pixels.
        items: The images; None for each copy.
        roi: Where in the images is looked; None for everywhere.
        beside: (height, width) of others that are looked at within the same region.
    """
    watch = Watch(roi, learnt=True, beside=beside)
    with closing(outcomes):
        for item, patches in zip(items, outcomes, strict=True):
            if item is not None:
                watch.add(item, patches)
            yield patches
    watch.warn()


def stretching(sizes: Iterable[Size], canvas: Size) -> str | None:
    """What one canvas does to images of very different proportions; None if they are alike.

    Args:
        sizes: (height, width) of each image in pixels; at least one.
        canvas: (height, width) in pixels to which all are resized.
    """
    aspects = [width / height for height, width in sizes]
    low, high = min(aspects), max(aspects)
    if high <= ALIKE * low:
        return None
    return (
        f"images whose width is {low:.2g} to {high:.2g} times their height are stretched to "
        f"{canvas[1] / canvas[0]:.2g} times; if these are different kinds of parts, fit each apart"
    )


def tell_stretching(stretched: str) -> None:
    """Warn of that."""
    said = stretched[0].upper() + stretched[1:]
    warnings.warn(f"{said}.", MixedProportionsWarning, stacklevel=callers_level())


def callers_level() -> int:
    """Stack level of the code that called this package, as :func:`warnings.warn` counts."""
    level, frame = 0, sys._getframe(1)
    passed = (__name__.partition(".")[0], "tqdm")  # a bar may lie between
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in passed:
        level, frame = level + 1, frame.f_back
    return level + 1
