"""Pictures of anomaly maps that tell their values, for pages that draw them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..arrays import Floats

MOST = 256  # levels of a grey picture
FINEST = 64  # around the threshold the width of the colours, in which levels are equally far apart


@dataclass(frozen=True)
class Levels:
    """The map values that pictures tell apart, the same for all maps that are to be compared.

    They lie close together around the threshold, where a little decides, and ever farther apart
    above and below. So a byte is enough for faint regions and for peaks far above the colours.

    Attributes:
        bounds: Map values between the levels, ascending, shape (N - 1,).
    """

    bounds: Floats

    @classmethod
    def of(cls, low: float, high: float, threshold: float, highest: float) -> Levels:
        """Choose levels.

        Args:
            low: Map value of the first colour; lower ones need not be told apart.
            high: Map value of the last colour.
            threshold: Map value above which a pixel is hot. It is a bound, so that the level of a
                pixel tells on which side of it the pixel is, unless all pixels are on one.
            highest: The highest value of all maps.
        """
        top = max(high, highest)
        centre, width = min(max(threshold, low), top), (high - low) / FINEST
        below, above = np.arcsinh([(centre - low) / width, (top - centre) / width])
        step = (below + above) / (MOST - 4)
        steps = np.arange(-np.ceil(below / step), np.ceil(above / step) + 1)
        return cls((centre + width * np.sinh(step * steps)).astype(np.float32))

    @property
    def values(self) -> Floats:
        """A map value for each level, shape (N,)."""
        between = (self.bounds[1:] + self.bounds[:-1]) / 2
        return np.concatenate([self.bounds[:1], between, self.bounds[-1:]])

    def picture(self, anomaly_map: Floats) -> bytes:
        """A map, shape (H, W), as a grey PNG file of the numbers of its levels."""
        grey = np.searchsorted(self.bounds, anomaly_map).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(grey).save(buffer, "PNG")
        return buffer.getvalue()
