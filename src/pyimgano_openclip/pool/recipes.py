"""Two ways to score a pool: ours, and the published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..arrays import Floats, Size
from ..encoder.tokens import PatchTokens
from .shares import Share, harmonic, lowest_share

RecipeName = Literal["fused", "musc"]
RECIPES: tuple[str, ...] = get_args(RecipeName)


@dataclass(frozen=True)
class Recipe:
    """How tokens are compared, and distances become scores.

    Attributes:
        layers: Relative depths of the tokens, unless the user chooses others.
        neighbourhoods: Sides in patches of the squares over which they are averaged, unless the
            user chooses others.
        fused: Whether the tokens of all depths and neighbourhoods are compared as one.
        share: How the distances of a patch become its score.
        published: Whether image scores are those of MuSc: the maximum of the map, averaged over
            images with similar class tokens.
    """

    layers: Sequence[float]
    neighbourhoods: Sequence[int]
    fused: bool
    share: Share
    published: bool

    def tokens_of(self, patches: PatchTokens, parts: int) -> Floats:
        """The tokens to compare of the patches that are looked at, shape (L, P, D).

        L is 1 if they are fused, else ``parts``.
        """
        flat = patches.flat
        if self.fused:
            return flat[None]
        # Each part had length 1 before all together were scaled to that.
        apart = flat.reshape(len(flat), parts, -1).transpose(1, 0, 2) * parts**0.5
        return np.ascontiguousarray(apart)

    def patch_scores(self, distances: Floats) -> Floats:
        """Scores of patches, shape (P,), from their distances to K images, shape (L, P, K)."""
        return self.share(distances).mean(axis=0)


KNOWN: dict[str, Recipe] = {
    "fused": Recipe((0.25, 0.5, 0.75), (1, 3), True, harmonic, False),
    "musc": Recipe((0.25, 0.5, 0.75, 1.0), (1, 3, 5), False, lowest_share, True),
}


def highest_of_map(patches: Floats, canvas: Size) -> float:
    """The maximum of MuSc's map: bilinear, with the corners of the grid in those of the canvas.

    Args:
        patches: Patch scores, shape (rows, cols).
        canvas: (height, width) of the map in pixels.
    """
    down, across = (lines(*sides) for sides in zip(canvas, patches.shape, strict=True))
    return float((down @ patches.astype(np.float64) @ across.T).max())


def lines(pixels: int, patches: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Weights of the patches of a row for each of its pixels, shape (pixels, patches)."""
    place = np.linspace(0, patches - 1, pixels)[:, None]
    return np.maximum(0.0, 1 - np.abs(place - np.arange(patches)))
