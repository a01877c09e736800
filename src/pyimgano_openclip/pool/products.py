"""Nearest patches between images, from products of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Floats, Indices
from ..bank.blocks import product as numpy_product
from ..bank.blocks import torch_product
from ..encoder.tokens import InjectedEmbedder

AT_ONCE = 2**24  # similarities; 64 MiB
Product = Callable[[Floats, Floats], Any]  # similarities (P, Q), a NumPy array or a torch tensor


class Block(NamedTuple):
    """Tokens of several images, one after the other.

    Attributes:
        tokens: Unit-length tokens, shape (L, P, D), float32: L of each patch, compared apart.
        ends: Where the patches of each image but the last end, shape (N - 1,).
    """

    tokens: Floats
    ends: Indices

    @classmethod
    def of(cls, images: Sequence[Floats]) -> Block:
        """Put images of shape (L, P, D) together."""
        ends = np.cumsum([image.shape[1] for image in images])[:-1]
        return cls(np.concatenate(images, axis=1), ends)


def product_on(device: str | None) -> Product:
    """How tokens are multiplied.

    Float32 everywhere: torch rounds the result of a product of bfloat16 numbers to 8 bits, which is
    coarser than the distances of like patches.

    Args:
        device: A torch device; None for NumPy.
    """
    return numpy_product if device is None else partial(torch_product, device=device)


def product_beside(embedder: Any) -> Product:
    """How the tokens of an embedder are multiplied; see :func:`product_on`."""
    return product_on(None if isinstance(embedder, InjectedEmbedder) else str(embedder.device))


def nearest_between(one: Block, other: Block, product: Product) -> tuple[Floats, Floats]:
    """Cosine distances between two blocks, in both directions.

    Args:
        one: N images with P patches together.
        other: M images with Q patches together.
        product: See :func:`product_on`.

    Returns:
        Distances in [0, 2] of the patches of one to the nearest patch of each image of the other,
        shape (L, P, M); and those of the patches of the other, shape (L, Q, N).
    """
    there, back = [], []
    for ours, theirs in zip(one.tokens, other.tokens, strict=True):
        forth, reverse = _highest_between(ours, theirs, one.ends, other.ends, product)
        there.append(forth)
        back.append(reverse)
    return _distance(np.stack(there)), _distance(np.stack(back))


def nearest_to(
    image: Floats, places: Sequence[int], tokens_of: Callable[[int], Floats], product: Product
) -> Floats:
    """Cosine distances of an image's patches to other images, shape (L, P, K).

    Args:
        image: Its tokens, shape (L, P, D).
        places: Numbers of the K others.
        tokens_of: Gives the tokens of one by its number, of the same form.
        product: See :func:`product_on`.
    """
    tokens, found = Block.of([image]), []
    step = max(1, AT_ONCE // image.shape[1] ** 2)
    for start in range(0, len(places), step):
        others = Block.of([tokens_of(place) for place in places[start : start + step]])
        found.append(nearest_between(tokens, others, product)[0])
    return np.concatenate(found, axis=2)


def _highest_between(
    ours: Floats, theirs: Floats, our_ends: Indices, their_ends: Indices, product: Product
) -> tuple[Floats, Floats]:
    """The highest similarities of :func:`nearest_between`, of a part of the patches at a time."""
    there, step = [], max(1, AT_ONCE // len(theirs))
    back = np.full((len(theirs), len(our_ends) + 1), -np.inf, dtype=np.float32)
    for start in range(0, len(ours), step):
        part = ours[start : start + step]
        similarity = product(part, theirs)
        # Equal patches without any token have distance 0, though their product is 0 as well.
        blank = ~part.any(axis=1), ~theirs.any(axis=1)
        if blank[0].any() and blank[1].any():
            similarity = np.array(similarity)
            similarity[np.ix_(*blank)] = 1
        there.append(_highest(similarity, their_ends))
        ends = our_ends[(our_ends > start) & (our_ends < start + len(part))] - start
        first = int(np.searchsorted(our_ends, start, side="right"))
        images = back[:, first : first + len(ends) + 1]
        np.maximum(images, _highest(similarity.T, ends), out=images)
    return np.concatenate(there), back


def _highest(similarity: Any, ends: Indices) -> Floats:
    """The highest of each group of columns, shape (rows, groups)."""
    if isinstance(similarity, np.ndarray):
        parts = np.split(similarity, ends, axis=1)
        return np.stack([part.max(axis=1) for part in parts], axis=1)
    import torch

    groups = similarity.tensor_split(ends.tolist(), dim=1)
    with torch.inference_mode():
        found: Floats = torch.stack([part.amax(1) for part in groups], 1).cpu().numpy()
    return found


def _distance(similarity: Floats) -> Floats:
    return np.clip(1 - similarity, 0, 2)
