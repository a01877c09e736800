"""The distances of all images of a pool to each other, an image at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..arrays import Floats, Indices
from ..progress import bar
from .meetings import Meetings
from .products import Block, Product, nearest_between


class Compared(NamedTuple):
    """One image of the pool, compared with others.

    Attributes:
        image: Its index.
        distances: Cosine distance of each patch to the nearest patch of each other image, neither
            of itself nor of its near copies, shape (L, P, K).
    """

    image: int
    distances: Floats


def compare_all(
    tokens_of: Callable[[int], Floats],
    near: Sequence[Indices],
    meetings: Meetings,
    product: Product,
) -> Generator[Compared, None, None]:
    """Compare the images of a pool.

    Args:
        tokens_of: Gives the tokens of an image by its index, shape (L, P, D), float32.
        near: For each image, itself and its near copies, with which it is not compared.
        meetings: Who meets whom.
        product: See :func:`~.products.product_on`.

    Yields:
        Each image once, as soon as all that it meets have been met.
    """
    rows = _Rows(meetings)
    total = len(meetings.blocks) * (meetings.each + 1) // 2
    for first, second in bar("comparing with each other", "block", total=total, items=meetings):
        one = Block.of([tokens_of(image) for image in meetings.blocks[first].tolist()])
        if first == second:
            there, _ = nearest_between(one, one, product)
            rows.add(first, first, there, one)
        else:
            other = Block.of([tokens_of(image) for image in meetings.blocks[second].tolist()])
            there, back = nearest_between(one, other, product)
            rows.add(first, second, there, one)
            rows.add(second, first, back, other)
        for block in {first, second}:
            yield from rows.finished(block, near)


class _Rows:
    """Distances of images that have not met all others yet."""

    def __init__(self, meetings: Meetings) -> None:
        self._meetings = meetings
        self._parts: dict[int, list[tuple[int, list[Floats]]]] = defaultdict(list)

    def add(self, block: int, met: int, distances: Floats, tokens: Block) -> None:
        """Store the distances of a block's patches to the images of another, shape (L, P, N)."""
        self._parts[block].append((met, np.split(distances, tokens.ends, axis=1)))

    def finished(self, block: int, near: Sequence[Indices]) -> Iterator[Compared]:
        """The images of a block that has met all that it has to meet."""
        if len(self._parts[block]) < self._meetings.each:
            return
        parts = self._parts.pop(block)
        met = np.concatenate([self._meetings.blocks[other] for other, _ in parts])
        for place, image in enumerate(self._meetings.blocks[block].tolist()):
            distances = np.concatenate([images[place] for _, images in parts], axis=2)
            apart = ~np.isin(met, near[image])
            if not apart.any():  # a sample that happens to consist of its copies
                apart = met != image
            yield Compared(image, distances[:, :, apart])
