"""Slightly different views of one image, as a second photograph of the same thing would be.

They stand in for further normal images where there is only one to set a threshold with.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

# (shift right, shift down, rotation, brightness): shares of the side, degrees, factor
CHANGES = (
    (0.02, 0.00, 0.0, 1.05),
    (-0.02, 0.01, 0.0, 0.95),
    (0.00, 0.02, 1.0, 1.00),
    (0.01, -0.02, -1.0, 1.00),
    (0.03, 0.03, 0.0, 1.08),
    (-0.03, 0.02, 2.0, 0.92),
    (0.02, -0.03, -2.0, 1.03),
    (-0.01, -0.01, 0.5, 0.97),
)
NOISE = 2.0  # grey levels; standard deviation of a quiet camera


def augmented_views(pixels: Pixels) -> Iterator[Pixels]:
    """Shift, turn and relight an image a little; always the same eight ways.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).

    Yields:
        Eight images of the same shape.
    """
    height, width = pixels.shape[:2]
    generator = np.random.default_rng(0)
    for right, down, degrees, brightness in CHANGES:
        motion = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        motion[:, 2] += (right * width, down * height)
        moved = cv2.warpAffine(pixels, motion, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        noise = generator.normal(0, NOISE, pixels.shape).astype(np.float32)
        yield np.clip(moved * np.float32(brightness) + noise, 0, 255).astype(np.uint8)
