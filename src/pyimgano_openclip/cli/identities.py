"""Tells whether a detector has learnt from an image file."""

from __future__ import annotations

from pathlib import Path

from ..detector.base import OpenCLIPDetector
from ..images.identity import of_pixels
from ..images.reading import read_pixels
from ..images.roi import identity_within


def identity_in(detector: OpenCLIPDetector, path: Path) -> str:
    """The identity of an image for a detector with a tower, as far as it is looked at.

    Raises:
        UnreadableError: If the image, or its mask, cannot be read.
    """
    image = of_pixels(read_pixels(path))
    return identity_within(image, detector.roi_, detector.area_of(path))
