"""Tells which training images are not independent: shots of one part, parts in order of making.

A line photographs a part several times, or makes parts in lots. Then a score that leaves out one
image, but not the others of its part or lot, is lower than that of a new part.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import Floats, Indices, Size
from ..checks import as_list, check_count
from ..images.notices import callers_level
from .copies import LENGTH, LIKELY, NAMED, CopiesWarning, all_copies, distances, near_copies
from .shots import shots_of_parts

BESIDE = 5  # images before and after one that are left out with it, where the order matters
NEAREST = 3  # images most like it that are left out as well
FEWEST = 20  # images in which an order can be told
# Mean distance of images that follow each other, as a share of that in random order. With the
# bundled tower: solar cells by name 0.33 and 0.72, five shots of a screw 0.59; sets of independent
# images 1.00 to 1.03.
ALIKE = 0.85
SHARE = 1 / 3  # of the images: as many have to be of a group with more than their copies
MISSING = {"none", "nan", "nat", "<na>"}  # in Python, and in tables of pandas
ORDERS, SURE = 200, 4.0  # random orders; standard deviations of theirs


class DependentImagesWarning(UserWarning):
    """Images seem to be shots of the same parts, so that the threshold is set with more care."""


class GroupsOfOneWarning(UserWarning):
    """The groups that were told hold one image each, so that they tell nothing."""


@dataclass(frozen=True)
class Relatives:
    """Which images of a bank are related.

    Attributes:
        groups: The group of each image, if the caller has told them.
        in_order: Whether images that follow each other are alike.
        shots: The part that each image seems to show, if there seem to be several shots of parts.
    """

    groups: tuple[str, ...] | None = None
    in_order: bool = False
    shots: tuple[int, ...] | None = None

    @property
    def told(self) -> tuple[str, ...] | None:
        """The groups; None also if each image has one of its own, which tells nothing."""
        return None if self.groups is None or _one_each(self.groups) else self.groups

    @classmethod
    def among(
        cls, sketches: Sequence[Floats], grids: Sequence[Size], groups: tuple[str, ...] | None
    ) -> Relatives:
        """Those that the groups of images tell, or else their sketches."""
        told = cls(groups)
        return told if told.told is not None else replace(cls.of(sketches, grids), groups=groups)

    @classmethod
    def of(cls, sketches: Sequence[Floats], grids: Sequence[Size]) -> Relatives:
        """Those of images by their sketches; where most shots are copies, these are enough."""
        places, shots = np.array(sketches), None
        # Single tokens may be spread as closely as shots are, by chance.
        maps = all(rows * cols > 1 for rows, cols in grids)
        parts = shots_of_parts(places) if maps else None
        if parts is not None:
            copies = near_copies(places, grids)
            each = zip(copies, np.bincount(parts)[parts], strict=True)
            if sum(len(near) < size for near, size in each) > SHARE * len(parts):
                shots = tuple(parts.tolist())
        return cls(in_order=alike_in_order(places), shots=shots)

    @classmethod
    def restored(cls, saved: Any, count: int) -> Relatives:
        """Those in a checkpoint; None in earlier versions.

        Raises:
            ValueError: If they do not fit so many images.
        """
        if saved is None:
            return cls()
        groups, in_order, shots = saved["groups"], saved["in_order"], saved.get("shots")
        if type(in_order) is not bool:
            raise ValueError(f"in_order={in_order!r}; it must be true or false.")
        if shots is not None:
            shots = tuple(as_list("shots", shots, count))
            for part in shots:
                check_count("shots", part, least=0, most=count - 1)
            if len(shots) != count:
                raise ValueError(f"shots has {len(shots)} entries for {count} images.")
        return cls(as_groups(groups, count), in_order, shots)

    def copies(self, sketches: Sequence[Floats], grids: Sequence[Size]) -> list[Indices]:
        """For each image, itself and its near copies: more of them where images are dependent."""
        likely = near_copies(np.array(sketches), grids, LIKELY)
        if self.in_order or self.shots is not None or all_copies(likely):
            return likely
        return near_copies(np.array(sketches), grids)

    def left_out(self, copies: Sequence[Indices], sketches: Sequence[Floats]) -> list[Indices]:
        """For each image, those that are left out with it: copies, itself and its relatives."""
        own, parts = list(copies), self.told if self.shots is None else self.shots
        if parts is not None:
            each = np.array(parts)
            own = [np.flatnonzero(np.isin(each, each[near])) for near in copies]
        if self.in_order:
            every = np.arange(len(sketches))
            beside = (every[abs(every - number) <= BESIDE] for number in every)
            own = list(map(np.union1d, own, beside))
        if self.in_order or self.shots is not None:
            own = _with_nearest(own, sketches)
        pairs = zip(own, copies, strict=True)  # something has to remain to compare with
        return [mine if len(mine) < len(copies) else near for mine, near in pairs]

    def parts(self, count: int) -> Indices | None:
        """The part of each image, for what a threshold promises; None if all are independent."""
        if self.told is not None:
            return np.unique(self.told, return_inverse=True)[1]
        if self.in_order:
            return np.arange(count) // (BESIDE + 1)
        return None if self.shots is None else np.array(self.shots)

    def tell(self, *, compared: bool = True) -> None:
        """Warn that images seem to be shots of the same parts, unless the caller has told them.

        Args:
            compared: Whether images are compared with each other.
        """
        if self.in_order:
            found = "Images that follow each other are alike, like shots of one part"
            without = f"the {BESIDE} before and after it"
        elif self.shots is not None:
            count, parts = len(self.shots), len(set(self.shots))
            found = f"Images are alike in groups, like {count} shots of {parts} parts"
            without = "the others of its group"
        else:
            return
        done = f"Each is compared without {without} and the {NEAREST} most like it, and the"
        if not compared:
            done = "Those of one part count as one, and the"
        warnings.warn(
            f"{found}. {done} threshold is set with more care. Tell the parts with "
            "fit(..., groups=), or --group-by.",
            DependentImagesWarning,
            stacklevel=callers_level(),
        )


INDEPENDENT = Relatives()


def alike_in_order(sketches: Floats) -> bool:
    """Whether images that follow each other are more alike than in random orders.

    Args:
        sketches: In the order of learning, shape (N, 516); see :func:`~.copies.sketch`.
    """
    count = len(sketches)
    if count < FEWEST:
        return False
    places = sketches[:, :LENGTH].astype(np.float64)

    def mean_step(order: Indices) -> float:
        return float(np.linalg.norm(np.diff(places[order], axis=0), axis=1).mean())

    draw = np.random.default_rng(0)
    by_chance = np.array([mean_step(draw.permutation(count)) for _ in range(ORDERS)])
    step, usual = mean_step(np.arange(count)), by_chance.mean()
    return bool(step**2 < ALIKE * usual**2 and step < usual - SURE * by_chance.std())


def as_groups(groups: object, count: int) -> tuple[str, ...] | None:
    """The group of each image in words; None if they are not told.

    Raises:
        ValueError: If there is not one for each image, or only one group.
    """
    if groups is None:
        return None
    told = _in_words(groups)
    if len(told) != count:
        raise ValueError(f"groups has {len(told)} entries for {count} images; pass one for each.")
    if len(set(told)) < 2:
        raise ValueError(
            f"All images are of the group {told[0]!r}, so that none are left to compare it with; "
            "pass images of two groups or more, tell them otherwise (groups=, --group-by folder or "
            "FILE), or not at all."
        )
    return told


def told_groups(groups: object, count: int) -> tuple[str, ...] | None:
    """The same of images that are to be learnt; warn if each has a group of its own.

    Raises:
        ValueError: As :func:`as_groups`.
    """
    told = as_groups(groups, count)
    if told is not None and _one_each(told):
        warnings.warn(
            "Each image has a group of its own (groups=, --group-by), which tells as little as no "
            "groups: whether images are shots of the same parts is looked at as without them. "
            "Images of one part were expected to have one group.",
            GroupsOfOneWarning,
            stacklevel=callers_level(),
        )
    return told


def more_groups(
    known: tuple[str, ...] | None, groups: object, count: int
) -> tuple[str, ...] | None:
    """The groups of images learnt before, then of so many others.

    Raises:
        ValueError: If those of only one of them are told.
    """
    if (known is None) != (groups is None):
        told = "not told" if known is None else "told"
        raise ValueError(
            f"The groups of the images that were learnt before were {told} (groups=, "
            "--group-by); it has to be the same with these, or else fit again with all images."
        )
    if known is None:
        return None
    return told_groups([*known, *_in_words(groups)], len(known) + count)


def of_images(groups: Sequence[str], numbers: Sequence[int]) -> tuple[str, ...]:
    """The group of each image; groups that share an image are one, which a warning tells.

    Args:
        groups: The group of each item.
        numbers: Index of the image that each item is, the first of each in order.

    Raises:
        ValueError: If all images are then of one group.
    """
    first, joined = dict[int, str](), dict[str, str]()

    def name_of(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for number, group in zip(numbers, groups, strict=True):
        one, other = name_of(first.setdefault(number, group)), name_of(group)
        if one != other:
            joined[other] = one
    found = tuple(map(name_of, first.values()))
    if joined:
        _tell_joined({group: name_of(group) for group in joined}, alone=len(set(found)) == 1)
    return found


def _tell_joined(names: Mapping[str, str], *, alone: bool) -> None:
    """Warn that groups share an image, so that they go by the name of another.

    Raises:
        ValueError: If there is then but one.
    """
    pairs = [f"{group!r} with {name!r}" for group, name in names.items()]
    more = f", and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
    reason = "Groups share an image that was given with both (groups=, --group-by): "
    reason += f"{', '.join(pairs[:NAMED])}{more}."
    if alone:
        raise ValueError(
            f"{reason} As one group they have all images, so that none are left to compare with; "
            "images of two groups or more were expected, each image with one group."
        )
    warnings.warn(
        f"{reason} They count as one group, of the latter name.",
        CopiesWarning,
        stacklevel=callers_level(),
    )


def _in_words(groups: object) -> tuple[str, ...]:
    """Groups as they are compared.

    Raises:
        ValueError: If one is missing, which would make a part of all that are.
    """
    every = np.asarray(groups, dtype=object).ravel().tolist()
    for place, group in enumerate(every):
        blank = not str(group).strip()
        if blank or (not isinstance(group, str) and str(group).lower() in MISSING):
            raise ValueError(
                f"groups[{place}]={group!r}; a word or a number that tells the part which the "
                "image shows was expected."
            )
    return tuple(map(str, every))


def _one_each(groups: Sequence[str]) -> bool:
    return len(set(groups)) == len(groups)


def _with_nearest(own: Sequence[Indices], sketches: Sequence[Floats]) -> list[Indices]:
    """For each image, its relatives, and of the others those most like it."""
    places, found = np.array(sketches)[:, :LENGTH], list[Indices]()
    for number, related in enumerate(own):
        far = distances(places[[number]], places)[0]
        far[related] = np.inf
        found.append(np.union1d(related, np.argsort(far)[:NEAREST]))
    return found
