"""A pool of unlabelled images: what they score, and those that new images are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices, Size
from ..bank.copies import (
    copies_among,
    near_copies,
    restored_sketches,
    sketch_of,
    stored_sketches,
    usual_distance,
)
from ..bank.origins import StoredImage, stored_image
from ..checks import as_list, check_count
from ..encoder.tokens import PatchTokens
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.tensor_file import Arrays
from ..maps.scores import from_file, to_file

MOST_IMAGES = 2**31 - 1


@dataclass(frozen=True, eq=False)
class Pool:
    """Images that were compared with each other; copies are in it once.

    Attributes:
        images: Geometry, path and identity of each image.
        numbers: Index of each image that was passed in, in that order; copies share one.
        sketches: Of each image, to tell its near copies; see :mod:`~..bank.copies`.
        patches: Patch scores of each image, none compared with itself, shape (rows, cols); NaN for
            patches that are not looked at.
        kept: Indices of the images that new ones are compared with; none of them is flat.
        tokens: Tokens of those, one image after the other, shape (R, L, D).
        embeddings: Unit-length embedding of each image, shape (N, E); without columns if no score
            depends on it.
        flat: What an image is on which nothing can be seen, by its index; see
            :class:`~..images.look.Look`. No other image is compared with it.
    """

    images: tuple[StoredImage, ...]
    numbers: tuple[int, ...]
    sketches: Floats
    patches: tuple[Floats, ...]
    kept: tuple[int, ...]
    tokens: npt.NDArray[Any]
    embeddings: Floats
    flat: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def judged(self) -> Indices:
        """Indices of the images that are not flat."""
        return judged_among(len(self.images), self.flat)

    @cached_property
    def near(self) -> list[Indices]:
        """For each image, itself and its near copies among those that are not flat."""
        near, grids = [np.array([number]) for number in range(len(self.images))], self._grids
        among = near_copies(self.sketches[self.judged], [grids[n] for n in self.judged])
        for number, places in zip(self.judged.tolist(), among, strict=True):
            near[number] = self.judged[places]
        return near

    @cached_property
    def _grids(self) -> list[Size]:
        return [image.grid for image in self.images]

    def copies_of(self, patches: PatchTokens) -> Indices:
        """The images with which an image is not compared: itself and its near copies.

        An image that is near all those that are kept, and not among them, is compared with all.
        """
        own = self.number_of(patches.identity)
        if own is not None:
            return self.near[own]
        found, usual = sketch_of(patches), self._usual_distance
        near = copies_among(found, patches.grid, self.sketches, self._grids, usual)
        return near if set(self.kept) - set(near.tolist()) else near[:0]

    @cached_property
    def _usual_distance(self) -> float:
        return usual_distance(self.sketches[self.judged])

    @cached_property
    def by_identity(self) -> dict[str, int]:
        """Index of each image by its identity."""
        return {
            image.identity: number
            for number, image in enumerate(self.images)
            if image.identity is not None
        }

    @cached_property
    def ends(self) -> Indices:
        """Where the tokens of each kept image end."""
        return np.cumsum([len(self.places_of(number)) for number in self.kept])

    def number_of(self, identity: str | None) -> int | None:
        """Index of the image of this identity; None if there is none."""
        return None if identity is None else self.by_identity.get(identity)

    def places_but(self, left_out: Indices) -> list[int]:
        """Places of the kept images among them, without some images."""
        return np.flatnonzero(~np.isin(self.kept, left_out)).tolist()

    def places_of(self, number: int) -> Indices:
        """Indices of the patches of an image that are looked at."""
        return np.flatnonzero(~np.isnan(self.patches[number]))

    def tokens_of(self, place: int) -> Floats:
        """Tokens of a kept image, shape (L, P, D), float32."""
        ends = self.ends
        rows = self.tokens[(ends[place - 1] if place else 0) : ends[place]]
        return np.ascontiguousarray(rows.transpose(1, 0, 2), dtype=np.float32)

    def kept_tokens(self, number: int) -> PatchTokens | None:
        """The tokens of an image as an embedder gives them; None if they are not kept."""
        if number not in self._place_of:
            return None
        apart, image = self.tokens_of(self._place_of[number]), self.images[number]
        inside = ~np.isnan(self.patches[number])
        width = apart.shape[0] * apart.shape[2]
        tokens = np.zeros((*image.grid, width), dtype=np.float32)
        # All parts together have length 1 again.
        tokens[inside] = apart.transpose(1, 0, 2).reshape(-1, width) / len(apart) ** 0.5
        pooled = self.embeddings[number] if self.embeddings.size else None
        return PatchTokens(
            tokens,
            image.size,
            image.identity,
            pooled=pooled,
            inside=None if inside.all() else inside,
        )

    @cached_property
    def _place_of(self) -> dict[int, int]:
        """Place of each kept image among them, by its index."""
        return {number: place for place, number in enumerate(self.kept)}

    def stored(self) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint keeps, as arrays and as JSON values."""
        arrays: Arrays = {
            "tokens": self.tokens,
            "patches": to_file(np.concatenate([patches.ravel() for patches in self.patches])),
            "sketches": stored_sketches(self.sketches),
        }
        if self.embeddings.size:
            arrays = {**arrays, "embeddings": self.embeddings}
        images = [image.as_json() for image in self.images]
        facts = {"images": images, "numbers": self.numbers, "kept": self.kept}
        return arrays, {**facts, "flat": {str(number): why for number, why in self.flat.items()}}


def judged_among(count: int, flat: Mapping[int, str]) -> Indices:
    """Of so many images those that are not flat; see :class:`Pool`."""
    return np.setdiff1d(np.arange(count), [*flat])


def restored_pool(checkpoint: Checkpoint, *, with_embeddings: bool) -> Pool:
    """The pool whose :meth:`Pool.stored` is in a checkpoint.

    Raises:
        CheckpointError: If it is inconsistent.
        ValueError: If a fact is out of range.
    """
    facts = checkpoint.header["state"]
    images = tuple(stored_image(values) for values in facts["images"])
    numbers, kept = (_indices(name, facts[name], len(images)) for name in ("numbers", "kept"))
    tokens = checkpoint.unit_vectors("tokens", 3, "float16", "float32")
    patches = from_file(checkpoint.numbers("patches", 1, "float32"))
    sketches = restored_sketches(checkpoint.numbers("sketches", 2, "float32"), len(images))
    embeddings = np.empty((len(images), 0), dtype=np.float32)
    if with_embeddings:
        embeddings = checkpoint.unit_vectors("embeddings", 2, "float32")
    ends = np.cumsum([image.patches for image in images])
    grids = (image.grid for image in images)
    split = np.split(patches, ends[:-1])
    looked = [int(np.count_nonzero(~np.isnan(part))) for part in split]
    rows = sum(looked[number] for number in kept)
    flat = {int(number): str(why) for number, why in facts.get("flat", {}).items()}
    _indices("flat", [*flat], len(images))
    sound = {*kept} <= {*judged_among(len(images), flat).tolist()}
    sound = sound and len(kept) == len(set(kept)) and sorted(set(numbers)) == [*range(len(images))]
    sound = sound and len(patches) == int(ends[-1]) and len(tokens) == rows and min(looked) > 0
    sound = sound and bool(np.nanmin(patches) >= 0)
    everywhere = checkpoint.header["settings"].get("roi") is None
    sound = sound and (sum(looked) == len(patches) or not everywhere)
    if not sound or len(embeddings) != len(images):
        raise CheckpointError(f"{checkpoint.path} is damaged: its pool is inconsistent.")
    scored = tuple(part.reshape(grid) for part, grid in zip(split, grids, strict=True))
    return Pool(images, numbers, sketches, scored, kept, tokens, embeddings, flat)


def _indices(name: str, values: object, count: int) -> tuple[int, ...]:
    found = as_list(name, values, MOST_IMAGES)
    for number in found:
        check_count(name, number, least=0, most=count - 1)
    return found
