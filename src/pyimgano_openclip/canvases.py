"""The canvases to which a tower's images can be resized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .embedding import Size
from .frame import choose_canvas, whole_patches

MAX_TOKENS = 4  # times the tower's own number of patches
SMALL = 3  # patches in each direction, for trying out a detector


@dataclass(frozen=True)
class Canvases:
    """The canvases of one tower with given settings; sizes are (height, width) in pixels.

    Attributes:
        native: Canvas of a square image.
        patch: Size of a patch; canvases are multiples of it.
        fixed: Whether all images are resized to ``native``.
        most_tokens: Maximum number of patches on a canvas.
    """

    native: Size
    patch: Size
    fixed: bool
    most_tokens: int

    @classmethod
    def of(
        cls, tower: Any, image_size: int | Size | None, resize: str, max_tokens: int | None
    ) -> Canvases:
        """The canvases of a tower, given the embedder's settings of the same names."""
        native, patch = tower.native_size, tower.patch_size
        if image_size is not None and tower.any_canvas:
            wide = image_size if isinstance(image_size, tuple) else (image_size, image_size)
            native = whole_patches(wide, patch)
        fixed = not tower.any_canvas or resize == "squash" or isinstance(image_size, tuple)
        own = (native[0] // patch[0]) * (native[1] // patch[1])
        return cls(native, patch, fixed, own if fixed else max_tokens or MAX_TOKENS * own)

    def choose(self, sizes: Sequence[Size]) -> Size:
        """Choose the canvas for images of these sizes."""
        return choose_canvas(sizes, self.native, self.patch, self.most_tokens)

    def may_choose(self, canvas: Size) -> bool:
        """Whether :meth:`choose` would choose this canvas for some images."""
        if self.fixed:
            return canvas == self.native
        tokens = (canvas[0] // self.patch[0]) * (canvas[1] // self.patch[1])
        return whole_patches(canvas, self.patch) == canvas and tokens <= self.most_tokens

    def smallest(self, windows: Sequence[int]) -> Size:
        """A small canvas with room for windows of these sides in patches."""
        side = max((SMALL, *windows))
        if self.fixed or side**2 > self.most_tokens:
            return self.native
        return side * self.patch[0], side * self.patch[1]
