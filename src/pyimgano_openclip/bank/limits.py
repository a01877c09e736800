"""Limits of what an image may be as a whole: its size, its look, its distance from the others.

An exported file carries them as numbers, so this knows nothing of tokens.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Floats, Size
from ..images.look import Look

# Distance to the nearest training image as a multiple of the largest one among these, each without
# itself. With the bundled tower, normal images of thirteen kinds reach 1.7, of leather 2.2 (see
# tests/benchmarks/README.md and strange.py there).
FAR = 2.25
# The same times the median of the patch scores as a multiple of the largest one of these. Defects
# seldom cover most of an image; normal images reach 1.8, of leather 3.6.
FAR_OVER_MOST = 4.0
LEAST = 5  # different training images, of which distances tell what is usual
# Beyond the range of the training images; natural logarithms.
PROPORTIONS, SIDES = math.log(1.6), math.log(4)
# The same of looks: with at least LEAST of them, and with fewer.
MARGINS = {
    "detail": (math.log(2), math.log(3)),
    "half": (math.log(3), math.log(4)),
    "edges": (math.log(2.5), math.log(4)),
    "grain": (math.log(1.6), math.log(2)),
    "slant": (math.log(1.8), math.log(2.5)),
    "repeats": (math.log(2.5), math.log(4)),
    "red": (math.log(1.35), math.log(1.7)),
    "blue": (math.log(1.35), math.log(1.7)),
}
ALWAYS = ("proportions", "sides", "distance")


@dataclass(frozen=True)
class Limits:
    """Within which an image is like the training images.

    Attributes:
        ranges: Lowest and highest value by name: ``proportions``, the natural logarithm of width by
            height; ``sides``, that of the square root of the number of pixels; ``distance``, see
            :meth:`~.whole.Whole.distance`; ``most``, that times the median of the patch scores, if
            those of training images are known; and, as far as their looks are, ``half``, the detail
            of any half, and ``detail``, ``edges``, ``grain``, ``slant``, ``repeats``, ``red`` and
            ``blue`` of :class:`~..images.look.Look`.
    """

    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def of(
        cls, sizes: Sequence[Size], looks: Sequence[Look], usual: float, *, turned: bool = False
    ) -> Limits:
        """The limits by training images.

        Args:
            sizes: (height, width) of each in pixels.
            looks: The looks that are known.
            usual: The largest median of the patch scores of one; infinite if unknown.
            turned: Whether images may lie in other directions.
        """
        sides = np.log(sizes)
        ranges = {
            "proportions": _around(sides[:, 1] - sides[:, 0], PROPORTIONS),
            "sides": _around(sides.mean(axis=1), SIDES),
            "distance": (0.0, FAR),
        }
        if math.isfinite(usual):
            ranges["most"] = (0.0, FAR_OVER_MOST * usual)
        for name, margins in MARGINS.items() if looks else ():
            known = np.array([_told(name, look) for look in looks])
            if turned and name == "slant":
                known = np.concatenate([known, -known])
            ranges[name] = _around(known, margins[len(looks) < LEAST])
        return cls(ranges)

    def as_json(self) -> str:
        """What :meth:`of_json` takes; numbers read back equal."""
        return json.dumps(self.ranges)

    @classmethod
    def of_json(cls, text: str) -> Limits:
        """Read limits, trusting nothing.

        Raises:
            ValueError: If it is not as :meth:`as_json` wrote it.
        """
        try:
            found = {
                name: (float(low), float(high)) for name, (low, high) in json.loads(text).items()
            }
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{text!r} are no limits") from error
        sound = {*ALWAYS} <= {*found} <= {*ALWAYS, *MARGINS, "most"}
        if not sound or not all(low <= high for low, high in found.values()):
            raise ValueError(f"{text!r} are no limits")
        return cls(found)

    def unlike(self, size: Size, look: Look | None, distance: float, scores: Floats) -> str | None:
        """Why an image is unlike the training images; None if it is like them.

        Args:
            size: (height, width) of the original image in pixels.
            look: What it looks like, if known.
            distance: See :meth:`~.whole.Whole.distance`.
            scores: Its patch scores; NaN for patches that are not looked at.
        """
        reason = None if look is None else self._other_look(look)
        if reason is None and self._beyond("distance", distance):
            reason = "as a whole"
        if reason is None and self._beyond("most", distance * middle(scores)):
            reason = "over most of it"
        if reason is not None and look is not None:
            reason = look.flat or look.shade or reason
        reason = self._other_size(size) or reason
        return None if reason is None else f"unlike the training images: {reason}"

    def _other_size(self, size: Size) -> str | None:
        height, width = size
        by = f"{height} x {width} pixels"
        if self._beyond("proportions", math.log(width / height)):
            return f"other proportions, {by}"
        far = self._beyond("sides", math.log(height * width) / 2)
        return f"another size, {by}" if far else None

    def _other_look(self, look: Look) -> str | None:
        if detail := self._beyond("detail", look.detail):
            return "noise" if detail > 0 else "blurred or empty"
        if self._beyond("edges", look.edges) < 0:  # a defect may have the sharpest ones
            return "blurred or empty"
        apart = {name: self._beyond("half", detail) for name, detail in look.halves.items()}
        half = max(apart, key=lambda name: abs(apart[name]))
        if apart[half]:
            return f"{'noise' if apart[half] > 0 else 'blurred or empty'} in its {half} half"
        # Of low grain is what is a little smaller or out of focus, too, which may be scored.
        if self._beyond("grain", look.grain) > 0 or self._beyond("slant", look.slant):
            return "another texture"
        if self._beyond("repeats", look.repeats) < 0:
            return "repeated rows or columns"
        colour = self._beyond("red", look.red) or self._beyond("blue", look.blue)
        return "other colours" if colour else None

    def _beyond(self, name: str, value: float) -> float:
        """How far a value is above the highest one, or below the lowest: then negative.

        0 if there is no such limit, as in files that were exported before there was.
        """
        low, high = self.ranges.get(name, (-math.inf, math.inf))
        return max(value - high, 0) + min(value - low, 0)


def middle(scores: Floats) -> float:
    """The median of patch scores of patches that are looked at."""
    return float(np.nanmedian(scores))


def _told(name: str, look: Look) -> tuple[float, ...]:
    """What the limit of this name is about in a look."""
    return (*look.halves.values(),) if name == "half" else (getattr(look, name),)


def _around(known: Floats, margin: float) -> tuple[float, float]:
    """The range of known values, and a margin beyond."""
    return float(known.min()) - margin, float(known.max()) + margin
