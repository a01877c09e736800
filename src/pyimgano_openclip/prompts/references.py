"""Compares images with a few normal ones as well.

The idea and the mean with the scores by text are those of WinCLIP+ (Jeong et al., CVPR 2023). Ours
are the tokens, fused from two depths as in patch-kNN, and that no reference finds itself. What is
WinCLIP+'s own is in ``winclip.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import Floats, Indices, Size
from ..bank.copies import sketch_of
from ..bank.enrolment import near_images
from ..bank.memory_bank import MemoryBank
from ..bank.origins import StoredImage
from ..bank.relatives import Relatives, as_groups
from ..bank.search import distance_within
from ..encoder.tokens import PatchTokens, on_grid
from ..files.checkpoint import Checkpoint
from ..files.tensor_file import Arrays


@dataclass(frozen=True, eq=False)
class References:
    """The patch tokens of reference images; compared by identity.

    Attributes:
        bank: Memory bank of their tokens; copies are stored once.
        copies: For each image in the bank, itself and its near copies.
        near: For each image in the bank, those that it is not compared with: its near copies, and
            those of its group.
        groups: The group of each image in the bank, if they were told or found.
    """

    bank: MemoryBank
    copies: tuple[Indices, ...]
    near: tuple[Indices, ...]
    groups: tuple[str, ...] | None = None

    @classmethod
    def of(cls, bank: MemoryBank) -> References:
        """The references in a bank that is complete."""
        copies = tuple(near_images(bank))
        return cls(bank, copies, copies)

    def grouped(self, groups: tuple[str, ...] | None) -> References:
        """The same with the group of each image, whose images are not compared with each other."""
        near = Relatives(groups).left_out(self.copies, self.bank.sketches)
        return replace(self, near=tuple(near), groups=groups)

    @classmethod
    def of_images(cls, images: Iterable[PatchTokens]) -> References:
        """The references that these images are, each given once."""
        bank = MemoryBank()
        for patches in images:
            stored = StoredImage(patches.grid, patches.size, identity=patches.identity)
            bank.add(stored, patches.flat, 0, patches.places, sketch_of(patches))
        return cls.of(bank)

    @classmethod
    def restored(cls, checkpoint: Checkpoint) -> References:
        """Those that :meth:`stored` wrote."""
        bank = MemoryBank()
        bank.restore(checkpoint)
        known = checkpoint.header["state"].get("groups")  # version 0.1.0 had none
        return cls.of(bank).grouped(as_groups(known, len(bank.images)))

    def stored(self) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint keeps of them."""
        arrays, facts = self.bank.state()
        return arrays, {**facts, "groups": self.groups}

    @property
    def identities(self) -> frozenset[str]:
        """What tells the references from other images, as far as known."""
        return self.bank.identities

    def distance(self, patches: PatchTokens) -> Floats:
        """Half the cosine distance of each patch to the nearest reference patch.

        A reference is compared with the other references only, its near copies left out. If there
        are no others, each patch is compared with those of the image that do not touch it.

        Args:
            patches: Tokens of an image.

        Returns:
            Distances in [0, 1], shape (rows, cols); higher is more anomalous. NaN for patches that
            are not looked at.
        """
        number = self.bank.number_of(patches.identity)
        return self._distance(patches.flat, patches.places, patches.grid, number)

    def _distance(self, tokens: Floats, places: Indices, grid: Size, number: int | None) -> Floats:
        own = [] if number is None else self.near[number].tolist()
        if len(own) == len(self.bank.images):
            distance = distance_within(tokens, places, grid)
        else:
            distance = self.bank.nearest_distance(tokens, leave_out=own)
        return on_grid(distance * np.float32(0.5), places, grid)

    def own_distance(self, number: int) -> Floats:
        """:meth:`distance` of a reference by its index, without reading it again."""
        tokens, places = self.bank.tokens_of(number), self.bank.places_of(number)
        return self._distance(tokens, places, self.bank.images[number].grid, number)
