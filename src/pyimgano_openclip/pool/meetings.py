"""Who is compared with whom: everyone with everyone, or with a seeded sample in a large pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Indices

SIDE = 4096  # patches of a block, so that the similarities of two take 64 MiB
MOST_IMAGES = 16  # in a block; a sample consists of whole blocks


@dataclass(frozen=True)
class Meetings:
    """A plan in which images meet by blocks.

    The blocks stand in a ring, and each meets itself and those up to ``reach`` places away, so that
    every image meets equally many others and each pair is compared once for both.

    Attributes:
        blocks: Indices of the images of each block.
        reach: Number of blocks on either side that a block meets.
    """

    blocks: list[Indices]
    reach: int

    @classmethod
    def of(cls, images: int, patches: int, most: int, seed: int) -> Meetings:
        """Plan for a pool.

        Args:
            images: Number of images.
            patches: Largest number of patches of an image.
            most: Maximum number of images that each is compared with, at least 2.
            seed: Seed of the sample.
        """
        in_block = max(1, min(MOST_IMAGES, SIDE // patches))
        order, everyone = np.arange(images), images - 1 <= most
        if not everyone:
            in_block = min(in_block, (most + 1) // 3)
            order = np.random.default_rng(seed).permutation(images)
        count = -(-images // in_block)
        reach = count // 2 if everyone else (most + 1 - in_block) // (2 * in_block)
        return cls(np.array_split(order, count), reach)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Pairs of blocks, each once, sorted so that few blocks are unfinished at a time."""
        count = len(self.blocks)
        for first in range(count):
            for step in range(min(self.reach, count - 1) + 1):
                if 2 * step == count and first >= step:  # met from the other side
                    continue
                yield first, (first + step) % count

    @property
    def each(self) -> int:
        """Number of blocks that each block meets, itself included."""
        return min(2 * self.reach + 1, len(self.blocks))
