"""What an image looks like as a whole and by halves: brightness, contrast, detail, texture, colour.

It tells a dead or covered camera, an image out of focus, noise, another texture and what is half
out of view, with few normal images or none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arrays import Floats
from .areas import Inside, around

SIDE = 224  # pixels of the longer side, at which images are looked at
BLACK, WHITE = 12, 245  # grey levels beyond which a frame of little contrast is black or white
LITTLE, NONE = 4, 2  # grey levels; standard deviation of a dark frame's noise, and of no picture
DARK = 8  # grey levels that keep the ratios of dark colours finite
SHARPEST = 0.999  # share of the differences of pixels that are no edges
COARSE = 4  # pixels of the side of a block, at which the grain compares the detail
HALVES = ("left", "right", "upper", "lower")
Total: TypeAlias = tuple[float, int]  # sum and number of values


class Look(NamedTuple):
    """The look of an image.

    Attributes:
        brightness: Mean of the grey levels, in [0, 255].
        contrast: Their standard deviation.
        detail: Logarithm of the mean difference of neighbouring pixels, in grey levels.
        red: Logarithm of the mean of red as a multiple of that of green.
        blue: The same of blue.
        edges: Logarithm of the difference that one in a thousand neighbouring pixels exceed; NaN if
            unknown, like all below.
        grain: Detail less that of the image in blocks of 4 x 4 pixels, whatever the contrast: high
            of noise and fine textures, low of coarse ones.
        slant: Logarithm of the mean difference of pixels below each other as a multiple of that of
            pixels beside each other.
        left: Detail of the left half.
        right: That of the right half.
        upper: That of the upper half.
        lower: That of the lower half.
        repeats: Of the half and the direction in which pixels differ least, the logarithm of their
            mean difference less the detail of that half: low where rows or columns are repeated.
    """

    brightness: float
    contrast: float
    detail: float
    red: float
    blue: float
    edges: float = math.nan
    grain: float = math.nan
    slant: float = math.nan
    left: float = math.nan
    right: float = math.nan
    upper: float = math.nan
    lower: float = math.nan
    repeats: float = math.nan

    @property
    def halves(self) -> dict[str, float]:
        """The detail of each half, by its name."""
        return {name: getattr(self, name) for name in HALVES}

    @property
    def shade(self) -> str | None:
        """What a very dark or bright image is; None for others."""
        if BLACK <= self.brightness <= WHITE:
            return None
        return "nearly black" if self.brightness < BLACK else "nearly white"

    @property
    def flat(self) -> str | None:
        """What a frame is on which nothing can be seen; None for others."""
        if self.contrast >= LITTLE:
            return None
        return self.shade or ("nearly one colour" if self.contrast < NONE else None)


def shrunk(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """An RGB image (H, W, 3) at the size at which it is looked at, of at most 224 pixels."""
    from PIL import Image  # listing models does not need it

    height, width = pixels.shape[:2]
    scale = min(1, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def look_of(small: npt.NDArray[np.uint8], inside: Inside | None = None) -> Look:
    """The look of an image, or of a part of it.

    Args:
        small: The image as :func:`shrunk` gives it, shape (H, W, 3).
        inside: The pixels that are looked at, shape (H, W); None for all. Halves are then those of
            the smallest rectangle that holds them.
    """
    seen = small.astype(np.float32)
    if inside is not None:
        seen = np.where(inside[..., None], seen, np.float32(np.nan))[around(inside)]
    grey = grey_of(seen)
    known = grey.ravel() if inside is None else grey[~np.isnan(grey)]
    red, green, blue = (math.log(_mean([_total(seen[..., n])]) + DARK) for n in range(3))
    steps = _steps(grey)
    down, right = totals = [_total(each) for each in steps]
    detail = _detail(totals)
    grain = detail - _detail([_total(each) for each in _steps(in_blocks(grey))])
    halves = _by_halves(steps, grey.shape)
    details = [_detail(half) for half in halves]
    least = [min(_detail(half[:1]), _detail(half[1:])) for half in halves]
    found = [known.mean(), known.std(), detail, red - green, blue - green]
    found += [_log(_edge(steps)), grain, _detail([down]) - _detail([right]), *details]
    found.append(min(one - both for one, both in zip(least, details, strict=True)))
    return Look(*(float(number) for number in found))


def grey_of(pixels: npt.NDArray[Any]) -> Floats:
    """Grey levels (H, W) of an RGB image (H, W, 3)."""
    red, green, blue = np.moveaxis(pixels.astype(np.float32, copy=False), -1, 0)
    # A product would wake the threads of OpenBLAS; see maps/spread.py.
    grey: Floats = np.float32(0.299) * red + np.float32(0.587) * green + np.float32(0.114) * blue
    return grey


def _steps(grey: Floats) -> tuple[Floats, Floats]:
    """Differences of pixels below each other, and of those beside each other."""
    return np.abs(np.diff(grey, axis=0)), np.abs(np.diff(grey, axis=1))


def _by_halves(steps: tuple[Floats, Floats], size: tuple[int, ...]) -> list[list[Total]]:
    """The differences within the left, the right, the upper and the lower half."""
    (down, right), (rows, cols) = steps, (side // 2 for side in size)
    halves = [
        (down[:, :cols], right[:, : max(0, cols - 1)]),
        (down[:, cols:], right[:, cols:]),
        (down[: max(0, rows - 1)], right[:rows]),
        (down[rows:], right[rows:]),
    ]
    return [[_total(each) for each in half] for half in halves]


def _total(values: Floats) -> Total:
    """Sum and number of the values that are looked at; the others are NaN."""
    total = float(values.sum())
    if math.isnan(total):
        values = values[~np.isnan(values)]
        total = float(values.sum())
    return total, values.size


def _mean(totals: Sequence[Total]) -> float:
    """The mean of all values; 0 of none."""
    sums, counts = zip(*totals, strict=True)
    return sum(sums) / sum(counts) if any(counts) else 0.0


def _detail(steps: Sequence[Total]) -> float:
    """Logarithm of the mean difference of neighbouring pixels; see :class:`Look`."""
    return _log(_mean(steps))


def _edge(steps: tuple[Floats, Floats]) -> float:
    """The difference that one in a thousand exceeds; see :class:`Look`."""
    every = np.concatenate([each.ravel() for each in steps])
    known = every[~np.isnan(every)]
    if not known.size:
        return 0.0
    place, part = divmod(SHARPEST * (known.size - 1), 1)
    # What np.quantile gives, for a tenth of its time.
    highest = np.partition(known, int(place))[int(place) :]
    return float(highest[0] + part * (highest[1:].min(initial=highest.max()) - highest[0]))


def _log(step: float) -> float:
    return math.log(step + 0.5)  # finite where there are no differences


def in_blocks(grey: Floats) -> Floats:
    """The means of blocks of 4 x 4 pixels; the same image if it is hardly larger than one."""
    rows, cols = (side // COARSE for side in grey.shape)
    if min(rows, cols) < 2:
        return grey
    blocks = grey[: rows * COARSE, : cols * COARSE]
    for _ in range(2):  # along one side and then the other, many times as fast as both at once
        blocks = np.mean([blocks[:, start::COARSE] for start in range(COARSE)], axis=0).T
    return blocks
