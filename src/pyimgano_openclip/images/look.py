"""What an image looks like as a whole and by halves: brightness, contrast, detail, texture, colour.

It tells a dead or covered camera, an image out of focus, noise, another texture and what is half
out of view, with few normal images or none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

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
    grey = seen @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    red, green, blue = np.log(np.nanmean(seen, axis=(0, 1)) + DARK)
    (down, right), detail = (_steps(grey, axis) for axis in (0, 1)), _detail(grey)
    steps = np.concatenate([down, right])
    edge = np.quantile(steps, SHARPEST) if steps.size else 0.0
    rows, cols = (side // 2 for side in grey.shape)
    halves = grey[:, :cols], grey[:, cols:], grey[:rows], grey[rows:]
    found = [np.nanmean(grey), np.nanstd(grey), detail, red - green, blue - green]
    found += [_log(edge), detail - _detail(_in_blocks(grey)), _of_mean(down) - _of_mean(right)]
    found += [*map(_detail, halves), min(map(_least_direction, halves))]
    return Look(*(float(number) for number in found))


def _steps(grey: Floats, axis: int) -> Floats:
    """Differences of neighbouring pixels along an axis, of those that are looked at."""
    steps: Floats = np.abs(np.diff(grey, axis=axis)).ravel()
    return steps[~np.isnan(steps)]


def _detail(grey: Floats) -> float:
    """Logarithm of the mean difference of neighbouring pixels; see :class:`Look`."""
    return _of_mean(np.concatenate([_steps(grey, axis) for axis in (0, 1)]))


def _least_direction(grey: Floats) -> float:
    """Detail in the direction in which there is less, less that in both."""
    return min(_of_mean(_steps(grey, axis)) for axis in (0, 1)) - _detail(grey)


def _of_mean(steps: Floats) -> float:
    return _log(float(steps.mean()) if steps.size else 0.0)


def _log(step: float) -> float:
    return math.log(step + 0.5)  # finite where there are no differences


def _in_blocks(grey: Floats) -> Floats:
    """The means of blocks of pixels; the same image if it is hardly larger than one."""
    rows, cols = (side // COARSE for side in grey.shape)
    if min(rows, cols) < 2:
        return grey
    blocks = grey[: rows * COARSE, : cols * COARSE].reshape(rows, COARSE, cols, COARSE)
    means: Floats = blocks.mean(axis=(1, 3))
    return means
