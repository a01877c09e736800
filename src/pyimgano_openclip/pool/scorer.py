"""Scores new images by comparing them with a pool; images of the pool keep their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

import numpy as np

from ..arrays import Floats, Scores, Size
from ..checks import check_length
from ..encoder.tokens import PatchTokens
from ..maps.scores import Aggregation, ImageScores, image_score, raised
from .neighbours import averaged
from .products import Product, nearest_to
from .recipes import Recipe, highest_of_map
from .shares import SPAN
from .state import Pool


@dataclass(frozen=True)
class PoolScorer:
    """Scores images against a pool; see :class:`~..detector.scoring.Scorer`.

    Attributes:
        pool: The pool; compared by identity.
        recipe: How images are compared and scored.
        parts: Number of tokens per patch that are compared apart, unless they are fused.
        canvas: (height, width) in pixels to which images are resized; None with a custom embedder.
        aggregation: How an image score is computed from patch scores, unless the recipe is MuSc's.
        topk: Share of the patches that ``"topk_mean"`` averages; None for the 2 hottest.
        product: See :func:`~.products.product_on`.
        with_copies: Whether new images are compared with their near copies in the pool, too, as an
            exported file does.
    """

    pool: Pool
    recipe: Recipe
    parts: int
    canvas: Size | None
    aggregation: Aggregation
    topk: float | None
    product: Product = field(compare=False)
    with_copies: bool = False

    @property
    def span(self) -> float:
        """That of a cosine distance."""
        return SPAN

    @property
    def with_features(self) -> bool:
        """Whether the recipe needs class tokens, which come with aligned tokens."""
        return self.recipe.published

    @cached_property
    def training(self) -> list[ImageScores]:
        """The scores of the images of the pool."""
        own = self._own_scores
        if self.recipe.published:
            similarity = self.pool.embeddings @ self.pool.embeddings.T
            np.fill_diagonal(similarity, -np.inf)
            similarity[:, [*self.pool.flat]] = -np.inf
            scaled = self._scaled(own)
            own = averaged(similarity, scaled, scaled)
        scored = [
            ImageScores.of(patches, float(score), image.size)
            for patches, score, image in zip(self.pool.patches, own, self.pool.images, strict=True)
        ]
        for number, reason in self.pool.flat.items():
            scored[number] = raised(scored[number], reason, self.span)
        return scored

    def known(self, image: str | None) -> ImageScores | None:
        """The scores of an image of the pool, with its tokens if it is a kept one."""
        number = self.pool.number_of(image)
        if number is None:
            return None
        return replace(self.training[number], tokens=self.pool.kept_tokens(number))

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Compute the patch scores and the image score of a new image."""
        copies = np.empty(0, np.intp) if self.with_copies else self.pool.copies_of(patches)
        distances = self.distances(patches, self.pool.places_but(copies))
        found = patches.on_grid(self.recipe.patch_scores(distances))
        score = self._own_score(found)
        if self.recipe.published:
            similarity = cast(Floats, patches.pooled)[None] @ self.pool.embeddings.T
            similarity[:, [*copies, *self.pool.flat]] = -np.inf
            scaled = self._scaled(np.array([score]))
            score = float(averaged(similarity, scaled, self._scaled(self._own_scores))[0])
        return ImageScores.of(found, score, patches.size)

    def distances(self, patches: PatchTokens, places: Sequence[int]) -> Floats:
        """Cosine distances of an image's patches to kept images of the pool, shape (L, P, K)."""
        tokens = self.recipe.tokens_of(patches, self.parts)
        check_length(tokens.shape[2], self.pool.tokens.shape[2], "the pool")
        return nearest_to(tokens, places, self.pool.tokens_of, self.product)

    @cached_property
    def _own_scores(self) -> Scores:
        return np.array([self._own_score(patches) for patches in self.pool.patches])

    def _own_score(self, patches: Floats) -> float:
        if not self.recipe.published:
            return image_score(patches, self.aggregation, self.topk)
        return highest_of_map(patches, self.canvas or patches.shape[:2])

    def _scaled(self, scores: Scores) -> Scores:
        """Scores as shares of the range of the pool's, as MuSc scales them."""
        known = self._own_scores[self.pool.judged]
        low, high = known.min(), known.max()
        return (scores - low) / (high - low or 1.0)
