"""Compares the images of a bank with the bank as if they were new.

An image leaves out its own rows, those of its copies and of all related images. In a thinned bank
it also has to do without what thinning dropped because those rows were near, which is put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices, rounded
from ..progress import bar
from .blocks import Found
from .memory_bank import MemoryBank, mean_distance
from .spool import TokenSpool

AT_ONCE = 1024  # tokens compared with further rows
MORE = 3  # rows found beyond the wanted ones: most tokens are then done, whatever is left out


class LeavingOut(NamedTuple):
    """How the images of a bank are compared with it.

    Attributes:
        bank: Memory bank.
        near: Of each image in it, those that are left out together with it.
        n_neighbors: Number of stored tokens over which a distance is averaged.
    """

    bank: MemoryBank
    near: Sequence[Indices]
    n_neighbors: int

    def distances(self, spool: TokenSpool, first: int) -> Iterator[Floats]:
        """Distances of the patches of each image in the spool, each of shape (P,).

        Args:
            spool: Tokens of the images of the bank, or of its last ones.
            first: Index of the first image in the spool.
        """
        count = len(self.bank.images) - first
        compared = bar("comparing with each other", "image", total=count, items=spool)
        if self.bank.is_complete:
            for image, tokens in enumerate(compared, start=first):
                left_out = self.near[image].tolist()
                yield self.bank.nearest_distance(tokens, self.n_neighbors, leave_out=left_out)
            return
        # One search an image tells what is near with and without its own rows.
        rows = self.n_neighbors + MORE
        nearest = [self.bank.nearest(tokens, rows) for tokens in compared]
        spares = self._spares(spool, [found[1][:, :2] for found in nearest], first)
        for image, (tokens, found) in enumerate(zip(spool, nearest, strict=True), start=first):
            similarity = self._others(image, tokens, found)
            own = (self.bank.rows_of(other) for other in self.near[image])
            instead = np.concatenate([spares[each.start : each.stop] for each in own])
            yield mean_distance(_with_more(similarity, tokens, instead[instead.any(axis=1)]))

    def _others(self, image: int, tokens: Floats, found: Found) -> Floats:
        """The highest similarities with rows of other images, (P, n_neighbors) or fewer."""
        similarity, rows = found
        hidden = np.zeros(len(self.bank.images), dtype=bool)
        hidden[self.near[image]] = True
        left_out = hidden[self.bank.origins[rows, 0]]
        similarity = np.where(left_out, -np.inf, similarity)
        similarity = -np.sort(-similarity, axis=1)[:, : self.n_neighbors]
        few = np.flatnonzero(~np.isfinite(similarity).all(axis=1))
        if len(few):
            near = self.near[image].tolist()
            again, _ = self.bank.nearest(tokens[few], self.n_neighbors, leave_out=near)
            similarity = similarity[:, : again.shape[1]]
            similarity[few] = again
        return similarity

    def _spares(
        self, spool: TokenSpool, nearest: Sequence[Indices], first: int
    ) -> npt.NDArray[np.float16]:
        """For each row of a thinned bank, the token that would replace it without its image.

        Thinning dropped tokens of other images because they are near a row; if the row is left out,
        one of them would have been kept: the one farthest from all other rows.

        Args:
            spool: Tokens of the images.
            nearest: The two nearest rows of the tokens of each, (P, 2).
            first: Index of the first image in the spool.

        Returns:
            Tokens, shape (N, D), float16; zero where a row represents only its own image.
        """
        bank, near = self.bank, self.near
        spares = np.zeros(bank.tokens.shape, dtype=np.float16)
        # None within the covering radius of another row would be kept; 1 - cos = distance**2 / 2.
        farthest = np.full(len(bank), bank.spread**2 / 2, dtype=np.float32)
        for image, (tokens, rows) in enumerate(zip(spool, nearest, strict=True), start=first):
            one, other = rows[:, 0], rows[:, -1]
            away = 1 - np.einsum("pd,pd->p", tokens, bank.tokens[other].astype(np.float32))
            candidates = ~np.isin(bank.origins[one, 0], near[image]) & (away > farthest[one])
            order = np.flatnonzero(candidates)
            order = order[np.argsort(away[order])]  # of several for one row the last one remains
            spares[one[order]] = rounded(tokens[order], spares.dtype)
            farthest[one[order]] = away[order]
        return spares


def _with_more(similarity: Floats, tokens: Floats, rows: npt.NDArray[np.float16]) -> Floats:
    """The highest similarities if there are more rows, (P, n_neighbors).

    Args:
        similarity: Those with all other rows, shape (P, n_neighbors).
        tokens: Shape (P, D).
        rows: The further ones, shape (N, D).
    """
    found, wanted = np.empty_like(similarity), similarity.shape[1]
    others = rows.astype(np.float32).T
    for start in range(0, len(tokens), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        more = tokens[part] @ others
        merged = np.concatenate([similarity[part], more], axis=1)
        found[part] = np.partition(merged, -wanted, axis=1)[:, -wanted:]
    return found
