"""A few normal images beside the texts, as in WinCLIP+ (Jeong et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .embedding import Floats, PatchTokens
from .memory_bank import MemoryBank
from .origins import StoredImage
from .search import distance_within


@dataclass(frozen=True, eq=False)
class References:
    """The patch tokens of reference images. Compared by identity.

    Attributes:
        bank: Their tokens.
    """

    bank: MemoryBank

    def distance(self, patches: PatchTokens, leave_out: int | None = None) -> Floats:
        """Half the cosine distance of each patch to the nearest one of a reference image.

        Args:
            patches: Tokens of an image.
            leave_out: Number of a reference image not to compare with. If there is no other, each
                patch is compared with the patches of the image that do not touch it.

        Returns:
            Shape (rows, cols), in [0, 1]; 0 for a patch of a reference, higher is more anomalous.
        """
        tokens = reference_tokens(patches)
        if leave_out is not None and len(self.bank.images) == 1:
            distance = distance_within(tokens)
        else:
            flat = tokens.reshape(-1, tokens.shape[-1])
            distance = self.bank.nearest_distance(flat, leave_out=leave_out)
        half: Floats = distance.reshape(tokens.shape[:2]) * np.float32(0.5)
        return half


def gather_references(images: Iterable[PatchTokens], bank: MemoryBank) -> References:
    """Fill an empty bank with the tokens of reference images."""
    for patches in images:
        tokens = reference_tokens(patches)
        rows, cols, width = tokens.shape
        bank.add(StoredImage((rows, cols), patches.size), tokens.reshape(-1, width))
    return References(bank)


def reference_tokens(patches: PatchTokens) -> Floats:
    """The tokens for comparing images with images; an embedder of the caller's has one kind."""
    return patches.tokens if patches.features is None else patches.features
