"""Tells masks from images where both lie in one folder, as in several public data sets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ..images.reading import read_brightness
from ..images.unreadable import UnreadableError, attempt
from .messages import listed

MASK = "_mask"  # behind the stem of an image in that of its mask
FLAT = 0.9  # share of a mask's pixels that are of two values; of 42 photographs of tiles 3 to 13 %
REMEDY = "Put masks into a folder of their own"


def masks_beside(images: Collection[Path]) -> set[Path]:
    """Those of the files that are masks of others in the same folder.

    Raises:
        ValueError: If it cannot be told which file of an equal stem is the image.
    """
    masks, unclear = like_masks(images)
    if unclear:
        raise ValueError(
            f"It cannot be told which is an image and which its mask: {listed(unclear)}. Expected "
            "one image of each name, and masks in black and white; rename one of two photographs, "
            "or put masks into a folder of their own and pass it as --masks."
        )
    return masks


def check_images_alone(images: Collection[Path]) -> None:
    """Refuse to learn from masks.

    Raises:
        ValueError: If files are like masks of others in the same folder.
    """
    masks, _ = like_masks(images)
    if masks:
        raise ValueError(
            f"{told(masks)}; a detector learns from images. {REMEDY}, or name files one by one."
        )


def told(masks: Collection[Path]) -> str:
    """Tell how many files are like masks, and which."""
    count, names = len(masks), listed([str(path) for path in sorted(masks)])
    are = "file is like a mask" if count == 1 else "files are like masks"
    return f"{count} {are} of images beside them ({names})"


def like_masks(images: Collection[Path]) -> tuple[set[Path], list[str]]:
    """Those of the files that are called and look like masks of others in the same folder.

    A mask is called like an image, with ``_mask`` behind it, or like it but for the suffix
    (``x.jpg`` and ``x.png``). Of the latter the pixels tell which is the mask: nearly all of them
    have one of two values.

    Returns:
        The masks, and files of an equal stem of which it cannot be told which is the image.
    """
    stems = defaultdict[Path, list[Path]](list)
    for path in sorted(images):
        stems[path.with_name(path.stem)].append(path)
    masks = {
        path
        for stem, paths in stems.items()
        if stem.name.endswith(MASK) and stem.with_name(stem.name.removesuffix(MASK)) in stems
        for path in paths
    }
    unclear = list[str]()
    for paths in stems.values():
        if len(paths) == 1 or paths[0] in masks:
            continue
        flat = {path for path in paths if _is_flat(path)}
        masks |= flat
        if len(paths) - len(flat) != 1:
            unclear.append(_together(paths))
    return masks, unclear


def _together(paths: Sequence[Path]) -> str:
    return " and ".join([str(paths[0]), *(path.name for path in paths[1:])])


def _is_flat(path: Path) -> bool:
    pixels = attempt(read_brightness, path)
    if isinstance(pixels, UnreadableError):
        return False  # it is told of when it is scored
    counts = np.unique(np.atleast_3d(pixels).max(axis=2), return_counts=True)[1]
    return bool(np.sort(counts)[-2:].sum() >= FLAT * counts.sum())
