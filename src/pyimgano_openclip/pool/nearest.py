"""Shows what an image resembles: the images of the pool that are most and least like it."""

from __future__ import annotations

from typing import cast

import numpy as np

from ..bank.matches import Match
from ..encoder.tokens import PatchTokens
from ..maps.boxes import patch_box
from ..maps.scores import ImageScores
from .scorer import PoolScorer


def least_and_most(scorer: PoolScorer, scored: ImageScores, count: int) -> list[Match]:
    """The images that an image resembles most and least, most similar first.

    Two images are similar if most patches of one have the like in the other: by the median of the
    distances.

    Args:
        scorer: The pool.
        scored: Scores of the image, with its tokens.
        count: Number of images of either kind.
    """
    pool, patches = scorer.pool, cast(PatchTokens, scored.tokens)
    places = pool.places_but(pool.copies_of(patches))
    if not places:  # all kept images are copies of it
        return []
    distances = scorer.distances(patches, places).mean(axis=0)
    order = np.argsort(np.median(distances, axis=0), kind="stable").tolist()
    chosen = dict.fromkeys(order[:count] + order[-count:])
    patch = int(np.nanargmax(scored.patches))
    return [_match(scorer, scored, patch, places[index]) for index in chosen]


def _match(scorer: PoolScorer, scored: ImageScores, patch: int, place: int) -> Match:
    """A patch beside the patch most like it in a kept image."""
    pool, patches = scorer.pool, cast(PatchTokens, scored.tokens)
    place_of_patch = int(np.searchsorted(patches.places, patch))
    ours = scorer.recipe.tokens_of(patches, scorer.parts)[:, place_of_patch]
    similarity = np.einsum("ld,lpd->p", ours, pool.tokens_of(place)) / len(ours)
    like, number = int(similarity.argmax()), pool.kept[place]
    image = pool.images[number]
    return Match(
        score=float(scored.patches.ravel()[patch]),
        box=patch_box(patch, patches.grid, patches.size),
        distance=float(np.clip(1 - similarity[like], 0, 2)),
        training_image=number,
        path=image.path,
        training_box=patch_box(int(pool.places_of(number)[like]), image.grid, image.size),
        rotation=0.0,
    )
