"""Adds normal images to the memory bank and computes their own distances to it.

Each image is encoded once. The distances of an image leave out its own rows and those of its
rotated copies, so that they are like those of a new image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .embedding import Floats, InjectedEmbedder, PatchTokens, Size
from .items import Item
from .memory_bank import MemoryBank
from .origins import StoredImage
from .progress import bar
from .search import distance_within
from .spool import TokenSpool
from .unreadable import attempt, or_raise

TURN_OVERSAMPLING = 2  # pixels per canvas pixel of an image that is to be rotated


class Enrolment(NamedTuple):
    """How images are added to a memory bank.

    Attributes:
        embedder: Object with ``outcomes(items, canvas)``.
        canvas: (height, width) in pixels to which images are resized; None if the embedder decides.
        rotations: Number of evenly spaced orientations stored per image.
        n_neighbors: Number of stored tokens over which a distance is averaged.
        bank_size: Maps the number of tokens ever added to the number of rows to keep.
    """

    embedder: Any
    canvas: Size | None
    rotations: int
    n_neighbors: int
    bank_size: Callable[[int], int]

    def __call__(self, bank: MemoryBank, items: Sequence[Item]) -> Iterator[Floats]:
        """Add images to a bank, thin it, and measure its images against it.

        Args:
            bank: Memory bank to add to.
            items: Paths or arrays, at least one.

        Yields:
            Distances of the patches, shape (P,): for each image in the bank if it was complete
            before, otherwise for each new image. If the bank has a single image, for several
            stand-ins for further images.
        """
        with TokenSpool(bank.tokens.dtype) as spool:
            first = 0 if bank.is_complete else len(bank.images)
            for known in range(first, len(bank.images)):
                spool.write(bank.tokens_of(known))
            self._add(bank, items, spool)
            if len(bank.images) == 1:
                yield from self._stand_ins(bank, items[0], next(iter(spool)))
                return
            spares = None if bank.is_complete else _spares(bank, spool, first)
            count = len(bank.images) - first
            compared = bar("comparing with each other", "image", total=count, items=spool)
            for image, tokens in enumerate(compared, start=first):
                instead = None
                if spares is not None:
                    own = bank.rows_of(image)
                    instead = spares[own.start : own.stop]
                    instead = instead[instead.any(axis=1)]
                yield bank.nearest_distance(
                    tokens, self.n_neighbors, leave_out=image, instead=instead
                )

    def _add(self, bank: MemoryBank, items: Sequence[Item], spool: TokenSpool) -> None:
        copies = items if self.rotations == 1 else self._with_turns(items)
        count = len(items) * self.rotations
        outcomes = self.embedder.outcomes(copies, self.canvas)
        with closing(or_raise(outcomes, copies=self.rotations)) as stream:
            read, largest = bar("encoding", "image", total=count, items=stream), 0
            for number, patches in enumerate(read):
                index, turn = divmod(number, self.rotations)
                tokens = flat(patches)
                largest = max(largest, len(tokens))  # as if all images to come had as many patches
                bank.limit = self.bank_size(bank.seen + (count - number) * largest)
                if number == 0:
                    bank.reserve(count, tokens)
                if turn:
                    self._add_turned(bank, tokens, turn)
                else:
                    spool.write(tokens)
                    bank.add(_stored(items[index], patches), tokens)
        bank.thin(self.bank_size(bank.seen))

    def _with_turns(self, items: Sequence[Item]) -> Iterator[Item]:
        """Yield each image, followed by its rotated copies."""
        # Imports Pillow and OpenCV, which listing models does not need.
        from .frame import read_pixels
        from .views import shrink, turn

        whole = or_raise(attempt(read_pixels, item) for item in items)
        for item, pixels in zip(items, whole, strict=True):
            yield item
            if self.canvas is not None:
                height, width = self.canvas
                pixels = shrink(pixels, (TURN_OVERSAMPLING * height, TURN_OVERSAMPLING * width))
            for number in range(1, self.rotations):
                yield turn(pixels, 360 * number / self.rotations)

    def _add_turned(self, bank: MemoryBank, tokens: Floats, turn: int) -> None:
        from .views import patches_inside

        image = bank.images[-1]
        inside = patches_inside(image.grid, image.size, 360 * turn / self.rotations)
        bank.add(image, tokens[inside], turn, inside)

    def _stand_ins(self, bank: MemoryBank, item: Item, tokens: Floats) -> Iterator[Floats]:
        """Distances of slightly changed views of the only image.

        A custom embedder may read images that this package cannot; then the image is compared with
        itself, each patch with all but its own surroundings.
        """
        if isinstance(self.embedder, InjectedEmbedder):
            yield distance_within(tokens.reshape(*bank.images[0].grid, -1), self.n_neighbors)
            return
        from .frame import read_pixels
        from .views import augmented_views

        views = augmented_views(read_pixels(item))
        for view in self.embedder.stream(views, self.canvas):
            yield bank.nearest_distance(flat(view), self.n_neighbors)


def _spares(bank: MemoryBank, spool: TokenSpool, first: int) -> npt.NDArray[np.float16]:
    """For each row of a thinned bank, the token that would replace it without the row's image.

    Thinning dropped tokens of other images because they are near a row; if the row is left out, one
    of them would have been kept: the one farthest from all other rows.

    Args:
        bank: Thinned memory bank.
        spool: Tokens of its images, or of its last ones.
        first: Index of the first image in the spool.

    Returns:
        Tokens, shape (N, D), float16; zero where a row represents only its own image.
    """
    spares = np.zeros(bank.tokens.shape, dtype=np.float16)
    # No token within the covering radius of another row would be kept; 1 - cos = distance**2 / 2.
    farthest = np.full(len(bank), bank.spread**2 / 2, dtype=np.float32)
    for image, tokens in enumerate(spool, start=first):
        _, rows = bank.nearest_rows(tokens, 2)
        nearest, second = rows[:, 0], rows[:, -1]
        away = 1 - np.einsum("pd,pd->p", tokens, bank.tokens[second].astype(np.float32))
        candidates = bank.origins[nearest, 0] != image
        candidates &= away > farthest[nearest]
        order = np.flatnonzero(candidates)
        order = order[np.argsort(away[order])]  # of several for one row the last one remains
        spares[nearest[order]], farthest[nearest[order]] = tokens[order], away[order]
    return spares


def flat(image: PatchTokens) -> Floats:
    """Flatten patch tokens row by row to shape (rows * cols, D)."""
    return image.tokens.reshape(-1, image.tokens.shape[-1])


def _stored(item: Item, patches: PatchTokens) -> StoredImage:
    rows, cols = patches.tokens.shape[:2]
    path = os.fspath(item) if isinstance(item, (str, os.PathLike)) else None
    return StoredImage(grid=(rows, cols), size=patches.size, path=path)
