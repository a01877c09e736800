"""Keeps the tokens of moved copies of training images, which tell how much an image stands out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ..arrays import Floats
from .memory_bank import MemoryBank
from .spool import TokenSpool

PATCHES = 2048  # of an image together with its copies: the time goes by their square


class MovedCopies:
    """The tokens of the moved copies of each image, as many as fit beside those of the image.

    Args:
        spool: Takes the tokens.
    """

    def __init__(self, spool: TokenSpool) -> None:
        self._spool = spool
        self._numbers: dict[int, list[int]] = defaultdict(list)  # in the spool
        self._sizes: dict[int, list[int]] = defaultdict(list)  # patches

    def add(self, image: int, tokens: Floats, beside: int) -> None:
        """Keep a copy, if there is room.

        Args:
            image: Index of the image.
            tokens: Those of the copy, shape (P, D).
            beside: Number of patches of the image itself.
        """
        if len(tokens) and beside + sum(self._sizes[image]) + len(tokens) <= PATCHES:
            self._numbers[image].append(len(self._spool))
            self._sizes[image].append(len(tokens))
            self._spool.write(tokens)

    def add_all(self, image: int, bank: MemoryBank, views: Sequence[int]) -> None:
        """Keep the copies of an image that a bank has, of these views, as far as there is room."""
        beside = len(bank.places_of(image))
        for view in views:
            self.add(image, bank.tokens_of(image, view), beside)

    def sizes(self, image: int) -> list[int]:
        """Numbers of patches of the copies of an image that are kept."""
        return self._sizes[image]

    def of(self, image: int) -> list[Floats]:
        """Tokens of the copies of an image that are kept, each of shape (P, D)."""
        return [self._spool[number] for number in self._numbers[image]]
