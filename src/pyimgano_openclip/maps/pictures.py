"""Draws anomaly maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from ..arrays import Floats
from ..checks import check_number
from ..images.items import Item, as_array
from ..images.pixels import Pixels
from ..images.reading import read_pixels
from ..images.views import halved
from .png import grey_png
from .regions import hot_pixels

BAND = 2**15  # pixels that are drawn at once, few enough for the processor's cache
OPACITY = 0.55  # of the hottest colour over the image
HEADROOM = 2.0  # minimum colour range, as a multiple of the distance from median to threshold
# RGB from the lowest value to the highest, shape (256, 1, 3).
COLOURS = np.ascontiguousarray(
    cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[..., ::-1]
)
# What of the image is kept under each of these colours, of 255, and what of the colour is mixed in.
KEPT = np.rint(255 - OPACITY * np.arange(256)).astype(np.uint8)
MIXED_IN = np.rint(COLOURS * (1 - KEPT / 255)[:, None, None]).astype(np.uint8)
CONTOUR = (255, 255, 255)  # colour of the line around pixels above the threshold
DIMMED = 0.4  # brightness where was not looked
EDGE = (0, 190, 255)  # of where was
QUALITY = 82  # JPEG
LARGEST_SIDE = 65_500  # pixels of a JPEG file, as libjpeg writes it
HATCH = 128  # grey level of the stripes where a map is NaN


def overlay(
    image: Item,
    anomaly_map: npt.ArrayLike,
    threshold: float | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Image.Image:
    """Draw an anomaly map over its image; hotter pixels are brighter and more opaque.

    ```python
    heat = detector.get_anomaly_map("part.png")
    overlay("part.png", heat, detector.region_threshold())  # outlines what explain() finds
    ```

    The colour of a map value does not depend on the rest of the map, so overlays drawn with equal
    ``threshold``, ``low`` and ``high`` can be compared. Colours run linearly from ``low``, which
    leaves the image unchanged, over violet and orange to pale yellow at ``high`` and above.

    Args:
        image: A path, array, tensor or Pillow image, as the detectors accept them.
        anomaly_map: Map from ``get_anomaly_map``, shape (H, W) of the image; higher is more
            anomalous. Pixels that are NaN are hatched.
        threshold: Map value above which regions are outlined in white, each close to its own
            peak as :meth:`explain` finds it; None for no outline.
        low: Map value at which colours start; None for the threshold, or 0 without one.
        high: Map value of the hottest colour; None for twice the threshold (``low + 1`` if that is
            not above ``low``), or 1 without one.

    Returns:
        RGB image of the same size.

    Raises:
        ValueError: If the image cannot be read, image and map differ in size, a number is none, or
            ``low`` is not below ``high``.
    """
    pixels, found = read_pixels(image), _as_map(anomaly_map)
    if found.shape != pixels.shape[:2]:
        raise ValueError(
            f"The image is {pixels.shape[0]} x {pixels.shape[1]}, its map "
            f"{' x '.join(map(str, found.shape))} (height x width); sizes differ. "
            "Pass the map that get_anomaly_map() returns for this image."
        )
    for name, value in {"threshold": threshold, "low": low, "high": high}.items():
        if value is not None:
            check_number(name, value, above=-math.inf, most=math.inf, itself=True)
    low, high = _ends(threshold, low, high)
    return Image.fromarray(heated(pixels, found, threshold, low=low, high=high))


def heated(
    pixels: Pixels, anomaly_map: Floats, threshold: float | None, *, low: float, high: float
) -> Pixels:
    """Draw a map over the pixels of its image, both of one size; see :func:`overlay`."""
    partly = np.isnan(anomaly_map.min())
    known = np.where(np.isnan(anomaly_map), np.float32(low), anomaly_map) if partly else anomaly_map
    mixed = np.empty_like(pixels)
    band = max(1, BAND // pixels.shape[1])  # rows
    for start in range(0, pixels.shape[0], band):
        rows = slice(start, start + band)
        levels = _levels(known[rows], low, high, np.uint8)
        kept = cv2.LUT(levels, KEPT)
        colours = cv2.applyColorMap(levels, MIXED_IN)
        below = cv2.multiply(pixels[rows], cv2.merge([kept, kept, kept]), scale=1 / 255)
        cv2.add(below, colours, dst=mixed[rows])
    if threshold is not None and (hot := hot_pixels(anomaly_map, threshold)).any():
        _outline(mixed, hot)
    if partly:
        _hatch(mixed, np.isnan(anomaly_map))
    return mixed


def _levels(anomaly_map: Floats, low: float, high: float, kind: npt.DTypeLike) -> npt.NDArray[Any]:
    """A map as integers of a kind without sign, rounded: 0 is ``low``, the highest is ``high``."""
    scale = np.iinfo(kind).max / (high - low)
    depth = {1: cv2.CV_8U, 2: cv2.CV_16U}[np.dtype(kind).itemsize]
    # The one function of OpenCV that scales, rounds and clips at once.
    return cv2.addWeighted(anomaly_map, scale, anomaly_map, 0, -low * scale, dtype=depth)


def _as_map(anomaly_map: npt.ArrayLike) -> Floats:
    array = as_array(anomaly_map)
    return np.asarray(anomaly_map if array is None else array, dtype=np.float32)


def _ends(threshold: float | None, low: float | None, high: float | None) -> tuple[float, float]:
    """Map values of the first and the last colour; see :func:`overlay`."""
    if low is None:
        low = 0.0 if threshold is None else threshold
    if high is None:
        twice = 1.0 if threshold is None else 2 * threshold
        high = twice if twice > low else low + 1
    if not low < high:
        raise ValueError(f"low={low} must be below high={high}.")
    return low, high


def _outline(picture: Pixels, hot: npt.NDArray[np.bool_]) -> None:
    lines, _ = cv2.findContours(hot.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, lines, -1, CONTOUR, max(1, min(picture.shape[:2]) // 200))


def _hatch(picture: Pixels, where: npt.NDArray[np.bool_]) -> None:
    rows, cols = np.ogrid[: where.shape[0], : where.shape[1]]
    stripe = max(2, min(where.shape) // 40)  # pixels
    striped = where & ((rows + cols) // stripe % 2 == 0)
    picture[striped] = picture[striped] // 2 + HATCH // 2


def mark_inside(image: Pixels, inside: npt.NDArray[np.bool_]) -> Pixels:
    """Dim an image where was not looked, and outline where was.

    Args:
        image: RGB, shape (H, W, 3).
        inside: Pixels that were looked at, shape (H, W).
    """
    marked = np.where(inside[..., None], image, (image * DIMMED).astype(np.uint8))
    lines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.drawContours(marked, lines, -1, EDGE, max(1, min(marked.shape[:2]) // 200))


def colour_range(patch_scores: Sequence[Floats], threshold: float) -> tuple[float, float]:
    """Choose one colour range for all images that are to be compared.

    Args:
        patch_scores: Patch scores of each image, shape (rows, cols).
        threshold: Map value above which a pixel is anomalous.

    Returns:
        (low, high) for :func:`overlay`. Usual values are transparent; the hottest colour is well
        above the threshold, so that normal images do not look hot.
    """
    values = np.concatenate([scores.ravel() for scores in patch_scores])
    values = values[~np.isnan(values)]  # of patches that were looked at
    low, high = (float(value) for value in np.quantile(values, [0.5, 0.999]))
    low = min(low, threshold)
    high = max(high, low + HEADROOM * (threshold - low))
    return (low, high) if low < high else (low, low + 1.0)


def colour_scale(stops: int) -> list[str]:
    """Colours of maps from the lowest value to the highest, as ``#rrggbb``."""
    ramp = np.linspace(0, 255, stops).astype(np.uint8)[:, None]
    colours = cv2.applyColorMap(ramp, COLOURS)[:, 0]
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colours.tolist()]


def thumbnail(image: Pixels, side: int) -> Pixels:
    """Shrink an image so that its longer side has at most ``side`` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(height * scale)), max(1, round(width * scale))
    # The mean of the nearest then is as good as filters that take several times as long.
    return cv2.resize(halved(image, size), size[::-1], interpolation=cv2.INTER_LINEAR)


def jpeg(pixels: Pixels) -> bytes:
    """An RGB image as a JPEG file, made smaller if it is too large for one."""
    pixels = thumbnail(pixels, LARGEST_SIDE)  # of a line-scan camera
    options = (cv2.IMWRITE_JPEG_QUALITY, QUALITY)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        height, width = pixels.shape[:2]
        raise OSError(f"OpenCV cannot write a JPEG file of {width} x {height} pixels")
    return data.tobytes()


def map_to_16_bits(anomaly_map: Floats, *, low: float, high: float) -> bytes:
    """A map as a PNG file of 16-bit grey: 0 is ``low``, 65535 is ``high``."""
    return grey_png(_levels(anomaly_map, low, high, np.uint16))
