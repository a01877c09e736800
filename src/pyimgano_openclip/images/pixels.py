"""Converts pixels of any kind to 8-bit RGB.

Files may be 1-bit, 8-bit, 12-bit or 16-bit grey, palette, RGB, CMYK, or any other mode that Pillow
converts; transparent pixels are blended with white, and only the first page or frame is used. Grey
values are scaled by the depth that the file declares; of 32-bit integers 16 bits are used, and of
signed ones those above 0.
Arrays and torch tensors may be grey (H, W) or (H, W, 1), RGB (H, W, 3) or RGBA (H, W, 4), tensors
with channels first; bool, uint8, uint16 (scaled by 1 / 257, never clipped), or floating point in
[0, 1], in either byte order.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from .declared import SIXTEEN_BITS, Declared, declared_by
from .items import CHANNELS
from .unreadable import UnreadableError

Pixels: TypeAlias = npt.NDArray[np.uint8]

BACKGROUND = 255  # grey level under transparent pixels
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's names for 16-bit grey
ROUNDING = 1e-3  # by which interpolated values may exceed [0, 1]; half a grey level is 2e-3


def to_rgb(image: Image.Image, background: int = BACKGROUND) -> Image.Image:
    """Convert a Pillow image; see the module docstring for the supported kinds.

    Args:
        image: The image.
        background: Grey level under transparent pixels.

    Raises:
        ValueError: If it has floating-point values outside [0, 1] or integers outside 16 bits.
    """
    declared = declared_by(image)
    if image.mode in DEEP_MODES or declared.bytes_signed:
        deep = _integers(image, declared)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            deep = np.where(deep == clear, declared.white * background // 255, deep)
        if declared.inverted:
            deep = declared.white - deep
        return Image.fromarray(_scaled(deep, declared.white)).convert("RGB")
    if image.mode == "F":
        unit = _unit_interval(np.asarray(image))
        return Image.fromarray(_to_bytes(1 - unit if declared.inverted else unit)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (background,) * 3 + (255,))
        image = Image.alpha_composite(below, image)
    if image.mode != "RGB":
        return image.convert("RGB")
    image.load()  # convert() would make a copy
    return image


def range_used(pixels: Image.Image | npt.NDArray[Any]) -> float | None:
    """The highest value as a share of what 16 bits hold, or as many as the file declares.

    Args:
        pixels: A Pillow image, or an array that :func:`array_to_rgb` accepts.

    Returns:
        A share in [0, 1]; None for images of 8 bits and of floating point.
    """
    if isinstance(pixels, np.ndarray):
        deep = pixels.dtype.newbyteorder("=") == np.uint16
        return int(pixels.max()) / SIXTEEN_BITS if deep else None
    if pixels.mode not in DEEP_MODES:
        return None
    declared, values = declared_by(pixels), np.asarray(pixels)
    highest = declared.white - int(values.min()) if declared.inverted else int(values.max())
    return highest / declared.white


def array_to_rgb(array: npt.NDArray[Any], name: str) -> Pixels:
    """Convert an array; see the module docstring for the supported kinds.

    Args:
        array: Shape (H, W) or (H, W, C).
        name: Name of the array in messages.

    Returns:
        RGB, shape (H, W, 3).

    Raises:
        UnreadableError: If shape, type or values are not supported.
    """
    check_array(array, name)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    try:
        pixels = _to_bytes(_unit_interval(native) if native.dtype.kind == "f" else native)
    except ValueError as error:
        raise UnreadableError(f"{name}: {error}") from error
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] == 4:
        opacity = pixels[..., 3:].astype(np.float32) / 255
        mixed = pixels[..., :3] * opacity + BACKGROUND * (1 - opacity)
        pixels = np.rint(mixed).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def check_array(array: npt.NDArray[Any], name: str) -> tuple[int, int]:
    """Check shape and type of an array, but not its values; return (height, width).

    Raises:
        UnreadableError: If shape or type are not supported.
    """
    shape, kind = array.shape, array.dtype.newbyteorder("=")
    grey_or_colour = array.ndim == 2 or (array.ndim == 3 and shape[2] in CHANNELS)
    if not grey_or_colour or 0 in shape:
        first = array.ndim == 3 and shape[0] in CHANNELS
        remedy = " Move its channels last: array.transpose(1, 2, 0)." if first else ""
        raise UnreadableError(
            f"{name} is not an image; expected grey (H, W), RGB (H, W, 3) or RGBA (H, W, 4)."
            f"{remedy}"
        )
    if kind not in (np.uint8, np.uint16, np.bool_) and kind.kind != "f":
        raise UnreadableError(
            f"{name} has values of type {kind}; expected uint8, uint16, bool, or floating point "
            "in [0, 1]."
        )
    return shape[0], shape[1]


def _unit_interval(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise ValueError("it has NaN or infinite values.")
    low, high = float(values.min()), float(values.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(
            f"floating-point values must be in [0, 1], but these range from {low:g} to {high:g}."
        )
    return np.asarray(np.clip(values, 0, 1), dtype=np.float32)


def _integers(image: Image.Image, declared: Declared) -> npt.NDArray[np.uint16]:
    values = np.asarray(image)
    if declared.bytes_signed:
        values = values.view(np.int8)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > declared.white:
        bits = declared.white.bit_length()
        raise ValueError(
            f"integers must fit into {bits} bits, but these range from {low} to {high}."
        )
    return values.astype(np.uint16)


def _scaled(values: npt.NDArray[np.uint16], white: int) -> Pixels:
    """Scale integers in [0, white] to 8 bits, rounded."""
    table = (np.arange(white + 1, dtype=np.uint32) * 510 + white) // (2 * white)
    return table.astype(np.uint8)[values]


def _to_bytes(values: npt.NDArray[Any]) -> Pixels:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return _scaled(values, SIXTEEN_BITS)
    return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
