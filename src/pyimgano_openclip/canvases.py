"""Which canvases a tower's images may be resized to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .embedding import Size
from .frame import choose_canvas, whole_patches

MAX_TOKENS = 4  # times the tower's own number of patches
SMALL = 3  # patches each way, to try a detector out


@dataclass(frozen=True)
class Canvases:
    """The canvases of one tower, read in one way; sizes are (height, width) in pixels.

    Attributes:
        native: What a square image gets.
        patch: Canvases are whole multiples of it.
        fixed: Whether every image gets ``native``.
        most_tokens: Most patches of a canvas.
    """

    native: Size
    patch: Size
    fixed: bool
    most_tokens: int

    @classmethod
    def of(
        cls, tower: Any, image_size: int | Size | None, resize: str, max_tokens: int | None
    ) -> Canvases:
        """The canvases of a tower, with the settings of that name of an embedder."""
        native, patch = tower.native_size, tower.patch_size
        if image_size is not None and tower.any_canvas:
            wide = image_size if isinstance(image_size, tuple) else (image_size, image_size)
            native = whole_patches(wide, patch)
        fixed = not tower.any_canvas or resize == "squash" or isinstance(image_size, tuple)
        own = (native[0] // patch[0]) * (native[1] // patch[1])
        return cls(native, patch, fixed, own if fixed else max_tokens or MAX_TOKENS * own)

    def choose(self, sizes: Sequence[Size]) -> Size:
        """The canvas of images of these sizes."""
        return choose_canvas(sizes, self.native, self.patch, self.most_tokens)

    def may_choose(self, canvas: Size) -> bool:
        """Whether there are images for which :meth:`choose` would choose a canvas."""
        if self.fixed:
            return canvas == self.native
        tokens = (canvas[0] // self.patch[0]) * (canvas[1] // self.patch[1])
        return whole_patches(canvas, self.patch) == canvas and tokens <= self.most_tokens

    def smallest(self, windows: Sequence[int]) -> Size:
        """A canvas that costs little, but has room for windows of these sides in patches."""
        side = max((SMALL, *windows))
        if self.fixed or side**2 > self.most_tokens:
            return self.native
        return side * self.patch[0], side * self.patch[1]
