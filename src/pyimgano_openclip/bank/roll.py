"""The images that are learnt without their patches, each once."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..arrays import Floats, Size
from ..encoder.tokens import PatchTokens
from .copies import sketch
from .relatives import Relatives
from .whole import Portrait, portrait


@dataclass
class Roll:
    """What is kept of images besides their scores.

    Attributes:
        portraits: One of each image.
        sketches: One of each; see :func:`~.copies.sketch`.
        grids: (rows, cols) of the patches of each.
        given: Index of the image that each item is; copies share one.
    """

    portraits: list[Portrait] = field(default_factory=list)
    sketches: list[Floats] = field(default_factory=list)
    grids: list[Size] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)

    def add(self, patches: PatchTokens) -> bool:
        """Enter the next item; whether it is an image that was not seen before."""
        identity = patches.identity or f"item {len(self.given)}"
        number = self._numbers.setdefault(identity, len(self.grids))
        self.given.append(number)
        if number < len(self.grids):
            return False
        rows, cols = patches.grid
        self.portraits.append(portrait(patches))
        self.sketches.append(sketch(patches.flat, patches.places, rows * cols))
        self.grids.append(patches.grid)
        return True

    def relatives(self, groups: tuple[str, ...] | None) -> Relatives:
        """Which images are related.

        Args:
            groups: The group of each item, a copy being of that of the first; None if unknown.
        """
        own = None
        if groups is not None:
            first: dict[int, str] = {}
            for number, group in zip(self.given, groups, strict=True):
                first.setdefault(number, group)
            own = tuple(first[number] for number in range(len(first)))
        return Relatives.among(self.sketches, self.grids, own)
