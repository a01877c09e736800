"""Areas of an image, as masks or as boxes and polygons, and the patches inside."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arrays import Scores, Size
from .components import Runs, between
from .views import View, map_back

Inside: TypeAlias = npt.NDArray[np.bool_]  # of pixels (H, W) or of patches (rows, cols)
Point: TypeAlias = tuple[float, float]  # x, y
HALF = 0.5  # share of a patch that has to be inside for the patch to count
ROUNDED = 1e-5  # by which it may miss it, as it could when sums were rounded
AWRY = 1.0  # pixels of a mask by which its proportions may differ, since sides are rounded
SAMPLES = 4  # points of a patch in each direction at which a turned or moved mask is looked up
CHANNELS = (1, 2, 3, 4)  # that a mask may have
NAMED = 3  # sizes in a message
KEPT = 64  # grids of patches, of which an image can have 40 with its views


@dataclass(frozen=True)
class Mask:
    """A mask, for images of its proportions.

    Attributes:
        size: (height, width) in pixels.
        data: Its pixels row by row, 8 in a byte, deflated; 1 is inside.
    """

    size: Size
    data: bytes

    @classmethod
    def of(cls, pixels: npt.NDArray[Any], name: str) -> Mask:
        """Keep a mask of shape (H, W) or (H, W, C).

        Inside is what is at least half as bright as the brightest pixel. Of two or four channels
        the last is opacity; what is transparent is dark.

        Raises:
            ValueError: If it is no mask, or empty.
        """
        shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in CHANNELS)
        if not shaped or not pixels.size or pixels.dtype.kind not in "buif":
            raise ValueError(
                f"roi={name} has shape {pixels.shape} and type {pixels.dtype}; expected a mask of "
                "shape (H, W), or a list of boxes or polygons."
            )
        if not np.isfinite(pixels).all():
            raise ValueError(f"roi={name} has pixels that are no numbers (NaN or infinite).")
        grey = pixels if pixels.ndim == 2 else _brightness(pixels)
        if not grey.max() > 0:
            height, width = grey.shape
            raise ValueError(f"roi={name} is empty: none of its {height} x {width} pixels is lit.")
        inside = grey if grey.dtype == np.bool_ else grey >= grey.max() * HALF
        return cls((grey.shape[0], grey.shape[1]), zlib.compress(np.packbits(inside).data, 1))

    def over(self, size: Size) -> Inside:
        """The pixels of an image that are inside, shape ``size``.

        Raises:
            ValueError: If the image has other proportions, or is so small that nothing is inside.
        """
        height, width = self.size
        packed = np.frombuffer(zlib.decompress(self.data), np.uint8)
        own: Inside = np.unpackbits(packed, count=height * width).view(np.bool_).reshape(self.size)
        if size == self.size:
            return own
        if not have_same_proportions(self.size, size):
            raise ValueError(
                f"its proportions are not those of the roi: the image has {_by(size)} pixels, the "
                f"mask {_by(self.size)} (height x width)."
            )
        inside = resized(own, size)
        if not inside.any():
            raise ValueError(
                f"none of its {_by(size)} pixels is inside of the roi's mask of {_by(self.size)}."
            )
        return inside

    def stored(self) -> dict[str, Any]:
        """Its run lengths as JSON values, in COCO's order: down the columns, from 0 on."""
        column = self.over(self.size).ravel(order="F")
        ends = np.flatnonzero(np.diff(column)) + 1
        counts = np.diff([0, *ends.tolist(), column.size]).tolist()
        return {"size": list(self.size), "counts": [0, *counts] if column[0] else counts}

    def __str__(self) -> str:
        share = self.over(self.size).mean()
        return f"mask of {_by(self.size)} pixels, {100 * share:.0f} % inside"


@dataclass(frozen=True)
class Shapes:
    """Boxes and polygons; what is in one of them is inside.

    Attributes:
        corners: The corners (x, y) of each; of a box left top and right bottom.
        shares: Whether they are shares of the image's sides instead of pixels.
        sizes: (height, width) of the images for which the pixels are meant; empty for all.
    """

    corners: tuple[tuple[Point, ...], ...]
    shares: bool
    sizes: frozenset[Size] = field(default=frozenset(), repr=False)

    def over(self, size: Size) -> Inside:
        """The pixels of an image that are inside, shape ``size``.

        Raises:
            ValueError: If a shape reaches beyond the image, or has no pixel, or the image has
                another size than those for which the pixels are meant.
        """
        height, width = size
        if self.sizes and size not in self.sizes:
            raise ValueError(
                f"the roi is in pixels, which lie elsewhere in it: the image has {_by(size)} "
                f"pixels, those that were learnt from have {either(self.sizes)} (height x width); "
                "give the roi in shares of the sides, or as a mask."
            )
        inside = np.zeros(size, np.bool_)
        for shape in self.corners:
            points = np.array(shape) * ((width, height) if self.shares else 1)
            if points.min() < 0 or (points > (width, height)).any():
                raise ValueError(
                    f"the roi {plain(shape)} reaches beyond it: the image has {_by(size)} pixels "
                    "(height x width)."
                )
            if len(points) == 2:
                (left, top), (right, bottom) = points
                points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
            filled = _filled(points, size)
            if not filled.any():
                raise ValueError(
                    f"none of its {_by(size)} pixels is inside of the roi's {plain(shape)}."
                )
            inside |= filled
        return inside

    def stored(self) -> list[Any]:
        """The list from which they were made, as JSON values."""
        return [plain(shape) for shape in self.corners]

    def __str__(self) -> str:
        unit = "shares of the sides" if self.shares else "pixels"
        return f"{', '.join(str(shape) for shape in self.stored())} in {unit}"


Area: TypeAlias = Mask | Shapes


def have_same_proportions(mask: Size, image: Size) -> bool:
    """Whether a mask can be one of an image; sides are rounded when images are resized."""
    (height, width), (rows, cols) = mask, image
    return min(abs(height * cols / rows - width), abs(width * rows / cols - height)) <= AWRY


def around(inside: Inside) -> tuple[slice, slice]:
    """The smallest rectangle that holds all that is looked at."""
    rows, cols = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def resized(mask: Inside, size: Size) -> Inside:
    """A mask at another size: of the nearest pixel or patch."""
    rows, cols = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows][:, cols]


@lru_cache(maxsize=KEPT)
def patches_inside(area: Area, grid: Size, size: Size) -> Inside:
    """The patches of an image that are looked at.

    Args:
        area: Where to look.
        grid: (rows, cols) of patches.
        size: (height, width) of the image in pixels.

    Returns:
        Shape (rows, cols), read-only: patches of which at least half is inside; and all that a
        connected part of the area touches, if it touches none of those.

    Raises:
        ValueError: If the area does not fit the image.
    """
    pixels = area.over(size)
    inside: Inside = _shares(pixels, grid) >= HALF - ROUNDED
    unseen = _without(pixels, inside)
    if unseen.any():
        inside = inside | (_shares(unseen, grid) > 0)
    inside.flags.writeable = False
    return inside


@lru_cache(maxsize=KEPT)
def patches_of_view(area: Area, grid: Size, size: Size, view: View) -> Inside:
    """The patches of a turned and moved copy that show what is inside of the image.

    Args:
        area: Where to look in the image itself.
        grid: (rows, cols) of patches.
        size: (height, width) of the image in pixels.
        view: How the copy is turned and moved.

    Returns:
        Shape (rows, cols), read-only: patches of which at least half is inside, or without any
        those that it touches.
    """
    (rows, cols), (height, width) = grid, size
    y, x = np.indices((rows * SAMPLES, cols * SAMPLES)) + 0.5
    x, y = map_back(x * width / (cols * SAMPLES), y * height / (rows * SAMPLES), size, view)
    shown = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    at = (np.clip(p, 0, most - 1).astype(np.int64) for p, most in ((y, height), (x, width)))
    shown &= area.over(size)[tuple(at)]
    share = shown.reshape(rows, SAMPLES, cols, SAMPLES).mean(axis=(1, 3))
    inside: Inside = share >= min(HALF, share.max() or 1)
    inside.flags.writeable = False
    return inside


def _brightness(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of a mask (H, W, C), shape (H, W): the brightest channel; an even number has opacity last."""
    if pixels.shape[2] % 2:
        return pixels.max(axis=2)
    opacity = pixels[..., -1].astype(np.float64)
    return pixels[..., :-1].max(axis=2) * (opacity / (opacity.max() or 1))


def _filled(points: npt.NDArray[np.float64], size: Size) -> Inside:
    """The pixels whose centres are in a polygon with corners (x, y): in an odd number of loops."""
    flips = np.zeros((size[0], size[1] + 1), np.uint8)
    for (x, y), (to_x, to_y) in zip(points, np.roll(points, -1, axis=0), strict=True):
        first, last = (math.ceil(end - 0.5) for end in sorted((y, to_y)))
        rows = np.arange(first, last)
        crossed = x + (rows + 0.5 - y) * (to_x - x) / (to_y - y if len(rows) else 1)
        np.bitwise_xor.at(flips, (rows, np.ceil(crossed - 0.5).astype(np.int64)), 1)
    return between(flips)


def _without(pixels: Inside, patches: Inside) -> Inside:
    """The connected parts of an area of which no pixel is in those patches, shape (H, W)."""
    runs = Runs.of(pixels)
    (height, width), (rows, _) = pixels.shape, patches.shape
    counts = np.cumsum(resized(patches, (rows, width)), axis=1, dtype=np.int32)
    up_to = np.pad(counts, ((0, 0), (1, 0)))
    row = (2 * runs.rows + 1) * rows // (2 * height)  # of patches
    part, seen = runs.components(), np.zeros(len(row), np.bool_)
    seen[part[up_to[row, runs.stops] > up_to[row, runs.starts]]] = True
    return runs.only(~seen[part]).pixels((height, width))


def _shares(pixels: Inside, grid: Size) -> Scores:
    """The share of each patch that is inside, shape (rows, cols); sums are exact."""
    rows, cols = grid
    return _sums(_sums(pixels, rows).T, cols).T / pixels.size


def _sums(rows: npt.NDArray[Any], parts: int) -> Scores:
    """Sums of rows, shape (parts, W), each weighted by how much of it is in a part, times parts."""
    count = len(rows)
    sums = np.empty((parts, rows.shape[1]))
    kind = np.float32 if rows.dtype == np.bool_ else np.float64  # both exact: sums of whole numbers
    for part in range(parts):
        first, last = part * count // parts, -(-(part + 1) * count // parts)
        ends = np.clip(np.arange(first, last + 1) * parts, part * count, (part + 1) * count)
        sums[part] = np.diff(ends).astype(kind) @ rows[first:last].astype(kind, copy=False)
    return sums


def plain(shape: Iterable[Point]) -> list[Any]:
    """The corners of a box or polygon as JSON values."""
    points = [[getattr(number, "tolist", lambda n=number: n)() for number in p] for p in shape]
    return [*points[0], *points[1]] if len(points) == 2 else points


def either(sizes: Iterable[Size]) -> str:
    """Sizes for a message, such as 40 x 60 or 80 x 120."""
    named = [_by(size) for size in sorted(sizes)]
    others = [f"{len(named) - NAMED} others"] if len(named) > NAMED else []
    return " or ".join(named[:NAMED] + others)


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
