"""Compares images with a few normal ones as well, as in WinCLIP+ (Jeong et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .embedding import Floats, PatchTokens
from .items import Item
from .memory_bank import MemoryBank
from .origins import StoredImage
from .search import distance_within


@dataclass(frozen=True, eq=False)
class References:
    """The patch tokens of reference images; compared by identity.

    Attributes:
        bank: Memory bank of their tokens; duplicate images are stored once.
        known: Content key of each image in the bank, and the image itself. Empty for references
            from a checkpoint, whose keys would be meaningless on another machine.
    """

    bank: MemoryBank
    known: Sequence[tuple[Hashable | None, Item]] = ()

    def number_of(self, key: Hashable | None, item: Item) -> int | None:
        """Index of an image in the bank; None if it is not a reference.

        Args:
            key: Content key of the image; None if it has none and is recognised by identity.
            item: The image.
        """
        for number, (own_key, own) in enumerate(self.known):
            if own is item if key is None else own_key == key:
                return number
        return None

    def distance(self, patches: PatchTokens, leave_out: int | None = None) -> Floats:
        """Half the cosine distance of each patch to the nearest reference patch.

        Args:
            patches: Tokens of an image.
            leave_out: Index of a reference image to leave out. If it is the only one, each patch is
                compared with the patches of the image that do not touch it.

        Returns:
            Distances in [0, 1], shape (rows, cols); 0 for a patch of a reference, higher is more
            anomalous.
        """
        tokens = reference_tokens(patches)
        if leave_out is not None and len(self.bank.images) == 1:
            distance = distance_within(tokens)
        else:
            flat = tokens.reshape(-1, tokens.shape[-1])
            distance = self.bank.nearest_distance(flat, leave_out=leave_out)
        half: Floats = distance.reshape(tokens.shape[:2]) * np.float32(0.5)
        return half


def gather_references(
    images: Iterable[PatchTokens], keyed: Iterable[tuple[Hashable | None, Item]]
) -> References:
    """Fill a bank with the tokens of reference images.

    Args:
        images: Tokens of each image.
        keyed: Content key of each image, and the image itself.
    """
    bank, known = MemoryBank(), list[tuple[Hashable | None, Item]]()
    found = References(bank, known)
    for patches, (key, item) in zip(images, keyed, strict=True):
        if found.number_of(key, item) is not None:
            continue
        known.append((key, item))
        tokens = reference_tokens(patches)
        rows, cols, width = tokens.shape
        bank.add(StoredImage((rows, cols), patches.size), tokens.reshape(-1, width))
    return found


def reference_tokens(patches: PatchTokens) -> Floats:
    """The tokens for comparing images with images; a custom embedder returns only one kind."""
    return patches.tokens if patches.features is None else patches.features
