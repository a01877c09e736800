"""What an image looks like as a whole: brightness, contrast, detail and colour.

It tells a dead or covered camera, an image out of focus and noise, with few normal images or none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SIDE = 224  # pixels of the longer side, at which images are looked at
BLACK, WHITE = 12, 245  # grey levels beyond which a frame of little contrast is black or white
LITTLE, NONE = 4, 2  # grey levels; standard deviation of a dark frame's noise, and of no picture
DARK = 8  # grey levels that keep the ratios of dark colours finite


class Look(NamedTuple):
    """The look of an image.

    Attributes:
        brightness: Mean of the grey levels, in [0, 255].
        contrast: Their standard deviation.
        detail: Logarithm of the mean difference of neighbouring pixels, in grey levels.
        red: Logarithm of the mean of red as a multiple of that of green.
        blue: The same of blue.
    """

    brightness: float
    contrast: float
    detail: float
    red: float
    blue: float

    @property
    def flat(self) -> str | None:
        """What a frame is on which nothing can be seen; None for others."""
        if self.brightness < BLACK and self.contrast < LITTLE:
            return "nearly black"
        if self.brightness > WHITE and self.contrast < LITTLE:
            return "nearly white"
        return "nearly one colour" if self.contrast < NONE else None


def look_of(pixels: npt.NDArray[np.uint8]) -> Look:
    """The look of an RGB image, shape (H, W, 3)."""
    from PIL import Image  # listing models does not need it

    height, width = pixels.shape[:2]
    scale = min(1, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX), np.float32)
    grey = small @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    down, right = (np.abs(np.diff(grey, axis=axis)) for axis in (0, 1))
    steps = np.concatenate([down.ravel(), right.ravel()]).mean() if grey.size > 1 else 0.0
    red, green, blue = np.log(small.mean(axis=(0, 1)) + DARK)
    found = grey.mean(), grey.std(), np.log(steps + 0.5), red - green, blue - green
    return Look(*(float(number) for number in found))
