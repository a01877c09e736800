"""Encodes the images of a pool, each once, and scores them by each other."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Floats, Indices, rounded
from ..bank.copies import near_copies, sketch_of
from ..bank.origins import StoredImage
from ..bank.spool import TokenSpool
from ..checks import check_length
from ..encoder.tokens import PatchTokens, on_grid
from ..images.items import Item, describe
from ..images.notices import Watch
from ..images.roi import Roi
from ..images.unreadable import UnreadableError
from ..progress import bar
from .comparing import compare_all
from .meetings import Meetings
from .products import Product, nearest_to
from .recipes import Recipe
from .state import Pool, judged_among


class TooFewError(ValueError):
    """There are not two different images that can be compared with each other."""


class Gathering(NamedTuple):
    """How images become a pool.

    Attributes:
        recipe: How they are compared and scored.
        parts: Number of tokens per patch that are compared apart, unless they are fused.
        product: See :func:`~.products.product_on`.
        most: Maximum number of images that each is compared with.
        seed: Seed of the sample that it is compared with in a larger pool.
        roi: Where in the images is looked; None for everywhere.
    """

    recipe: Recipe
    parts: int
    product: Product
    most: int
    seed: int
    roi: Roi | None = None

    def __call__(self, read: Iterable[tuple[Item, PatchTokens]], count: int) -> Pool:
        """Compare images with each other.

        Args:
            read: Images with their tokens.
            count: Number of images, for the progress bar.

        Raises:
            TooFewError: If there are not two different images on which something can be seen.
        """
        with TokenSpool(self._dtype) as spool:
            images, numbers, places, sketches, embeddings, flat = self._encode(read, count, spool)
            judged = judged_among(len(images), flat)
            if len(judged) < 2:
                within = "" if self.roi is None else f" within roi ({self.roi})"
                unseen = f", and on {len(flat)} of them nothing can be seen{within}" if flat else ""
                raise TooFewError(
                    f"Of {count} image{'' if count == 1 else 's'} {len(images)} can be read and "
                    f"differ{unseen}: those of a pool are compared with each other, so it needs "
                    "at least two different ones, better twenty."
                )
            kept = tuple(judged[self._kept(len(judged))].tolist())
            scores = self._scores(images, np.array(sketches), judged, kept, spool)
            grids = (image.grid for image in images)
            patches = map(on_grid, scores, places, grids)
            tokens = np.concatenate([spool[number].transpose(1, 0, 2) for number in kept])
            return Pool(
                tuple(images),
                tuple(numbers),
                np.array(sketches),
                tuple(patches),
                kept,
                rounded(tokens, self._dtype),
                np.array(embeddings, dtype=np.float32).reshape(len(images), -1),
                flat,
            )

    @property
    def _dtype(self) -> type[np.floating[Any]]:
        # The published method is compared with its formulas, which rounding would blur.
        return np.float16 if self.recipe.fused else np.float32

    def _encode(
        self, read: Iterable[tuple[Item, PatchTokens]], count: int, spool: TokenSpool
    ) -> tuple[
        list[StoredImage],
        list[int],
        list[Indices],
        list[Floats],
        list[Floats],
        dict[int, str],
    ]:
        images, numbers, places = list[StoredImage](), list[int](), list[Indices]()
        flat, length = dict[int, str](), 0
        sketches, embeddings, known = list[Floats](), list[Floats](), dict[str, int]()
        for item, patches in bar("encoding", "image", total=count, items=read):
            number = len(images)
            if patches.identity is not None:
                number = known.setdefault(patches.identity, number)
            numbers.append(number)
            if number < len(images):
                continue
            tokens = self.recipe.tokens_of(patches, self.parts)
            length = length or tokens.shape[2]
            check_length(tokens.shape[2], length, "the images before", f"{describe(item)}: tokens")
            spool.write(tokens)
            images.append(StoredImage.of(item, patches))
            places.append(patches.places)
            sketches.append(sketch_of(patches))
            if patches.look and patches.look.flat:
                flat[number] = patches.look.flat
            if self.recipe.published:
                embeddings.append(_embedding(patches))
        return images, numbers, places, sketches, embeddings, flat

    def _scores(
        self,
        images: Sequence[StoredImage],
        sketches: Floats,
        judged: Indices,
        kept: Sequence[int],
        spool: TokenSpool,
    ) -> list[Floats]:
        """Scores of the patches of each image that are looked at; flat ones change no others."""
        grids, found = [images[number].grid for number in judged], dict[int, Floats]()
        near = near_copies(sketches[judged], grids)
        patches = max(rows * cols for rows, cols in grids)
        meetings = Meetings.of(len(judged), patches, self.most, self.seed)

        def tokens_of(place: int) -> Floats:
            return spool[judged[place]]

        with closing(compare_all(tokens_of, near, meetings, self.product)) as compared:
            for place, distances in compared:
                found[int(judged[place])] = self.recipe.patch_scores(distances)
        for number in {*range(len(images))} - {*found}:
            distances = nearest_to(spool[number], kept, spool.__getitem__, self.product)
            found[number] = self.recipe.patch_scores(distances)
        return [found[number] for number in range(len(images))]

    def _kept(self, count: int) -> Indices:
        """Of so many images those that new ones are compared with; a sample, as in the pool."""
        if count <= self.most:
            return np.arange(count)
        return np.sort(np.random.default_rng(self.seed).permutation(count)[: self.most])


def readable(
    outcomes: Generator[Any, None, None],
    items: Sequence[Item],
    missing: dict[int, UnreadableError],
    *,
    skip: bool,
    roi: object | None = None,
) -> Generator[tuple[Item, PatchTokens], None, None]:
    """Pass on the images that can be read, with their tokens; warn of doubtful ones at the end.

    Args:
        outcomes: Tokens or an error for each image.
        items: The images.
        missing: Takes the error of each image that cannot be read, by its index.
        skip: Whether to go on without those.
        roi: Where in the images is looked; None for everywhere.

    Raises:
        UnreadableError: If an image cannot be read, unless they are skipped.
    """
    watch = Watch(roi, learnt=False)
    with closing(outcomes):
        for place, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
            if isinstance(outcome, UnreadableError):
                missing[place] = outcome.at(place)
                if not skip:
                    raise missing[place]
                continue
            watch.add(item, outcome)
            yield item, outcome
    watch.warn()


def _embedding(patches: PatchTokens) -> Floats:
    if patches.pooled is None:
        raise ValueError(
            "recipe='musc' needs the class token of a tower, which a custom embedder does not "
            "return; use recipe='fused'."
        )
    return patches.pooled
