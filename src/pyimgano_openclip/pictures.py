"""Anomaly maps as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from .embedding import Floats
from .frame import read_pixels
from .items import Item, as_array

OPACITY = 0.55  # of the hottest colour over the image
HEADROOM = 2.0  # times the distance from usual to threshold, at which colours end at the earliest
LEVELS = 64  # colours of a map
CONTOUR = (255, 255, 255)  # colour of the line around what is above the threshold
HATCH = 128  # grey level of the stripes where a map is NaN


def overlay(
    image: Item,
    anomaly_map: npt.ArrayLike,
    threshold: float | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Image.Image:
    """Lay an anomaly map over its image: the hotter, the brighter and the more opaque.

    ```python
    overlay("part.png", detector.get_anomaly_map("part.png"), detector.threshold_)
    ```

    One map value has one colour whatever else is in the map, so overlays drawn with equal
    ``threshold``, ``low`` and ``high`` can be compared. Colours run evenly from ``low``, which
    leaves the image as it is, over violet and orange to pale yellow at ``high`` and above.

    Args:
        image: A path, an array, a tensor or a Pillow image, as the detectors take them.
        anomaly_map: Shape (H, W) of the image, as of ``get_anomaly_map``; higher is more anomalous.
            Where it is NaN the image is hatched: nothing is known there.
        threshold: Map value to draw a white line around; what is below it is left as it is, unless
            ``low`` says otherwise.
        low: Map value from which on there is colour; None for the threshold, or 0 without one.
        high: Map value of the last colour; None for twice the threshold (for ``low + 1`` if that
            is not above ``low``), or 1 without one.

    Returns:
        RGB, of the size of the image.

    Raises:
        ValueError: If the image cannot be read, image and map differ in size, or low is not below
            high.
    """
    pixels, found = read_pixels(image), _as_map(anomaly_map)
    if found.shape != pixels.shape[:2]:
        raise ValueError(
            f"The image is {pixels.shape[0]} x {pixels.shape[1]}, its map "
            f"{' x '.join(map(str, found.shape))} (height x width); sizes differ. "
            "Pass the map that get_anomaly_map() returns for this image."
        )
    low, high = _ends(threshold, low, high)
    unknown = np.isnan(found)
    heat = np.clip((np.where(unknown, low, found) - low) / (high - low), 0, 1).astype(np.float32)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    opacity = (OPACITY * heat)[..., None]
    mixed = np.ascontiguousarray((pixels * (1 - opacity) + colours * opacity).astype(np.uint8))
    if threshold is not None:
        _outline(mixed, found > threshold)
    if unknown.any():
        _hatch(mixed, unknown)
    return Image.fromarray(mixed)


def _as_map(anomaly_map: npt.ArrayLike) -> Floats:
    array = as_array(anomaly_map)
    return np.asarray(anomaly_map if array is None else array, dtype=np.float32)


def _ends(threshold: float | None, low: float | None, high: float | None) -> tuple[float, float]:
    """The map values of the first and the last colour; see :func:`overlay`."""
    if low is None:
        low = 0.0 if threshold is None else threshold
    if high is None:
        twice = 1.0 if threshold is None else 2 * threshold
        high = twice if twice > low else low + 1
    if not low < high:
        raise ValueError(f"low={low} must be below high={high}.")
    return low, high


def _outline(picture: npt.NDArray[np.uint8], hot: npt.NDArray[np.bool_]) -> None:
    lines, _ = cv2.findContours(hot.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(picture, lines, -1, CONTOUR, max(1, min(picture.shape[:2]) // 200))


def _hatch(picture: npt.NDArray[np.uint8], where: npt.NDArray[np.bool_]) -> None:
    rows, cols = np.ogrid[: where.shape[0], : where.shape[1]]
    stripe = max(2, min(where.shape) // 40)  # pixels
    striped = where & ((rows + cols) // stripe % 2 == 0)
    picture[striped] = picture[striped] // 2 + HATCH // 2


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
