"""Locates patches and their nearest normal patches in image pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ..arrays import Indices
from ..encoder.tokens import PatchTokens
from ..images.views import View, map_back
from ..maps.boxes import Box, box_around, patch_box
from ..maps.scores import ImageScores
from .memory_bank import MemoryBank


@dataclass(frozen=True)
class Match:
    """A patch of an image and the patch most like it in one of the images that were learnt.

    Attributes:
        score: Score of the patch, as in ``patches`` of :class:`~..maps.scores.ImageScores`.
        box: The patch in pixels of the image.
        distance: Cosine distance of the two, in [0, 2].
        training_image: Index of the training image in the order of fitting, from 0, without those
            that could not be read; of copies the first.
        path: Path of that image; None if it was an array.
        training_box: The other patch in pixels of that image. For a turned or moved copy, a
            patch-sized box around the position of the patch in the original image.
        rotation: Counter-clockwise rotation of the training image in degrees.
    """

    score: float
    box: Box
    distance: float
    training_image: int
    path: str | None
    training_box: Box
    rotation: float


def nearest_matches(
    bank: MemoryBank,
    scored: ImageScores,
    count: int,
    views: Sequence[View],
    own: Sequence[int],
) -> list[Match]:
    """Find the nearest stored patches of an image's hottest patches.

    Args:
        bank: The memory bank.
        scored: Scores of the image, with its tokens.
        count: Number of patches.
        views: The views stored of each training image.
        own: Indices of images in the bank that it is not compared with. If there are no others, the
            patches that touch the patch are left out.

    Returns:
        The hottest patches, hottest first, without those that there is nothing to compare with.
    """
    patches, scores = cast(PatchTokens, scored.tokens), scored.patches.ravel()
    hottest = np.argsort(-scores, kind="stable")[: min(count, len(patches.places))]
    alone = len(own) == len(bank.images)
    search = _nearest_elsewhere if alone else _nearest_of_others
    distances, rows = search(bank, patches, hottest, own)
    matches = []
    for patch, distance, row in zip(hottest.tolist(), distances, rows, strict=True):
        if row is None:
            continue
        origin = bank.origin(row)
        matches.append(
            Match(
                score=float(scores[patch]),
                box=patch_box(patch, patches.grid, patches.size),
                distance=distance,
                training_image=origin.image,
                path=bank.images[origin.image].path,
                training_box=stored_box(bank, row, views[origin.view]),
                rotation=views[origin.view].turn,
            )
        )
    return matches


def as_given(matches: Sequence[Match], numbers: Sequence[int]) -> list[Match]:
    """The same matches, with training images numbered as they were given.

    Args:
        matches: Matches with images numbered as they are stored, copies once.
        numbers: Index under which each image that was given is stored.
    """
    return [replace(match, training_image=numbers.index(match.training_image)) for match in matches]


def _nearest_of_others(
    bank: MemoryBank, patches: PatchTokens, hottest: Indices, own: Sequence[int]
) -> tuple[list[float], list[int | None]]:
    every = patches.tokens.reshape(-1, patches.tokens.shape[-1])
    distances, rows = bank.nearest_rows(every[hottest], leave_out=own)
    return distances.tolist(), rows[:, 0].tolist()


def _nearest_elsewhere(
    bank: MemoryBank,
    patches: PatchTokens,
    hottest: Indices,
    own: Sequence[int],  # noqa: ARG001 - there is no other image
) -> tuple[list[float], list[int | None]]:
    """Search the only image in the bank, without the patch itself, its neighbours and copies."""
    places = np.stack(divmod(bank.origins[:, 2], patches.grid[1]))
    distances, rows = list[float](), list[int | None]()
    for patch in hottest.tolist():
        place = np.array(divmod(patch, patches.grid[1]))
        apart = np.abs(places - place[:, None]).max(axis=0) > 1
        elsewhere = np.flatnonzero(apart & (bank.origins[:, 1] == 0))
        token = patches.tokens[place[0], place[1]]
        similarity = bank.tokens[elsewhere].astype(np.float32) @ token
        distances.append(float(np.clip(1 - similarity.max(initial=-1), 0, 2)))
        rows.append(int(elsewhere[similarity.argmax()]) if len(elsewhere) else None)
    return distances, rows


def stored_box(bank: MemoryBank, row: int, view: View) -> Box:
    """The box of a stored patch in pixels of its training image.

    Args:
        bank: The memory bank.
        row: Row of the bank.
        view: How the stored copy of the image was turned and moved.
    """
    origin = bank.origin(row)
    image = bank.images[origin.image]
    if view == View():
        return patch_box(origin.patch, image.grid, image.size)
    centre = (np.array(divmod(origin.patch, image.grid[1])) + 0.5) / image.grid * image.size
    x, y = map_back(centre[1], centre[0], image.size, view)
    return box_around(float(x), float(y), image.grid, image.size)
