"""Anomaly maps as pictures."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

OPACITY = 0.55  # of the hottest colour over the image
CONTOUR = (255, 255, 255)  # colour of the line around what is above the threshold


def overlay(
    image: npt.NDArray[np.uint8],
    anomaly_map: npt.NDArray[np.float32],
    *,
    low: float,
    high: float,
    threshold: float | None = None,
) -> Image.Image:
    """Lay an anomaly map over its image: the hotter, the more opaque.

    Args:
        image: RGB, uint8, shape (H, W, 3).
        anomaly_map: Shape (H, W); higher is more anomalous.
        low: Map value that is shown as nothing. Take the same range for all images that are to be
            compared: a range of its own makes every image look anomalous.
        high: Map value that is shown hottest.
        threshold: Map value to draw a line around, if any.

    Returns:
        A picture of the size of the image.

    Raises:
        ValueError: If image and map differ in size, or low is not below high.
    """
    if image.ndim != 3 or image.shape[:2] != anomaly_map.shape:
        raise ValueError(f"The image is {image.shape}, its map {anomaly_map.shape}; sizes differ.")
    if not low < high:
        raise ValueError(f"low={low} must be below high={high}.")
    heat = np.clip((anomaly_map - low) / (high - low), 0, 1).astype(np.float32)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = (OPACITY * heat)[..., None]
    mixed = (image * (1 - opacity) + colours * opacity).astype(np.uint8)
    if threshold is not None:
        hot = np.ascontiguousarray(anomaly_map > threshold).astype(np.uint8)
        lines, _ = cv2.findContours(hot, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        width = max(1, min(image.shape[:2]) // 200)
        mixed = cv2.drawContours(np.ascontiguousarray(mixed), lines, -1, CONTOUR, width)
    return Image.fromarray(mixed)
