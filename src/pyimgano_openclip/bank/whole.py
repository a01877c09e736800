"""Tells images that are unlike the training images as a whole, whatever their patches score.

A dead camera, another product or an image out of focus can consist of patches that occur in normal
images, too. So each image has a portrait: sketches of its tokens on average, its size and its look.
An image is unlike the training images if its portrait is far from all of theirs, measured by how
far these are from each other. No defects are needed for that, and the margins are wide: it is meant
for what should never have been scored, and must not decide about defects.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices, Size, rounded
from ..encoder.tokens import PatchTokens
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.tensor_file import Arrays
from ..images.areas import Inside, around
from ..images.look import Look
from ..maps.scores import ImageScores, raised
from .copies import BLOCK, distances, signed_sums
from .limits import LEAST, Limits, middle

LENGTH = 192  # of a sketch
WIDEST = 1000.0  # far above any number of a sketch
SKETCHES, SIZES, REACH, LOOKS = (
    f"portrait_{name}" for name in ("sketches", "sizes", "reach", "looks")
)


class Portrait(NamedTuple):
    """An image as a whole.

    Attributes:
        sketches: Of its mean token with the standard deviation of tokens, and of the mean tokens of
            its quarters, shape (2, 192), float16.
        size: (height, width) of the original image in pixels.
        look: What it looks like; None with a custom embedder, which may see something else.
    """

    sketches: npt.NDArray[np.float16]
    size: Size
    look: Look | None


def portrait(patches: PatchTokens, tokens: Floats | None = None) -> Portrait:
    """The portrait of an image.

    Only patches that are looked at count; quarters are those of the smallest rectangle that holds
    them.

    Args:
        patches: The image.
        tokens: By which of its tokens, shape (rows, cols, D); None for those that compare images
            with images.
    """
    tokens = patches.features_or_tokens if tokens is None else tokens
    inside = np.ones(patches.grid, bool) if patches.inside is None else patches.inside
    rectangle = around(inside)
    tokens, inside = tokens[rectangle], inside[rectangle]
    each = zip(quarters(tokens), quarters(inside), strict=True)
    halves = [_mean(part, where) / 2 for part, where in each]
    spread = tokens[inside].std(axis=0)
    described = ([_mean(tokens, inside), spread], [*halves, spread])
    sketches = [signed_sums(np.concatenate(parts), LENGTH) for parts in described]
    return Portrait(rounded(np.array(sketches), np.float16), patches.size, patches.look)


def quarters(plane: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """The four quarters of a plane (rows, cols, ...); a single row or column has empty ones."""
    halves = np.array_split(plane, 2)
    return [quarter for half in halves for quarter in np.array_split(half, 2, axis=1)]


def _mean(tokens: Floats, inside: Inside) -> Floats:
    """The mean of the tokens of patches looked at, shape (D,); 0 without any."""
    return tokens[inside].sum(axis=0) / max(1, np.count_nonzero(inside))


@dataclass(frozen=True, eq=False)
class Whole:
    """The training images as a whole; compared by identity.

    Attributes:
        portraits: One of each image.
        reach: Of both sketches the largest distance from an image to the nearest other one, copies
            left out, shape (2,); infinite if there are too few images.
        usual: The largest median of the patch scores of an image, copies left out; infinite if
            these are unknown.
        turned: Whether images may lie in other directions.
    """

    portraits: tuple[Portrait, ...]
    reach: Floats
    usual: float = math.inf
    turned: bool = False

    @classmethod
    def of(
        cls,
        portraits: Sequence[Portrait],
        near: Sequence[Indices] | None = None,
        scores: Sequence[Floats] = (),
        *,
        turned: bool = False,
    ) -> Whole:
        """Learn what images are as a whole.

        Args:
            portraits: One of each image.
            near: The near copies of each image, itself included; None if there are no others.
            scores: The patch scores of each image, copies left out, if they are known.
            turned: Whether images may lie in other directions.
        """
        sketches = np.stack([one.sketches for one in portraits]).astype(np.float32)
        nearest = []
        for start in range(0, len(sketches), BLOCK):
            some = sketches[start : start + BLOCK]
            away = np.stack([distances(some[:, k], sketches[:, k]) for k in range(2)], axis=2)
            for number, row in enumerate(away, start=start):
                row[[number] if near is None else near[number]] = np.inf
                if np.isfinite(row).any():
                    closest = sketches[row.argmin(axis=0), (0, 1)].astype(np.float64)
                    nearest.append(np.linalg.norm(closest - sketches[number], axis=1))
        reach = np.max(nearest, axis=0) if len(nearest) >= LEAST else np.full(2, np.inf)
        usual = max((middle(each) for each in scores), default=0.0)
        return cls(tuple(portraits), *_or_infinite(reach, usual), turned)

    @classmethod
    def grown(
        cls,
        known: Whole | None,
        more: Sequence[Portrait],
        near: Sequence[Indices],
        scores: Sequence[Floats],
        *,
        turned: bool,
    ) -> Whole | None:
        """The same with further images; None if not all are known that :meth:`of` takes."""
        portraits = [*(known.portraits if known else ()), *more]
        if len(portraits) != len(near):
            return None
        return cls.of(portraits, near, scores, turned=turned)

    def arrays(self) -> Arrays:
        """What :meth:`restored` takes; an unknown look has no columns."""
        looks = [one.look or () for one in self.portraits]
        return {
            SKETCHES: np.stack([one.sketches for one in self.portraits]),
            SIZES: np.array([one.size for one in self.portraits], dtype=np.int64),
            REACH: np.nan_to_num(np.append(self.reach, np.float32(self.usual)), posinf=-1),
            **({LOOKS: np.array(looks, dtype=np.float64)} if all(looks) else {}),
        }

    @classmethod
    def restored(cls, checkpoint: Checkpoint) -> Whole | None:
        """What is in a checkpoint; version 0.1.0 kept nothing.

        Raises:
            CheckpointError: If it is not as :meth:`arrays` wrote it.
        """
        if SKETCHES not in checkpoint.arrays:
            return None
        sketches = checkpoint.numbers(SKETCHES, 3, "float16")
        sizes, reach = (
            checkpoint.numbers(SIZES, 2, "int64"),
            checkpoint.numbers(REACH, 1, "float32"),
        )
        reach = np.append(reach, np.float32(-1))[:3]  # earlier files keep no median
        looks: Sequence[Any] = [None] * len(sketches)
        found = checkpoint.arrays.get(LOOKS)
        if found is not None and found.shape[-1] == len(Look._fields):  # no others are comparable
            looks = [Look(*row) for row in checkpoint.numbers(LOOKS, 2, "float64").tolist()]
        sound = sketches.shape[1:] == (2, LENGTH) and reach.shape == (3,)
        sound = sound and sizes.shape == (len(sketches), 2) and len(looks) == len(sketches)
        if not sound or sizes.min() < 1 or np.abs(sketches).max() > WIDEST:
            raise CheckpointError(f"{checkpoint.path} is damaged: its portraits are inconsistent.")
        each = zip(sketches, sizes.tolist(), looks, strict=True)
        portraits = tuple(Portrait(sketch, (size[0], size[1]), look) for sketch, size, look in each)
        turned = checkpoint.header["settings"].get("rotations") not in (None, 1)
        return cls(portraits, *_or_infinite(reach[:2], float(reach[2])), turned)

    @cached_property
    def limits(self) -> Limits:
        """Within which an image is like them."""
        looks = [one.look for one in self.portraits if one.look is not None]
        sizes = [one.size for one in self.portraits]
        return Limits.of(sizes, looks, self.usual, turned=self.turned)

    def unlike(self, patches: PatchTokens, scores: Floats) -> str | None:
        """Why an image is unlike the training images; None if it is like them."""
        return self.reason(portrait(patches), scores)

    def reason(self, image: Portrait, scores: Floats) -> str | None:
        """The same by the portrait of an image."""
        return self.limits.unlike(image.size, image.look, self.distance(image), scores)

    def distance(self, image: Portrait) -> float:
        """How far an image is from the nearest one, as a multiple of the reach; 0 if unknown."""
        known = np.stack([one.sketches for one in self.portraits])
        return float((_distances(image.sketches, known).min(axis=0) / self.reach).max())


class Likeness(Protocol):
    """What tells whether an image is like the training images."""

    def unlike(self, patches: PatchTokens, scores: Floats) -> str | None:
        """Why an image is unlike them; None if it is like them.

        Args:
            patches: Its tokens.
            scores: Its patch scores, shape (rows, cols); NaN for patches that are not looked at.
        """


def judged(
    scored: ImageScores, patches: PatchTokens, whole: Likeness | None, span: float
) -> ImageScores:
    """The scores of an image, raised above all thresholds if it is unlike as a whole.

    Args:
        scored: Scores of the image by its patches.
        patches: Its tokens.
        whole: The training images; None without any, when only a frame is raised on which nothing
            can be seen.
        span: Width of the range of image scores.
    """
    flat = patches.look and patches.look.flat
    reason = whole.unlike(patches, scored.patches) if whole else flat
    if reason is None:
        return scored
    return raised(scored, reason, span)


def _or_infinite(reach: Floats, usual: float) -> tuple[Floats, float]:
    """The same numbers, infinite where there is nothing to compare with."""
    known: Floats = np.where(reach > 0, reach, np.inf).astype(np.float32)
    return known, usual if usual > 0 else math.inf


def _distances(own: npt.NDArray[np.float16], others: npt.NDArray[np.float16]) -> Floats:
    """Distances of both sketches, shape (N, 2)."""
    return np.linalg.norm(others.astype(np.float64) - own, axis=2)
