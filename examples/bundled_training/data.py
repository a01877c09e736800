"""Rendered training pictures in two .npy files, and batches drawn from them.

The unit is a group: one product, photographed twice without and with a defect. So a batch holds the
contrast between a defect and the same picture without it, and that between two instances of one
product.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pyimgano_openclip.samples import (
    FAMILIES,
    HELD_OUT_DEFECTS,
    HELD_OUT_FAMILIES,
    defects_of,
    make_pair,
)

SIDE = 104  # pixels of a cached picture
CROP = 96  # pixels of a picture in a batch
FIRST_PRODUCT = 1000  # products below are left to evaluation and tests
TRAINING_FAMILIES = tuple(f for f in FAMILIES if f not in HELD_OUT_FAMILIES)
PAIRS = 2  # instances of a product in a group


@dataclass(frozen=True)
class Group:
    """What to render: one product with a defect for each of its instances."""

    family: str
    product: int
    size: tuple[int, int]
    defects: tuple[str, ...]

    @classmethod
    def numbered(cls, index: int, seed: int) -> Group:
        """Decide group `index` of a training set with this seed."""
        rng = np.random.default_rng([seed, index])
        family = TRAINING_FAMILIES[index % len(TRAINING_FAMILIES)]
        choices = [d for d in defects_of(family) if d not in HELD_OUT_DEFECTS]
        defects = tuple(str(d) for d in rng.choice(choices, PAIRS, replace=False))
        size = (SIDE, SIDE)
        if rng.random() < 0.4:
            short, aspect = rng.uniform(72, 168), rng.uniform(1, 1.8)
            size = (round(short), round(short * aspect))
            size = size if rng.random() < 0.5 else size[::-1]
        return cls(family, FIRST_PRODUCT + seed * 1_000_000 + index, size, defects)


Rendered = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def _rendered(tasks: list[tuple[int, int]], workers: int) -> Iterator[Rendered]:
    if workers == 1:
        yield from map(_render, tasks)
        return
    # A forked process would inherit the locks of torch's threads and could wait for ever.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_render, tasks, chunksize=64)


def _render(task: tuple[int, int]) -> Rendered:
    index, seed = task
    cv2.setNumThreads(1)
    group = Group.numbered(index, seed)
    images = np.empty((PAIRS, 2, SIDE, SIDE, 3), np.uint8)
    masks = np.empty((PAIRS, SIDE, SIDE), np.uint8)
    for number, defect in enumerate(group.defects):
        pair = make_pair(
            group.family, seed=number, defect=defect, size=group.size, product=group.product
        )
        for side, sample in enumerate(pair):
            images[number, side] = _squash(sample.image)
        masks[number] = _squash(pair[1].mask.astype(np.uint8) * 255)
    return images, masks


def _squash(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if picture.shape[:2] == (SIDE, SIDE):
        return picture
    shrinks = picture.shape[0] * picture.shape[1] > SIDE * SIDE
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (SIDE, SIDE), interpolation=how), np.uint8)


@dataclass(frozen=True)
class Batch:
    """G groups, each of `PAIRS` instances, normal and defective.

    Attributes:
        images: RGB in [0, 1], shape (G, PAIRS, 2, 3, 96, 96); the second of two is defective.
        masks: Share of each pixel that is defective, shape (G, PAIRS, 96, 96).
        groups: What they show.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.float32]
    groups: list[Group]


class TrainingSet:
    """Groups rendered once and kept in a folder.

    Args:
        folder: Where the cache is or will be.
        count: Number of groups.
        seed: Decides all of them.
        workers: Processes that render.
    """

    def __init__(self, folder: Path, count: int, seed: int, workers: int = 2) -> None:
        self.count, self.seed = count, seed
        wanted = {"count": count, "seed": seed, "side": SIDE, "families": list(TRAINING_FAMILIES)}
        header = folder / f"groups-{seed}-{count}.json"
        self._paths = (header.with_suffix(".images.npy"), header.with_suffix(".masks.npy"))
        if not header.is_file() or json.loads(header.read_text()) != wanted:
            folder.mkdir(parents=True, exist_ok=True)
            self._fill(workers)
            header.write_text(json.dumps(wanted))
        self.images = np.load(self._paths[0], mmap_mode="r")
        self.masks = np.load(self._paths[1], mmap_mode="r")
        self._epoch, self._permutation = -1, np.arange(0)

    def _fill(self, workers: int) -> None:
        shape = (self.count, PAIRS)
        images = np.lib.format.open_memmap(
            self._paths[0], "w+", np.uint8, (*shape, 2, SIDE, SIDE, 3)
        )
        masks = np.lib.format.open_memmap(self._paths[1], "w+", np.uint8, (*shape, SIDE, SIDE))
        tasks = [(index, self.seed) for index in range(self.count)]
        for index, (pictures, mask) in enumerate(_rendered(tasks, workers)):
            images[index], masks[index] = pictures, mask
        images.flush()
        masks.flush()

    def batch(self, step: int, groups: int) -> Batch:
        """Batch number `step`: it depends on nothing but this number, so training can resume.

        Every group is seen once before any is seen again.
        """
        first = step * groups
        places = range(first, first + groups)
        indices = [int(self._order(place // self.count)[place % self.count]) for place in places]
        rng = np.random.default_rng([self.seed, 1, step])
        views = [_augment(self.images[i], self.masks[i], rng) for i in indices]
        return Batch(
            np.stack([pictures for pictures, _ in views]),
            np.stack([mask for _, mask in views]),
            [Group.numbered(index, self.seed) for index in indices],
        )

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._epoch != epoch:
            rng = np.random.default_rng([self.seed, 2, epoch])
            self._epoch, self._permutation = epoch, rng.permutation(self.count)
        return self._permutation


def _augment(
    images: NDArray[np.uint8], masks: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One orientation and colour cast per group, one crop and exposure per instance."""
    turns, mirrored = int(rng.integers(4)), bool(rng.random() < 0.5)
    channels = rng.permutation(3) if rng.random() < 0.3 else np.arange(3)
    grey = rng.random() < 0.2
    pictures, shares = [], []
    for picture, mask in zip(images, masks, strict=True):
        y, x = rng.integers(0, SIDE - CROP + 1, 2)
        view = picture[:, y : y + CROP, x : x + CROP][..., channels].astype(np.float32) / 255
        share = mask[y : y + CROP, x : x + CROP].astype(np.float32) / 255
        if grey:
            view = np.repeat(view.mean(-1, keepdims=True), 3, -1)
        view = np.clip(view ** rng.uniform(0.8, 1.25) * rng.uniform(0.9, 1.1), 0, 1)
        view, share = np.rot90(view, turns, (1, 2)), np.rot90(share, turns)
        if mirrored:
            view, share = view[:, :, ::-1], share[:, ::-1]
        pictures.append(view.transpose(0, 3, 1, 2))
        shares.append(share)
    return np.stack(pictures).astype(np.float32), np.stack(shares).astype(np.float32)
