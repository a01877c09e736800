"""Handles the paths, arrays and tensors that callers pass in, without decoding any image."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .unreadable import UnreadableError

Item: TypeAlias = Any  # str, os.PathLike, or an array or tensor of one image

ChannelOrder = Literal["rgb", "bgr"]  # of arrays and tensors; files know their own
ORDERS: tuple[str, ...] = get_args(ChannelOrder)
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
REVERSED = {3: [2, 1, 0], 4: [2, 1, 0, 3]}  # BGR and BGRA, by the number of channels


def as_items(x: object, argument: str = "x") -> list[Item]:
    """Return the images in ``x`` as a list.

    Args:
        x: A list, tuple or other iterable of paths and arrays; a one-dimensional array or pandas
            Series of them; one stacked array (N, H, W, 3) or tensor (N, 3, H, W); or the path of a
            folder, whose images are taken at any depth, through links too, by path, without hidden
            files.
        argument: Name of the caller's argument, for messages.

    Raises:
        ValueError: If ``x`` is empty, None, or a single image instead of a list of images.
    """
    items = list(as_source(x, argument))
    if not items:
        raise ValueError(f"{argument} is empty; pass at least one image.")
    return items


def as_source(x: object, argument: str = "x") -> Sequence[Item] | Iterator[Item]:
    """The images in ``x``, none taken yet: a list stays one, and a folder becomes one.

    Args:
        x: As for :func:`as_items`, or a generator; may be empty.
        argument: Name of the caller's argument, for messages.

    Raises:
        ValueError: If ``x`` is None, a folder without images, a single image instead of a list of
            images, a set or a mapping.
    """
    if isinstance(x, (str, os.PathLike)) and os.path.isdir(x):  # noqa: PTH112 - an empty path is no folder
        return _images_in(Path(x), argument)
    if isinstance(x, (str, bytes, os.PathLike)):
        folder = "" if os.path.exists(x) else " There is no folder of this name."  # noqa: PTH110 - may be bytes
        raise ValueError(
            f"{argument} is the single path {x!r}; pass a list of paths: [{x!r}].{folder}"
        )
    if isinstance(x, (set, frozenset, Mapping)):
        raise ValueError(
            f"{argument} is a {type(x).__name__}, from which no order of images follows; pass a "
            "list of image paths or of RGB arrays."
        )
    if getattr(x, "ndim", 4) != 4 and not _is_column(x):
        raise ValueError(
            f"{argument} is one {describe(x)}; pass a list of images [image] or a stacked array "
            "of shape (N, H, W, 3)."
        )
    if not isinstance(x, Iterable):
        raise ValueError(
            f"{argument} is {type(x).__name__}; pass a list of image paths or of RGB arrays."
        )
    return x if isinstance(x, Sequence) else iter(x)


def as_stream(x: object) -> Sequence[Item] | Iterator[Item]:
    """Like :func:`as_source`, but a list, tuple or array must not be empty.

    Raises:
        ValueError: As there, and if it is.
    """
    source = as_source(x)
    if isinstance(x, Sized) and not len(x):
        raise ValueError("x is empty; pass at least one image.")
    return source


def _images_in(folder: Path, argument: str) -> list[Path]:
    # Imports Pillow, which listing models does not need.
    from .formats import file_suffixes

    def refuse(error: OSError) -> None:
        reason = f"{error.filename} cannot be searched: {error.strerror}"
        raise ValueError(f"{argument}: the folder {reason}.") from error

    suffixes, found, seen = file_suffixes(), list[Path](), set[str]()
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # linked twice, or in a circle
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = [Path(place, name) for name in names if not name.startswith(".")]
        found += [path for path in paths if path.suffix.lower() in suffixes]
    if not found:
        raise ValueError(f"{argument}: there is no image in the folder {folder}.")
    return sorted(found)


def describe(item: Item) -> str:
    """Name an item in a message by its path, or by the shape and type of an array."""
    if isinstance(item, (str, os.PathLike)):
        return str(item) or "''"
    if hasattr(item, "shape") and hasattr(item, "dtype"):
        kind = "tensor" if _is_tensor(item) else "array"
        return f"{kind} of shape {tuple(item.shape)}, {item.dtype}"
    return f"{type(item).__name__} object"


def as_array(item: Item) -> npt.NDArray[Any] | None:
    """Return an item as an array with channels last; None if it is not an array or tensor.

    Torch tensors have their channels first: (C, H, W).

    Raises:
        UnreadableError: If an array has masked values, or a tensor has its channels last or cannot
            be converted to NumPy, such as a sparse one.
    """
    if isinstance(item, np.ndarray):
        if np.ma.is_masked(item):
            masked = np.ma.getmaskarray(item).sum()
            raise UnreadableError(
                f"{describe(item)} has {masked} masked values, which would be looked at like the "
                "others; pass its .data, and where to look as roi=."
            )
        return np.asarray(item)  # not a masked array or a matrix
    if not _is_tensor(item):
        return None
    try:
        tensor = item.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()  # NumPy has no bfloat16
        array: npt.NDArray[Any] = tensor.numpy()
    except (TypeError, RuntimeError) as error:
        raise UnreadableError(
            f"{describe(item)} cannot be converted to a NumPy array: {error}"
        ) from error
    if array.ndim != 3:
        return array
    if array.shape[0] not in CHANNELS and array.shape[2] in CHANNELS:
        raise UnreadableError(
            f"{describe(item)} has its channels last; expected a tensor with channels first: "
            "tensor.permute(2, 0, 1)."
        )
    return np.moveaxis(array, 0, -1)


def in_rgb(item: Item, channel_order: ChannelOrder) -> Item:
    """Convert an array or tensor of a channel order to RGB(A); return anything else unchanged."""
    if channel_order == "rgb" or getattr(item, "ndim", 0) != 3:
        return item
    if isinstance(item, np.ndarray) and item.shape[2] == 3:
        return item[..., ::-1]  # no copy
    if isinstance(item, np.ndarray) and item.shape[2] in REVERSED:
        return item[..., REVERSED[item.shape[2]]]
    if _is_tensor(item) and item.shape[0] in REVERSED:
        return item[REVERSED[item.shape[0]]]
    return item


def _is_column(x: object) -> bool:
    """Whether ``x`` holds strings or objects in one dimension, like a column of a table."""
    kind = getattr(getattr(x, "dtype", None), "kind", "")  # in NumPy and pandas
    return getattr(x, "ndim", 0) == 1 and kind in ("O", "T", "U")


def _is_tensor(item: Item) -> bool:
    return hasattr(item, "detach") and hasattr(item, "cpu")
