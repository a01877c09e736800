"""The whole way of an image through a detector as one torch module, to be traced.

Pixels on the canvas -> patch tokens -> patch scores -> image score, label and map. Written in
operations that mean the same in ONNX: products instead of distances, no interpolation.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..bank.limits import FAR
from .nearest import Scored
from .places import Places, Spread
from .portraits import PortraitDistance
from .sight import Seen, Sight


class Network(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """From pixels on the canvas to everything that a detector tells.

    Args:
        sight: From pixels to tokens.
        scoring: From tokens to :class:`~.nearest.Scored`.
        places: The patches that are looked at.
        spread: From patch scores to maps.
        threshold: Image score above which the label is 1.
        portraits: The training images as a whole; None without any.
    """

    def __init__(
        self,
        sight: Sight,
        scoring: nn.Module,
        places: Places,
        spread: Spread,
        threshold: float,
        portraits: PortraitDistance | None,
    ) -> None:
        super().__init__()
        self.sight, self.scoring, self.places = sight, scoring, places
        self.spread, self.portraits, self._threshold = spread, portraits, threshold

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Score images.

        Args:
            images: RGB, uint8, shape (B, height, width, 3) of the canvas; where images are seen
                through windows, followed by the same on the second canvas.

        Returns:
            Image scores (B,), labels (B,) of int64, patch scores (B, rows, cols), NaN where is not
            looked, maps (B, height, width), distances to the training images as a whole (B,), if
            there are any, and what tells the defects, if any are named.
        """
        seen: Seen = self.sight(*images)
        scored: Scored = self.scoring(seen)
        # In the precision of the threshold; NaN is not below it.
        above, more = ~(scored.image.double() <= self._threshold), list[Tensor]()
        if self.portraits is not None:
            more.append(self.portraits(seen.features))
            above = above | ~(more[0] <= FAR)
        if scored.defects is not None:
            more.append(scored.defects)
        shown, known = (
            self.places.put(scored.patches, self.spread.grid, missing)
            for missing in (0.0, math.nan)
        )
        return scored.image, above.long(), known, self.spread(shown), *more
