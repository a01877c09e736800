"""Finds images of which it is known whether they are anomalous, and where."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..files.digest import digest_of_file
from ..images.areas import Inside, have_same_proportions
from ..images.formats import file_suffixes
from ..images.reading import image_size, read_brightness
from ..images.unreadable import UnreadableError
from .beside import MASK, masks_beside
from .fit import complete
from .images import ImageFile, search_images
from .marks import read_marks
from .masks import places_of_masks
from .messages import UsageError, listed

GOOD, TEST, MASKS = "good", "test", "ground_truth"  # folders of MVTec AD

Content = str | Path  # of a file


@dataclass(frozen=True)
class Truth:
    """Images of which it is known whether they are anomalous.

    Attributes:
        images: The images.
        labels: 1 for each that is anomalous, else 0.
        masks: For each its anomalous pixels, shape (H, W); None if it is normal, or without masks.
        empty: Masks of anomalous images in which no pixel is anomalous.
        beside: Masks in the folders of the images, which are left out of these.
        copies: By kind, "normal" and "anomalous", how many images have the bytes of others.
    """

    images: Sequence[ImageFile]
    labels: npt.NDArray[np.int64]
    masks: Sequence[Inside | None]
    empty: Sequence[Path]
    beside: Sequence[Path]
    copies: Mapping[str, int]


def read_truth(options: argparse.Namespace) -> Truth:
    """Find the images that ``evaluate`` is called with, and read their masks.

    Raises:
        UsageError: If they are given in another way than can be understood.
        ValueError: If images or masks are missing, or a mask does not fit its image.
    """
    places, masks = options.images, options.masks
    looked = places_of_masks(options)
    if options.from_report is not None:
        if places or masks:
            raise UsageError("--from-report names the images; omit folders and --masks.")
        marks = read_marks(options.from_report)
        return _labelled(marks.of_truth(0), marks.of_truth(1), None, looked)
    if len(places) == 2:
        return _labelled(places[:1], places[1:], masks, looked)
    if len(places) == 1 and (places[0] / TEST / GOOD).is_dir():
        test = places[0] / TEST
        bad = sorted(place for place in test.iterdir() if place.is_dir() and place.name != GOOD)
        own = places[0] / MASKS
        masks = masks or (own if own.is_dir() else None)
        return _labelled([test / GOOD], bad, masks, looked, test)
    raise UsageError(
        "Pass a folder of normal and one of anomalous images, one folder with test/good/ and "
        "test/DEFECT/ as in MVTec AD, or --from-report FILE."
    )


def _labelled(
    good: Sequence[Path],
    bad: Sequence[Path],
    masks: Path | None,
    looked: Sequence[Path],
    root: Path | None = None,
) -> Truth:
    if not good and not bad:
        raise ValueError("There are neither normal nor anomalous images; mark some first.")
    normal, anomalous = (
        set(complete(search_images(places, masks=looked).images) if places else ())
        for places in (good, bad)
    )
    # Of a report each file was marked by itself.
    folders = any(place.is_dir() for place in (*good, *bad))
    beside = masks_beside(normal | anomalous) if folders else set[Path]()
    normal, anomalous = normal - beside, anomalous - beside
    contents = _contents_apart(normal, anomalous)
    found = search_images([*good, *bad], masks=looked).images
    images = [image for image in found if image.path not in beside]
    labels = np.array([int(image.path in anomalous) for image in images])
    files: list[Path | None] = [None] * len(images)
    if masks is not None:
        base, scored = (root or bad[0]).resolve(), set(contents.values())
        files = [
            _mask_of(image.path, base, masks, scored) if label else None
            for image, label in zip(images, labels, strict=True)
        ]
    each = zip(files, images, strict=True)
    read = [None if file is None else _read_mask(file, image.path) for file, image in each]
    empty = [file for file, mask in zip(files, read, strict=True) if file and not np.any(mask)]
    copies = {
        kind: len(paths) - len({contents[path] for path in paths})
        for kind, paths in (("normal", normal), ("anomalous", anomalous))
    }
    return Truth(images, labels, read, empty, sorted(beside), copies)


def _contents_apart(normal: Collection[Path], anomalous: Collection[Path]) -> dict[Path, Content]:
    """What tells the content of each image: its digest, or the path of one that cannot be read.

    Raises:
        ValueError: If an image is normal and anomalous, as one file or as equal ones.
    """
    contents: dict[Path, Content] = {
        path: digest_of_file(path) or path for path in (*normal, *anomalous)
    }
    known = {contents[path]: path for path in normal}
    both = [
        str(path) if path in normal else f"{known[contents[path]]} = {path}"
        for path in sorted(anomalous)
        if contents[path] in known
    ]
    if both:
        raise ValueError(f"Both normal and anomalous: {listed(both)}.")
    return contents


def _mask_of(image: Path, base: Path, masks: Path, scored: Collection[Content]) -> Path:
    """The mask of an anomalous image: a file of its name, or with "_mask" behind it.

    A file that is one of the images, or a copy of one, is no mask.
    """
    name, known = image.relative_to(base), sorted(file_suffixes())
    suffixes = (".png", name.suffix, *known, *(suffix.upper() for suffix in known))
    for stem in (name.stem, f"{name.stem}{MASK}"):
        for suffix in suffixes:
            mask = masks / name.parent / f"{stem}{suffix}"
            if mask.is_file() and digest_of_file(mask) not in scored:
                return mask
    raise ValueError(
        f"There is no mask of {name} in {masks}: expected {name.stem}.png or "
        f"{name.stem}{MASK}.png in {masks / name.parent}."
    )


def _read_mask(mask: Path, image: Path) -> Inside:
    """The pixels of a mask that are not black; what is transparent is black."""
    pixels = np.asarray((np.atleast_3d(read_brightness(mask)) > 0).any(axis=2), bool)
    try:
        height, width = image_size(image)
    except UnreadableError:  # it is told of when it is scored
        return pixels
    rows, cols = pixels.shape
    if not have_same_proportions((rows, cols), (height, width)):
        raise ValueError(
            f"{mask} is no mask of {image}: expected the proportions of its {height} x {width} "
            f"pixels, but it has {rows} x {cols} (height x width)."
        )
    return pixels
