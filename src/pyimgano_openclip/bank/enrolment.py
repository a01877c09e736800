"""Adds normal images to the memory bank and computes their own distances to it.

The image and each of its turned and moved copies are encoded once. The distances of an image leave
out its own rows, those of these copies and those of its near copies, so that they are like those of
a new image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Floats, Indices, Scores, Size
from ..encoder.tokens import InjectedEmbedder, PatchTokens
from ..images.areas import Area, patches_of_view
from ..images.items import ChannelOrder, Item, in_rgb
from ..images.notices import noticed
from ..images.once import DecodedOnce
from ..images.roi import Roi, area_of, within
from ..images.unreadable import UnreadableError, attempt, or_raise
from ..images.views import STAND_INS, View, patches_of_original, planned, seen, shrink
from ..progress import bar
from .copies import all_copies, tell_copies
from .memory_bank import MemoryBank
from .moved import MovedCopies
from .origins import StoredImage
from .relatives import INDEPENDENT, Relatives, of_images
from .scale import Scale
from .spool import TokenSpool
from .whole import Portrait, portrait

OVERSAMPLING = 2  # pixels per canvas pixel of an image that is to be turned or moved
COPIES = 100  # of images, moved; more of them take longer to encode than they are worth


class Added(NamedTuple):
    """What came of adding images to a bank.

    Attributes:
        numbers: Index in the bank of each image that was added; copies share one.
        copies: For each image in the bank, itself and its near copies.
        near: For each image in the bank, those that are left out together with it.
        relatives: Which images in the bank are related.
        distances: Of each scale the distances of patches, shape (rows, cols), NaN for those that
            are not looked at: of each image in the bank if it was complete before, otherwise of
            each new image; none if all were copies.
        standing: How much each image in the bank stands out among the others; empty if tokens of
            earlier ones were dropped, or all images were copies.
        portraits: One of each image that is new to the bank.
    """

    numbers: list[int]
    copies: list[Indices]
    near: list[Indices]
    relatives: Relatives
    distances: list[tuple[Floats, ...]]
    standing: Scores
    portraits: list[Portrait]


class Enrolment(NamedTuple):
    """How images are added to a memory bank.

    Attributes:
        embedder: Object with ``outcomes(items, canvas)``.
        canvas: (height, width) in pixels to which images are resized; None if the embedder decides.
        roi: Where to look; None for everywhere.
        channel_order: Channel order of arrays and tensors.
        views: The views stored of each image; the first is the image itself.
        n_neighbors: Number of stored tokens over which a distance is averaged.
        bank_size: Maps the number of tokens ever added to the number of rows to keep.
        standing: Tells how much each image stands out, from the tokens of images, those of their
            moved copies, and the near copies and grids of images.
    """

    embedder: Any
    canvas: Size | None
    roi: Roi | None
    channel_order: ChannelOrder
    views: tuple[View, ...]
    n_neighbors: int
    bank_size: Callable[[int], int]
    standing: Callable[[TokenSpool, MovedCopies, Sequence[Indices], Sequence[Size]], Scores]

    def __call__(
        self,
        banks: Sequence[MemoryBank],
        items: Sequence[Item],
        groups: tuple[str, ...] | None = None,
    ) -> Added:
        """Add images to a bank, thin it, and measure its images against it.

        Args:
            banks: Memory banks to add to, one for each scale; what tells images apart is the first.
            items: Paths or arrays, at least one.
            groups: The group of each image in the bank, then of each item; None if unknown.

        Raises:
            UnreadableError: If an image cannot be read.
        """
        in_order = [in_rgb(item, self.channel_order) for item in items]
        bank, before = banks[0], len(banks[0].images)
        first = 0 if all(one.is_complete for one in banks) else before
        with ExitStack() as spools:
            scales = [
                Scale(one, spools.enter_context(TokenSpool(one.tokens.dtype))) for one in banks
            ]
            moved = MovedCopies(spools.enter_context(TokenSpool(bank.tokens.dtype)))
            for scale in scales:
                scale.recall(range(first, before))
            for known in range(first, before):
                moved.add_all(known, bank, self._moves)
            numbers, portraits = self._add(scales, moved, in_order)
            tell_copies(items, numbers, [image.path for image in bank.images[:before]])
            relatives = related(bank, before, numbers, groups)
            copies = near_images(bank, relatives)
            near = relatives.left_out(copies, bank.sketches)
            joined = groups is not None and relatives.groups != groups[:before]
            if len(bank.images) == before and (first or not joined):  # there is nothing to compare
                return Added(numbers, copies, near, relatives, [], np.empty(0), [])
            if all_copies(copies):
                alone = self._alone(scales, in_order[0])
                distances = [alone] * (len(bank.images) - first)
            else:
                each = [list(scale.distances(near, self.n_neighbors, first)) for scale in scales]
                distances = list(zip(*each, strict=True))
            standing, grids = np.empty(0), [image.grid for image in bank.images]
            if not first:
                standing = self.standing(scales[0].spool, moved, copies, grids)
            return Added(numbers, copies, near, relatives, distances, standing, portraits)

    def _add(
        self, scales: Sequence[Scale], moved: MovedCopies, items: Sequence[Item]
    ) -> tuple[list[int], list[Portrait]]:
        """Add images that are not in the bank yet; the index in it of each, and their portraits.

        The tokens of their moved copies at the first scale go to ``moved``.
        """
        bank = scales[0].bank
        plan = planned(self.views, len(items), COPIES - len(bank.images))
        whole = [items[index] if view == 0 else None for index, view in plan]
        copies = self._with_copies(items, plan)
        count, numbers, portraits = len(plan), list[int](), list[Portrait]()
        outcomes, area = self._looked_at(self.embedder.outcomes(copies, self.canvas), whole), None
        in_turn = or_raise(outcomes, places=[index for index, _ in plan])
        read_in_turn = noticed(in_turn, whole, self.roi)
        with closing(outcomes), closing(read_in_turn) as stream:
            read, fresh = bar("encoding", "image", total=count, items=stream), True
            for done, ((index, view), patches) in enumerate(zip(plan, read, strict=True)):
                if view == 0:
                    known = bank.number_of(patches.identity)
                    area = None if patches.inside is None else patches.area
                    fresh = known is None
                    numbers.append(len(bank.images) if known is None else known)
                if not fresh:
                    continue
                for scale, one in zip(scales, patches.scales, strict=True):
                    scale.make_room(one.flat, count - done, self.bank_size)
                    if not view:
                        scale.add(StoredImage.of(items[index], one), one)
                        continue
                    tokens = self._add_copy(scale.bank, one.flat, view, area)
                    if scale is scales[0] and view in self._moves:
                        moved.add(len(bank.images) - 1, tokens, len(scale.places[-1]))
                if not view:
                    portraits.append(portrait(patches))
        for scale in scales:
            scale.bank.thin(self.bank_size(scale.bank.seen))
        return numbers, portraits

    def _looked_at(
        self, outcomes: Generator[Any, None, None], items: Sequence[Item | None]
    ) -> Generator[PatchTokens | UnreadableError, None, None]:
        """Look only within the region of interest of each image, but not yet of its copies."""
        with closing(outcomes):
            for item, outcome in zip(items, outcomes, strict=True):
                if item is None or isinstance(outcome, UnreadableError):
                    yield outcome
                else:
                    yield attempt(partial(outcome.within, roi=self.roi), item)

    def _with_copies(
        self, items: Sequence[Item], plan: Sequence[tuple[int, int]]
    ) -> Iterator[Item]:
        """Yield each image, followed by its turned and moved copies."""
        for index, of_image in groupby(plan, key=itemgetter(0)):
            item, views = items[index], [self.views[view] for _, view in of_image][1:]
            if views and isinstance(item, (str, os.PathLike)):
                item = DecodedOnce(item)
            item = within(item, self.roi)
            copies = self._copies(item, views, index)  # decoded before the embedder reads it
            yield item
            yield from copies

    def _copies(self, item: Item, views: Sequence[View], place: int = 0) -> Iterator[Item]:
        """Views of an image, which is the item at that place and is read at once."""
        if not views:
            return iter(())
        # Imports Pillow, which listing models does not need.
        from ..images.reading import read_pixels

        (pixels,) = or_raise([attempt(read_pixels, item)], places=[place])
        if self.canvas is not None:
            height, width = self.canvas
            pixels = shrink(pixels, (OVERSAMPLING * height, OVERSAMPLING * width))
        return (seen(pixels, view) for view in views)

    def _add_copy(self, bank: MemoryBank, tokens: Floats, view: int, area: Area | None) -> Floats:
        """Add a copy of the last image; the tokens of its patches that are looked at."""
        image = bank.images[-1]
        inside = patches_of_original(image.grid, image.size, self.views[view])
        if area is not None:  # the region moves with what it shows
            moved = patches_of_view(area, image.grid, image.size, self.views[view])
            inside = np.flatnonzero(moved)
        bank.add(image, tokens[inside], view, inside)
        return tokens[inside]

    @property
    def _moves(self) -> list[int]:
        """The views that are moved, but not turned."""
        return [number for number, view in enumerate(self.views) if number and not view.turn]

    def _alone(self, scales: Sequence[Scale], item: Item) -> tuple[Floats, ...]:
        """Distances of the only image, or of its near copies, as if they were new.

        Copies of it, moved and turned, stand in for further images: of the distances of a patch to
        the image the highest counts. A custom embedder may read images that this package cannot;
        then the image is compared with itself, each patch with all but its own surroundings.
        """
        if isinstance(self.embedder, InjectedEmbedder):
            return tuple(scale.within_first(self.n_neighbors) for scale in scales)
        banks, found = [scale.of_first() for scale in scales], list[list[Floats]]()
        area = area_of(self.roi, item) if any(scale.partly for scale in scales) else None
        copies = self._copies(within(item, self.roi), STAND_INS)
        stream = self.embedder.stream(copies, self.canvas)
        for patches, view in zip(stream, STAND_INS, strict=True):
            found.append([])
            for bank, one in zip(banks, patches.scales, strict=True):
                if area is not None:
                    moved = patches_of_view(area, one.grid, one.size, view)
                    one = replace(one, inside=moved if moved.any() else None)
                found[-1].append(one.on_grid(bank.nearest_distance(one.flat, self.n_neighbors)))
        return tuple(np.fmax.reduce(each) for each in zip(*found, strict=True))


def near_images(bank: MemoryBank, relatives: Relatives = INDEPENDENT) -> list[Indices]:
    """For each image in the bank, itself and its near copies."""
    if len(bank.sketches) < len(bank.images):  # of version 0.1.0, and thinned
        return [np.array([image]) for image in range(len(bank.images))]
    return relatives.copies(bank.sketches, [image.grid for image in bank.images])


def related(
    bank: MemoryBank, before: int, numbers: Sequence[int], groups: tuple[str, ...] | None
) -> Relatives:
    """Which images in a bank are related.

    Args:
        bank: The bank.
        before: Number of its images before the last were added.
        numbers: Index in the bank of each that was given; a copy joins its groups.
        groups: The group of each of those before, then of each that was given. If each image has
            one of its own, their sketches tell, as without groups.
    """
    own = None if groups is None else of_images(groups, [*range(before), *numbers])
    if len(bank.sketches) < len(bank.images):  # of version 0.1.0, and thinned
        return Relatives(own)
    return Relatives.among(bank.sketches, [image.grid for image in bank.images], own)


def among_others(
    before: Sequence[MemoryBank],
    banks: Sequence[MemoryBank],
    number: int,
    left_out: Sequence[int],
    alone: Sequence[Floats],
    n_neighbors: int,
) -> tuple[Floats, ...]:
    """Distances of an image that was learnt alone, in banks that were thinned, from the others.

    Args:
        before: The banks without the others, one for each scale.
        banks: The banks with them.
        number: Index of the image.
        left_out: Images that it is not compared with.
        alone: Its distances by itself, each of shape (rows, cols); NaN where it is not looked at.
        n_neighbors: Number of stored tokens to average over.

    Returns:
        Of each scale, shape (rows, cols): of the patches that the bank had, and their median for
        the rest; those by itself if it had none.
    """
    found = []
    for old, new, known in zip(before, banks, alone, strict=True):
        places, again = old.places_of(number), known.copy()
        if len(places):
            tokens = old.tokens_of(number)
            distances = new.nearest_distance(tokens, n_neighbors, leave_out=left_out)
            again[~np.isnan(again)] = np.median(distances)
            again.flat[places] = distances
        found.append(again)
    return tuple(found)
