"""The canvases to which a tower's images can be resized, and the windows that cut large ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Size
from ..checks import check_sides
from ..images.reading import choose_canvas, whole_patches
from ..images.roi import MaskFolder, Roi
from .windows import WindowPlan

MAX_TOKENS = 4  # times the tower's own number of patches
SMALL = 3  # patches in each direction, for trying out a detector
# Side of a patch as a share of that of the smallest defect: wherever this lies, it then fills more
# than half of some patch. Of a patch of its own size it could fill no more than a quarter.
COVERED = 2 / 3
MOST_IN_WINDOWS = 2**18  # patches; their tokens take half a gigabyte


@dataclass(frozen=True)
class Canvases:
    """The canvases of one tower with given settings; sizes are (height, width) in pixels.

    Attributes:
        native: Canvas of a square image.
        patch: Size of a patch; canvases are multiples of it.
        fixed: Whether the tower sees all images at the size ``native``.
        most_tokens: Maximum number of patches that the tower sees at once.
        smallest_defect: Side, in pixels of images of the usual size, of what should cover a patch
            wherever it lies; None to show each image to the tower at once.
        stride: Size of what a token covers on the canvas.
    """

    native: Size
    patch: Size
    fixed: bool
    most_tokens: int
    smallest_defect: float | None
    stride: Size

    @classmethod
    def of(
        cls,
        tower: Any,
        image_size: int | Size | None,
        resize: str,
        max_tokens: int | None,
        smallest_defect: float | None,
        stride: Size,
    ) -> Canvases:
        """The canvases of a tower, given the embedder's settings of the same names.

        Raises:
            ValueError: If the only canvas has more than ``max_tokens`` patches.
        """
        native, patch = tower.native_size, tower.patch_size
        if image_size is not None and tower.any_canvas:
            wide = image_size if isinstance(image_size, tuple) else (image_size, image_size)
            native = whole_patches(wide, patch)
        fixed = not tower.any_canvas or resize == "squash" or isinstance(image_size, tuple)
        own = (native[0] // patch[0]) * (native[1] // patch[1])
        if fixed and max_tokens is not None and max_tokens < own:
            height, width = native
            raise ValueError(
                f"max_tokens={max_tokens}, but here the tower sees {own} patches at once, "
                f"{height} x {width} pixels whatever the image (resize='squash', two sides of an "
                "image size, or a tower of one size). Pass a smaller image size instead."
            )
        most = own if fixed else max_tokens or MAX_TOKENS * own
        return cls(native, patch, fixed, most, smallest_defect, stride)

    def choose(self, sizes: Sequence[Size]) -> Size:
        """Choose the canvas for images of these sizes.

        Raises:
            ValueError: If ``smallest_defect`` is too small for them.
        """
        whole = self.native if self.fixed else self._at_once(sizes)
        if self.smallest_defect is None:
            return whole
        typical = np.exp(np.median(np.log(sizes), axis=0))
        wanted = typical * self.stride / (COVERED * self.smallest_defect)
        fine = whole_patches((wanted[0], wanted[1]), self.patch)
        if self.fixed:
            fine = max(fine[0], self.native[0]), max(fine[1], self.native[1])
        if self.patches_on(fine) > MOST_IN_WINDOWS:
            height, width = (round(side) for side in typical)
            raise ValueError(
                f"smallest_defect={self.smallest_defect} on images of {height} x {width} pixels "
                f"takes {self.patches_on(fine)} patches; at most {MOST_IN_WINDOWS} are computed. "
                "Pass a larger one, or crop the images."
            )
        return fine if self.patches_on(fine) > self.patches_on(whole) else whole

    def whole(self, canvas: Size) -> Size:
        """The canvas on which the tower sees all of an image at once."""
        return self.native if self.fixed else self._at_once([canvas])

    def windows(self, canvas: Size) -> WindowPlan | None:
        """The windows through which the tower sees a canvas; None if it sees it at once."""
        if self.smallest_defect is None or self.patches_on(canvas) <= self.most_tokens:
            return None
        return WindowPlan.of(self._grid(canvas), self._grid(self.whole(self.native)))

    def described(
        self, canvas: Size, size: Size | None = None, roi: Roi | None = None
    ) -> str | None:
        """How ``smallest_defect`` is met on a canvas, and at what cost; None without it.

        Args:
            canvas: The canvas.
            size: Usual (height, width) of the images in pixels; without it nothing is said of what
                a patch covers, but with windows.
            roi: Where to look; None for everywhere.
        """
        if self.smallest_defect is None:
            return None
        whole, plan = self.patches_on(self.whole(canvas)), self.windows(canvas)
        seen = self.patches_on(canvas)
        said = "seen at once"
        if plan is not None:
            through = _windows_within(plan, size, roi)
            said = f"{len(plan)} window{'s' * (len(plan) > 1)}"
            if roi is not None:
                said = f"at most {said}" if through is None else f"{through} of {said}"
            seen = (through or len(plan)) * plan.side[0] * plan.side[1] + whole
        covers = ""
        if size is not None:
            height, width = np.array(size) * self.stride / canvas
            covers = f" a patch covers {height:.3g} x {width:.3g} pixels;"
        elif plan is not None:
            side = f"{COVERED * self.smallest_defect:.3g}"
            covers = f" a patch covers {side} x {side} pixels;"
        cost = "no more time"
        if seen > whole:
            times = seen / whole
            cost = f"about {times:.{1 if times < 9.95 else 0}f} times the tower's work"
        return f"{said};{covers} {cost} without smallest_defect"

    def checked(self, canvas: Size) -> Size:
        """Return a canvas that the tower can see.

        Raises:
            ValueError: Unless it is (height, width) in whole patches, or the tower's own.
        """
        canvas = check_sides("canvas", canvas)
        if canvas != self.native and whole_patches(canvas, self.patch) != canvas:
            height, width = self.patch
            raise ValueError(
                f"canvas={canvas}; both sides must be whole patches of {height} x {width} pixels, "
                "as choose_canvas() gives them."
            )
        return canvas

    def may_choose(self, canvas: Size) -> bool:
        """Whether :meth:`choose` would choose this canvas for some images."""
        windows = self.smallest_defect is not None
        if self.fixed and (not windows or min(np.subtract(canvas, self.native)) < 0):
            return canvas == self.native
        most = MOST_IN_WINDOWS if windows else self.most_tokens
        return whole_patches(canvas, self.patch) == canvas and self.patches_on(canvas) <= most

    def smallest(self, windows: Sequence[int]) -> Size:
        """A small canvas with room for windows of these sides in patches."""
        side = max((SMALL, *windows))
        if self.fixed or side**2 > self.most_tokens:
            return self.native
        return side * self.patch[0], side * self.patch[1]

    def patches_on(self, canvas: Size) -> int:
        """Number of patches on a canvas."""
        rows, cols = self._grid(canvas)
        return rows * cols

    def grid_of_tokens(self, canvas: Size) -> Size:
        """(rows, cols) of tokens on a canvas."""
        height, width = self.stride
        return max(1, canvas[0] // height), max(1, canvas[1] // width)

    def _at_once(self, sizes: Sequence[Size]) -> Size:
        return choose_canvas(sizes, self.native, self.patch, self.most_tokens)

    def _grid(self, canvas: Size) -> Size:
        return canvas[0] // self.patch[0], canvas[1] // self.patch[1]


def _windows_within(plan: WindowPlan, size: Size | None, roi: Roi | None) -> int | None:
    """Number of the windows that show something of a region; None if it is not known."""
    if roi is None or size is None or isinstance(roi, MaskFolder):
        return None
    try:
        return len(plan.looked_at(roi.over(size)))
    except ValueError:  # images differ, and it does not fit the median of their sizes
        return None
