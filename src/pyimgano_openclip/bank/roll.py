"""The images that are learnt without their patches, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..arrays import Floats, Indices, Size
from ..encoder.tokens import PatchTokens
from .copies import one_photograph, sketch_of
from .relatives import Relatives, of_images
from .whole import Portrait, portrait


@dataclass
class Roll:
    """What is kept of images besides their scores.

    Attributes:
        with_features: Whether images are scored with feature tokens, so that portraits are of them.
            Copies are told by these in any case, if there are any.
        portraits: One of each image.
        sketches: One of each; see :func:`~.copies.sketch`.
        grids: (rows, cols) of the patches of each.
        given: Index of the image that each item is; copies share one.
        tells_copies: Whether sketches are of feature tokens, which tell near copies. Tokens that
            are compared with texts, or a custom embedder's, may be alike in different images.
        identities: What tells the images from others, as far as known.
    """

    with_features: bool = True
    portraits: list[Portrait] = field(default_factory=list)
    sketches: list[Floats] = field(default_factory=list)
    grids: list[Size] = field(default_factory=list)
    given: list[int] = field(default_factory=list)
    tells_copies: bool = True
    identities: set[str] = field(default_factory=set)
    _numbers: dict[str, int] = field(default_factory=dict)

    def add(self, patches: PatchTokens) -> bool:
        """Enter the next item; whether it is an image that was not seen before."""
        identity = patches.identity or f"item {len(self.given)}"
        number = self._numbers.setdefault(identity, len(self.grids))
        self.given.append(number)
        if number < len(self.grids):
            return False
        if patches.identity is not None:
            self.identities.add(patches.identity)
        self.tells_copies &= patches.features is not None
        self.portraits.append(portrait(patches, None if self.with_features else patches.tokens))
        self.sketches.append(sketch_of(patches))
        self.grids.append(patches.grid)
        return True

    def trusted(self, copies: Sequence[Indices]) -> Sequence[Indices]:
        """For each image, itself and its near copies, as far as sketches tell them."""
        if self.tells_copies:
            return copies
        return one_photograph(np.array(self.sketches))

    def relatives(self, groups: tuple[str, ...] | None) -> Relatives:
        """Which images are related.

        Args:
            groups: The group of each item; None if unknown. A copy joins its groups.
        """
        own = None if groups is None else of_images(groups, self.given)
        return Relatives.among(self.sketches, self.grids, own)
