"""Where to look: regions of interest as masks, boxes and polygons, and the patches inside."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Size
from ..checks import as_list
from .identity import of_bytes
from .items import Item, describe
from .unreadable import UnreadableError
from .views import View, map_back

Inside: TypeAlias = npt.NDArray[np.bool_]  # of pixels (H, W) or of patches (rows, cols)
Point: TypeAlias = tuple[float, float]  # x, y

HALF = 0.5  # share of a patch that has to be inside for the patch to count
ROUNDED = 1e-5  # by which sums of float32 may miss it
SLIGHT = 1e-6  # by which shares of the sides may leave [0, 1]
FEW = 2.0  # pixels from the corner, within which shares are meant that are no shares
AWRY = 1.0  # pixels of a mask by which its proportions may differ, since sides are rounded
SAMPLES = 4  # points of a patch in each direction at which a turned or moved mask is looked up
MOST_CORNERS, MOST_RUNS = 100_000, 2_000_000  # that a checkpoint's header has room for
CHANNELS = (1, 2, 3, 4)  # that a mask may have
KEYS = ("size", "counts")  # of a mask as JSON
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
        if abs(height * size[1] / size[0] - width) > AWRY < abs(width * size[0] / size[1] - height):
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
    """

    corners: tuple[tuple[Point, ...], ...]
    shares: bool

    def over(self, size: Size) -> Inside:
        """The pixels of an image that are inside, shape ``size``.

        Raises:
            ValueError: If a shape reaches beyond the image, or has no pixel.
        """
        height, width = size
        inside = np.zeros(size, np.bool_)
        for shape in self.corners:
            points = np.array(shape) * ((width, height) if self.shares else 1)
            if points.min() < 0 or (points > (width, height)).any():
                raise ValueError(
                    f"the roi {_plain(shape)} reaches beyond it: the image has {_by(size)} pixels "
                    "(height x width)."
                )
            if len(points) == 2:
                (left, top), (right, bottom) = points
                points = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
            filled = _filled(points, size)
            if not filled.any():
                raise ValueError(
                    f"none of its {_by(size)} pixels is inside of the roi's {_plain(shape)}."
                )
            inside |= filled
        return inside

    def stored(self) -> list[Any]:
        """The list from which they were made, as JSON values."""
        return [_plain(shape) for shape in self.corners]

    def __str__(self) -> str:
        unit = "shares of the sides" if self.shares else "pixels"
        return f"{', '.join(str(shape) for shape in self.stored())} in {unit}"


@dataclass(frozen=True)
class MaskFolder:
    """A mask for each image, by its name.

    Attributes:
        path: The folder.
    """

    path: Path

    def mask_of(self, item: Item) -> Mask:
        """Read the mask of an image: the file of its name, in the folders of its name if there are.

        Raises:
            ValueError: If there is none, or more than one.
        """
        if not isinstance(item, (str, os.PathLike)):
            raise ValueError(f"roi={self.path} has masks by name, but this image has none.")
        image = Path(item)
        above = [name for name in image.parent.parts if name not in (image.anchor, "..")]
        for depth in range(len(above) + 1):
            folder = self.path.joinpath(*above[depth:])
            if found := [p for p in _masks_named(image.stem, folder) if not _same(p, image)]:
                if len(found) > 1:
                    named = " and ".join(path.name for path in found)
                    raise ValueError(f"it has several masks in {folder}: {named}.")
                return read_mask(found[0])
        raise ValueError(
            f"there is no mask of it in {self.path}: expected {image.stem}.png or "
            f"{image.stem}_mask.png, in folders named like its own or none."
        )

    def stored(self) -> dict[str, Any]:
        """Where it is, as JSON values."""
        return {"folder": os.fspath(self.path)}

    def __str__(self) -> str:
        return f"masks in {self.path}"


Area: TypeAlias = Mask | Shapes
Roi: TypeAlias = Area | MaskFolder


def roi_of(given: Any) -> Roi | None:
    """Check a detector's argument ``roi`` and read its mask.

    Args:
        given: The path of a mask or of a folder of masks; a mask (H, W) as an array; a box (left,
            top, right, bottom), a polygon [(x, y), ...], or a list of these, all of them as arrays
            as well; run lengths as in COCO, or what else :meth:`stored` of one gave; or None.

    Raises:
        ValueError: If it is nothing of these, or empty.
    """
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        if not os.fspath(given).strip():
            raise ValueError(f"roi={given!r} is empty; expected the path of a mask or a folder.")
        return _in_folder(given) if Path(given).is_dir() else read_mask(Path(given))
    if isinstance(given, Mapping):
        return _in_folder(given["folder"]) if is_folder(given) else _run_lengths(given)
    if isinstance(given, (list, tuple)):
        arrays = any(isinstance(shape, np.ndarray) for shape in given)
        return _shapes([np.asarray(shape).tolist() for shape in given] if arrays else given)
    if hasattr(given, "shape"):
        array, name = np.asarray(given), f"array of shape {tuple(given.shape)}"
        if _of_corners(array):
            return _shapes(array.tolist())
        return Mask.of(array, name)
    raise ValueError(
        f"roi={given!r}; expected a mask (a path or an array), a folder of masks, boxes (left, "
        "top, right, bottom) or polygons [(x, y), ...]."
    )


def is_folder(stored: Any) -> bool:
    """Whether that is what :meth:`MaskFolder.stored` gives."""
    return isinstance(stored, Mapping) and set(stored) == {"folder"}


def in_words(stored: Any) -> str:
    """What :meth:`stored` of a region of interest gave, or None, for a message.

    Raises:
        ValueError: If it is nothing of these.
    """
    if stored is None:
        return "None"
    return f"masks in {stored['folder']}" if is_folder(stored) else str(roi_of(stored))


@overload
def area_of(roi: None, item: Item) -> None: ...


@overload
def area_of(roi: Roi, item: Item) -> Area: ...


def area_of(roi: Roi | None, item: Item) -> Area | None:
    """Where to look in an image.

    Raises:
        UnreadableError: If its mask is missing or cannot be read; the message names the image.
    """
    if not isinstance(roi, MaskFolder):
        return roi
    try:
        return roi.mask_of(item)
    except ValueError as error:
        raise UnreadableError(f"{describe(item)}: {error}") from error


def read_mask(path: Path) -> Mask:
    """Read a mask from an image.

    Raises:
        ValueError: If it cannot be read, or is empty.
    """
    # Imports Pillow, which listing models does not need.
    from .reading import read_brightness

    try:
        return Mask.of(read_brightness(path), str(path))
    except UnreadableError as error:
        raise ValueError(f"roi: {error}") from error


def digest(roi: Roi) -> str:
    """What changes with where is looked; of a folder, with any of its masks."""
    if isinstance(roi, Mask):
        return of_bytes(repr(roi.size).encode() + roi.data)
    if isinstance(roi, Shapes):
        return of_bytes(repr(roi).encode())
    files = sorted(path for path in roi.path.rglob("*") if path.is_file())
    told = [(os.fspath(path.relative_to(roi.path)), of_bytes(path.read_bytes())) for path in files]
    return of_bytes(repr(told).encode())


def identity_within(image: str, roi: Roi | None, area: Area | None) -> str:
    """The identity of an image of which only that area is looked at.

    Of masks by name it has its own, since it may have another one elsewhere.
    """
    if area is None or not isinstance(roi, MaskFolder):
        return image
    return f"{image} {digest(area)}"


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
    import cv2

    pixels = area.over(size)
    inside: Inside = _shares(pixels, grid) >= HALF - ROUNDED
    count, parts = cv2.connectedComponents(pixels.view(np.uint8))
    found = np.zeros(count, np.bool_)
    found[0] = True  # what is outside
    found[parts[resized(inside, size)]] = True
    if not found.all():
        inside = inside | (_shares(~found[parts], grid) > 0)
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
    return np.bitwise_xor.accumulate(flips[:, :-1], axis=1).view(np.bool_)


def _shares(pixels: Inside, grid: Size) -> Floats:
    """The share of each patch that is inside, shape (rows, cols)."""
    # Importing OpenCV takes a tenth of a second; listing models must be instant.
    import cv2

    for axis, cells in enumerate(grid):  # OpenCV weights by area only where it shrinks
        pixels = pixels.repeat(-(-cells // pixels.shape[axis]), axis=axis)
    return cv2.resize(pixels.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA)


def _in_folder(given: Any) -> MaskFolder:
    path = Path(given)
    if not path.is_dir():
        raise ValueError(
            f"roi: there is no folder of masks {path}; pass the one that there is here: roi=DIR."
        )
    return MaskFolder(path)


def _same(mask: Path, image: Path) -> bool:
    """Whether a mask is the image itself, which says nothing about where to look."""
    return image.exists() and mask.samefile(image)


def _masks_named(stem: str, folder: Path) -> list[Path]:
    from .formats import file_suffixes

    if not folder.is_dir():
        return []
    names, known = (stem, f"{stem}_mask"), file_suffixes()
    return sorted(p for p in folder.iterdir() if p.stem in names and p.suffix.lower() in known)


def _run_lengths(given: Mapping[str, Any]) -> Mask:
    from .opening import most_pixels

    size, counts = (as_list(f"roi[{key!r}]", given.get(key), MOST_RUNS) for key in KEYS)
    whole = all(type(number) is int and number >= 0 for number in (*size, *counts))
    if not whole or len(size) != 2 or not 0 < size[0] * size[1] == sum(counts) <= most_pixels():
        raise ValueError(
            "roi: run lengths need a size (height, width) in pixels, and counts whose sum it is."
        )
    values = np.arange(len(counts)) % 2 == 1
    return Mask.of(np.repeat(values, counts).reshape(size, order="F"), "run lengths")


def _shapes(given: Sequence[Any]) -> Shapes:
    alone = _is_box(given) or _is_polygon(given)
    shapes = [given] if alone or _all_numbers(given) else list(given)
    wrong = [shape for shape in shapes if not (_is_box(shape) or _is_polygon(shape))]
    if wrong or not shapes:
        raise ValueError(
            f"roi={wrong[0] if wrong else given!r} is no box (left, top, right, bottom), whose "
            "right and bottom are greater, and no polygon [(x, y), ...] of three corners or more."
        )
    corners = tuple(
        (tuple(shape[:2]), tuple(shape[2:])) if _is_box(shape) else tuple(map(tuple, shape))
        for shape in shapes
    )
    corners = tuple(_within(shape) for shape in corners)
    numbers = [number for shape in corners for point in shape for number in point]
    if len(numbers) > 2 * MOST_CORNERS:
        raise ValueError(f"roi has {len(numbers) // 2} corners; the maximum is {MOST_CORNERS}.")
    fractions = any(isinstance(number, (float, np.floating)) for number in numbers)
    shares = fractions and max(numbers) <= 1 and min(numbers) >= 0
    for shape in corners if fractions and not shares else ():
        if min(map(min, shape)) >= 0 and max(map(max, shape)) <= 1:
            raise ValueError(
                f"roi: {_plain(shape)} is in shares of the sides and others are in pixels; give "
                "all in shares, each from 0 to 1, or all in pixels."
            )
    return Shapes(corners, shares)


def _within(shape: tuple[Point, ...]) -> tuple[Point, ...]:
    """Shares of the sides that miss 0 or 1 by rounding are within; in pixels nothing changes.

    Raises:
        ValueError: If they miss it by more, so that they would be a pixel or two.
    """
    numbers = [number for point in shape for number in point]
    fractions = any(isinstance(number, (float, np.floating)) for number in numbers)
    if not fractions or (min(numbers) >= 0 and max(numbers) <= 1):
        return shape
    if min(numbers) < -SLIGHT or max(numbers) > 1 + SLIGHT:
        if max(numbers) < FEW:
            raise ValueError(
                f"roi: {_plain(shape)} is in shares of the sides, each from 0 to 1, or in pixels, "
                f"of which it would hold hardly any; {_outside(numbers):g} is no share."
            )
        return shape
    return tuple((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)) for x, y in shape)


def _outside(numbers: Sequence[float]) -> float:
    return max(numbers, key=lambda number: abs(number - HALF))


def _of_corners(array: npt.NDArray[Any]) -> bool:
    """Whether numbers are a box (4,), boxes (N, 4) or a polygon (N, 2) rather than a mask."""
    numbers = array.dtype.kind in "iuf"
    return numbers and (array.shape == (4,) or (array.ndim == 2 and array.shape[1] in (2, 4)))


def _is_box(shape: Any) -> bool:
    if not _all_numbers(shape) or len(shape) != 4:
        return False
    left, top, right, bottom = shape
    return bool(left < right and top < bottom)


def _is_polygon(shape: Any) -> bool:
    points = isinstance(shape, (list, tuple)) and len(shape) > 2
    return points and all(_all_numbers(point) and len(point) == 2 for point in shape)


def _all_numbers(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and all(
        isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(float(value))
        for value in values
    )


def _plain(shape: Iterable[Point]) -> list[Any]:
    points = [[getattr(number, "tolist", lambda n=number: n)() for number in p] for p in shape]
    return [*points[0], *points[1]] if len(points) == 2 else points


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
