"""Where the images of a detector are looked at, which has to be the same on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, cast

import numpy as np

from ..arrays import Size
from ..detector.base import OpenCLIPDetector
from ..images.areas import Inside, either, patches_inside, resized
from ..images.roi import MaskFolder


class LookedAt(NamedTuple):
    """Where is looked.

    Attributes:
        grid: (rows, cols) of patches.
        sizes: (height, width) of the images for which this holds; empty for all.
        inside: Patches that are looked at; None for all.
        pixels: Pixels of the canvas that are looked at, shape (height, width); None for all.
        overview_grid: (rows, cols) of patches of the whole image seen at once, where ``grid`` is
            seen through windows; None otherwise.
        overview_inside: Patches of it that are looked at; None for all.
    """

    grid: Size
    sizes: tuple[Size, ...] = ()
    inside: Inside | None = None
    pixels: Inside | None = None
    overview_grid: Size | None = None
    overview_inside: Inside | None = None


def looked_at(detector: OpenCLIPDetector) -> LookedAt:
    """Where a detector looks on its canvas.

    Raises:
        ValueError: If that differs between images, or follows from a size that is unknown.
    """
    canvas, area = cast(Size, detector.canvas_), detector.roi_
    canvases = detector._embedder.canvases
    windows = canvases.windows(canvas) is not None
    grid = canvases.grid_of_tokens(canvas)
    at_once = canvases.grid_of_tokens(canvases.whole(canvas)) if windows else None
    if area is None:
        return LookedAt(grid, overview_grid=at_once)
    if isinstance(area, MaskFolder):
        raise masks_refused(area.path)
    sizes = tuple(sorted(detector._learnt.sizes))
    if not sizes:
        raise ValueError(
            "roi cannot be exported before the size of images is known, by which it covers "
            "patches; call fit() with normal images first."
        )
    grids = [grid] if at_once is None else [grid, at_once]
    first, *others = ([patches_inside(area, each, size) for each in grids] for size in sizes)
    for size, inside in zip(sizes[1:], others, strict=True):
        if not all(map(np.array_equal, first, inside)):
            raise ValueError(
                f"roi covers other patches of images of {either([size])} pixels than of "
                f"{either(sizes[:1])} (height x width), but a file looks at the same ones on all "
                "images; fit with images of one size."
            )
    pixels = resized(area.over(sizes[0]), canvas)
    details, overview = (None if each.all() else each for each in (first[0], first[-1]))
    return LookedAt(grid, sizes, details, pixels, at_once, overview)


def masks_refused(folder: Path) -> ValueError:
    """The error of a detector that looks by masks of the images' names."""
    return ValueError(
        f"roi={str(folder)!r} has a mask for each image, which a file cannot hold; create the "
        "detector with one mask, box or polygon for all images."
    )
