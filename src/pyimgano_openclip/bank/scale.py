"""One of the scales at which images are learnt: through windows, or at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..arrays import Floats, Indices
from ..encoder.tokens import PatchTokens, on_grid
from .copies import sketch_of
from .leaving_out import LeavingOut
from .memory_bank import MemoryBank
from .origins import StoredImage
from .search import distance_within
from .spool import TokenSpool


@dataclass
class Scale:
    """A bank that grows, and the tokens of its images until they are compared with it.

    Attributes:
        bank: Memory bank.
        spool: Tokens of its images, or of its last ones.
        places: Indices of the patches that these are of.
        largest: Most tokens of an image so far.
    """

    bank: MemoryBank
    spool: TokenSpool
    places: list[Indices] = field(default_factory=list)
    largest: int = 0

    def recall(self, images: Iterable[int]) -> None:
        """Take images of the bank to be compared with it again."""
        for known in images:
            self.spool.write(self.bank.tokens_of(known))
            self.places.append(self.bank.places_of(known))

    def make_room(self, tokens: Floats, left: int, bank_size: Callable[[int], int]) -> None:
        """Expect so many more images, as if all of them had as many tokens as the largest."""
        first, self.largest = not self.largest, max(self.largest, len(tokens))
        self.bank.limit = bank_size(self.bank.seen + left * self.largest)
        if first:
            self.bank.reserve(left, tokens)

    def add(self, image: StoredImage, patches: PatchTokens) -> None:
        """Add an image."""
        self.spool.write(patches.flat)
        self.places.append(patches.places)
        inside = None if patches.inside is None else patches.places
        self.bank.add(image, patches.flat, 0, inside, sketch_of(patches))

    def distances(self, near: Sequence[Indices], n_neighbors: int, first: int) -> Iterator[Floats]:
        """Distances of the patches of each image from the first on, each of shape (rows, cols)."""
        measured = LeavingOut(self.bank, near, n_neighbors).distances(self.spool, first)
        each = zip(measured, self.places, self.bank.images[first:], strict=True)
        return (on_grid(distances, at, image.grid) for distances, at, image in each)

    @property
    def partly(self) -> bool:
        """Whether only some patches of the first image are looked at."""
        return len(self.places[0]) < self.bank.images[0].patches

    def of_first(self) -> MemoryBank:
        """A bank of the first image alone."""
        bank = MemoryBank()
        bank.add(self.bank.images[0], self.spool[0], 0, self.places[0])
        return bank

    def within_first(self, n_neighbors: int) -> Floats:
        """Distances of the patches of the first image to its own, apart from their surroundings."""
        places, grid = self.places[0], self.bank.images[0].grid
        return on_grid(distance_within(self.spool[0], places, grid, n_neighbors), places, grid)
