"""Anomaly maps as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from .embedding import Floats

OPACITY = 0.55  # of the hottest colour over the image
HEADROOM = 2.0  # times the distance from usual to threshold, at which colours end at the earliest
LEVELS = 64  # colours of a map
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


def colour_range(patch_scores: Sequence[Floats], threshold: float) -> tuple[float, float]:
    """One range of colours for all images that are to be compared.

    Args:
        patch_scores: The patch scores of the images, each of shape (rows, cols).
        threshold: A map value above it is anomalous.

    Returns:
        (low, high) for :func:`overlay`. What is usual is shown as nothing; the hottest colour is
        well above the threshold, so that a set of normal images does not look ablaze.
    """
    values = np.concatenate([scores.ravel() for scores in patch_scores])
    low, high = (float(value) for value in np.quantile(values, [0.5, 0.999]))
    low = min(low, threshold)
    high = max(high, low + HEADROOM * (threshold - low))
    return (low, high) if low < high else (low, low + 1.0)


def heat_picture(anomaly_map: Floats, *, low: float, high: float) -> Image.Image:
    """A map alone: the hotter, the brighter and the more opaque; for laying over its image.

    Args:
        anomaly_map: Shape (H, W); higher is more anomalous.
        low: Map value that is shown as nothing.
        high: Map value that is shown hottest.

    Returns:
        A picture with a palette of few colours, which makes a small file.
    """
    heat = np.clip((anomaly_map - low) / (high - low), 0, 1)
    levels = np.rint(heat * (LEVELS - 1)).astype(np.uint8)
    ramp = np.linspace(0, 255, LEVELS).astype(np.uint8)[:, None]
    palette = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    picture = Image.frombytes("P", (levels.shape[1], levels.shape[0]), levels.tobytes())
    picture.putpalette(palette.tobytes())
    picture.info["transparency"] = bytes(ramp[:, 0])
    return picture


def thumbnail(image: npt.NDArray[np.uint8], side: int) -> Image.Image:
    """The image, shrunk so that its longer side has at most ``side`` pixels."""
    picture = Image.fromarray(image)
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return picture


def map_to_16_bits(anomaly_map: Floats, *, low: float, high: float) -> Image.Image:
    """A map as 16-bit grey: 0 is ``low``, 65535 is ``high``, the ends of the detector's scale."""
    share = np.clip((anomaly_map - low) / (high - low), 0, 1)
    return Image.fromarray(np.rint(share * 65535).astype(np.uint16))
