"""Regions of interest as callers give them: a mask or a folder of masks, boxes and polygons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from ..arrays import Size
from ..checks import as_list
from .areas import HALF, Area, Mask, Point, Shapes, plain
from .identity import of_bytes
from .items import Item, describe
from .unreadable import UnreadableError
from .within import Within

SLIGHT = 1e-6  # by which shares of the sides may leave [0, 1]
FEW = 2.0  # pixels from the corner, within which shares are meant that are no shares
MOST_CORNERS, MOST_RUNS = 100_000, 2_000_000  # that a checkpoint's header has room for
KEYS = ("size", "counts")  # of a mask as JSON


@dataclass(frozen=True)
class MaskFolder:
    """A mask for each image, by its name.

    Attributes:
        path: The folder, absolute, so that another working directory has no other masks.
    """

    path: Path

    def mask_of(self, item: Item) -> Mask:
        """Read the mask of an image: the file of its name, in the folders of its name if there are.

        Raises:
            ValueError: If there is none, or more than one.
        """
        if not isinstance(item, (str, os.PathLike)):
            raise ValueError(f"roi={self.path} has masks by name, but this image has none.")
        if not self.path.is_dir():
            raise ValueError(_no_folder(self.path))
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
        if not os.path.lexists(given):
            absent = Path(given).absolute()
            raise ValueError(f"roi: there is no mask and no folder of masks {absent}.")
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


def anchored(given: Any) -> Any:
    """An argument ``roi`` of which a path means the same in any working directory.

    One that does already is returned as it is: clone() of scikit-learn demands the same object.
    """
    if is_folder(given):
        folder = anchored(given["folder"])
        return given if folder is given["folder"] else {"folder": folder}
    if not isinstance(given, (str, os.PathLike)) or not os.fspath(given).strip():
        return given
    path = Path(given)
    if path.is_absolute():
        return given
    return os.fspath(path.absolute()) if isinstance(given, str) else path.absolute()


def for_sizes(roi: Roi | None, sizes: frozenset[Size]) -> Roi | None:
    """The same, of which pixels are meant for images of these sizes, (height, width), alone.

    A mask is stretched to an image and shares are multiplied by its sides, but pixels are what they
    are. Without sizes they are meant for all images.
    """
    return replace(roi, sizes=sizes) if isinstance(roi, Shapes) and not roi.shares else roi


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


def within(item: Item, roi: Roi | None) -> Item:
    """An image of which only a region is shown; the image itself without one."""
    return item if roi is None else Within(item, lambda: area_of(roi, item))


def read_mask(path: Path) -> Mask:
    """Read a mask from an image.

    Raises:
        ValueError: If it cannot be read, or is empty.
    """
    # Imports Pillow, which listing models does not need.
    from .reading import read_brightness

    try:
        return Mask.of(read_brightness(path), repr(str(path)))
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


def _in_folder(given: Any) -> MaskFolder:
    path = Path(given).absolute()
    if not path.is_dir():
        raise ValueError(f"roi: {_no_folder(path)}")
    return MaskFolder(path)


def _no_folder(path: Path) -> str:
    return f"there is no folder of masks {path}; pass the one that there is here: roi=DIR."


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
                f"roi: {plain(shape)} is in shares of the sides and others are in pixels; give "
                "all in shares, each from 0 to 1, or all in pixels."
            )
    for shape in () if shares else corners:
        if max(max(side) - min(side) for side in zip(*shape, strict=True)) <= 1:
            raise ValueError(
                f"roi: {plain(shape)} is at most one pixel; shares of the sides are written with "
                "a point, such as 1.0."
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
                f"roi: {plain(shape)} is in shares of the sides, each from 0 to 1, or in pixels, "
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
