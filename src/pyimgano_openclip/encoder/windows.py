"""Looks at a large image twice: as a whole, and through overlapping windows of the tower's size.

A window sees small defects and nothing of what is around it; the whole image, shrunk to the tower,
is the other way round. So each patch token carries both: the token of the window in which the patch
lies most centrally, which leaves no seams, and what the whole image has at that place. A detector
that compares both for itself gets them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..arrays import Floats, Size
from ..images.areas import Inside
from ..images.pixels import Pixels

OVERLAP = 0.25  # of a window's side, at least
CONTEXT = 0.25  # weight of the whole image in a token; the rest is the window's

# Patch tokens by kind: "aligned", "features", or those of WinCLIP's windows by side in patches;
# each of shape (B, rows, cols, D).
Maps: TypeAlias = Mapping[str | int, Tensor]


@dataclass(frozen=True)
class WindowPlan:
    """Where windows lie on a canvas, in patches.

    Attributes:
        side: (rows, cols) of a window.
        down: First row of each row of windows, ascending.
        right: First column of each column of windows, ascending.
    """

    side: Size
    down: tuple[int, ...]
    right: tuple[int, ...]

    @classmethod
    def of(cls, grid: Size, side: Size) -> WindowPlan:
        """Cover a canvas of (rows, cols) patches evenly with windows of at most ``side``."""
        rows, cols = (min(pair) for pair in zip(grid, side, strict=True))
        return cls((rows, cols), _starts(grid[0], rows), _starts(grid[1], cols))

    def __len__(self) -> int:
        return len(self.down) * len(self.right)

    def start(self, number: int) -> Size:
        """First row and column of a window; windows are counted row by row."""
        row, col = divmod(number, len(self.right))
        return self.down[row], self.right[col]

    def looked_at(self, inside: Inside) -> list[int]:
        """Numbers of the windows from which a token is taken that is looked at.

        Args:
            inside: The pixels of an image that are looked at, shape (H, W).
        """
        parts = [
            [_reach(axis.own(window), axis.length, pixels) for window in range(len(axis.starts))]
            for axis, pixels in zip(self._axes(self.side), inside.shape, strict=True)
        ]
        return [n for n, part in enumerate(product(*parts)) if inside[part].any()]

    def cut(self, pixels: Pixels, numbers: Sequence[int], patch: Size) -> Pixels:
        """The pixels of windows, shape (B, height, width, 3)."""
        height, width = (side * p for side, p in zip(self.side, patch, strict=True))
        corners = [np.multiply(self.start(number), patch) for number in numbers]
        return np.stack([pixels[top : top + height, left : left + width] for top, left in corners])

    def beside(self, whole: Tensor, number: int, shape: Size) -> Tensor:
        """What the whole image's tokens are at the places of a window's, interpolated.

        Args:
            whole: Shape (1, rows, cols, D).
            number: Number of the window.
            shape: (rows, cols) of the window's tokens.

        Returns:
            Shape (*shape, D), float32.
        """
        places = [
            torch.as_tensor(
                [(2 * (axis.first(at) + n) + 1) / axis.length - 1 for n in range(axis.side)],
                dtype=torch.float32,
                device=whole.device,
            )
            for axis, at in zip(self._axes(shape), divmod(number, len(self.right)), strict=True)
        ]
        y, x = torch.meshgrid(*places, indexing="ij")
        found = F.grid_sample(
            whole.float().permute(0, 3, 1, 2),
            torch.stack([x, y], dim=-1)[None],
            padding_mode="border",
            align_corners=False,
        )
        return found[0].permute(1, 2, 0)

    def _axes(self, shape: Size) -> tuple[_Axis, _Axis]:
        down, right = (
            _Axis(starts, tokens, max(1, tokens // side))
            for starts, tokens, side in zip((self.down, self.right), shape, self.side, strict=True)
        )
        return down, right


@dataclass(frozen=True)
class _Axis:
    """Rows or columns of tokens.

    Attributes:
        starts: First patch of each window.
        side: Tokens of a window: ``per`` for each patch, or fewer where each token stands for
            several patches (WinCLIP's windows), which do not reach beyond the end.
        per: Tokens for each patch.
    """

    starts: tuple[int, ...]
    side: int
    per: int

    @property
    def length(self) -> int:
        """Tokens of the canvas."""
        return self.first(-1) + self.side

    def first(self, window: int) -> int:
        """First token of a window."""
        return self.starts[window] * self.per

    def own(self, window: int) -> slice:
        """Tokens of the canvas that lie most centrally in this window."""
        borders = [0, *(self._border(n) for n in range(1, len(self.starts))), self.length]
        return slice(borders[window], borders[window + 1])

    def _border(self, window: int) -> int:
        """First token that lies more centrally in a window than in the one before."""
        return math.ceil((self.first(window - 1) + self.first(window) + self.side) / 2)


def mosaic(
    plan: WindowPlan,
    batch: int,
    look: Callable[[Sequence[int]], Sequence[Mapping[str | int, Floats]]],
    numbers: Sequence[int] | None = None,
) -> dict[str | int, Floats]:
    """Put the tokens of windows side by side, each from where it lies most centrally.

    Args:
        plan: Where the windows lie.
        batch: Number of windows to look through at once.
        look: Gives the tokens of windows by kind, each of shape (1, rows, cols, D), by their
            numbers.
        numbers: The windows to look through; None for all.

    Returns:
        The tokens of the canvas by kind, each of shape (rows, cols, D); 0 where none has looked.
    """
    found: dict[str | int, Floats] = {}
    wanted = range(len(plan)) if numbers is None else numbers
    for first in range(0, len(wanted), batch):
        some = wanted[first : first + batch]
        for number, maps in zip(some, look(some), strict=True):
            for kind, tokens in maps.items():
                _place(plan, number, tokens[0], found, kind)
    return found


def _place(
    plan: WindowPlan,
    number: int,
    tokens: Floats,
    found: dict[str | int, Floats],
    kind: str | int,
) -> None:
    rows, cols, width = tokens.shape
    axes, at = plan._axes((rows, cols)), divmod(number, len(plan.right))
    if kind not in found:
        shape = (axes[0].length, axes[1].length, width)
        found[kind] = np.zeros(shape, dtype=np.float32)
    own = tuple(axis.own(n) for axis, n in zip(axes, at, strict=True))
    inside = tuple(
        slice(part.start - axis.first(n), part.stop - axis.first(n))
        for part, axis, n in zip(own, axes, at, strict=True)
    )
    found[kind][own] = tokens[inside]


def join(plan: WindowPlan, numbers: Sequence[int], detail: Maps, whole: Maps) -> Iterator[Maps]:
    """Put the tokens of windows and those of the whole image at their places together.

    Feature tokens are joined end to end, so that the cosine of two is the weighted mean of both
    cosines. Tokens that are compared with texts are averaged, and so are their cosines.

    Args:
        plan: Where the windows lie.
        numbers: Numbers of the windows.
        detail: Their tokens.
        whole: Tokens of the whole image, B = 1.

    Yields:
        For each window, its tokens of both scales, B = 1.
    """
    for place, number in enumerate(numbers):
        both: dict[str | int, Tensor] = {}
        for kind, tokens in detail.items():
            near = tokens[place].float()
            far = plan.beside(whole[kind], number, (near.shape[0], near.shape[1]))
            both[kind] = of_both(kind, near, far)[None]
        yield both


def one_by_one(detail: Maps) -> Iterator[Maps]:
    """The tokens of each window, B = 1, without those of the whole image."""
    count = max(map(len, detail.values()))
    return ({kind: tokens[[place]] for kind, tokens in detail.items()} for place in range(count))


def of_both(kind: str | int, near: Tensor, far: Tensor) -> Tensor:
    """Tokens of both scales.

    Args:
        kind: Kind of the tokens.
        near: Those of windows, shape (..., D), float32.
        far: What the whole image has at their places, of the same shape.
    """
    if kind == "features":
        parts = (1 - CONTEXT) ** 0.5 * near, CONTEXT**0.5 * F.normalize(far, dim=-1)
        return torch.cat(parts, dim=-1)
    mean = torch.lerp(near, far, CONTEXT)
    return mean if kind == "aligned" else F.normalize(mean, dim=-1)


def _reach(own: slice, length: int, pixels: int) -> slice:
    """The pixels of an image that some of so many patches along it, or those beside them, touch.

    Where a patch has several tokens, one beside a window's patches can be the window's.
    """
    first, last = max(0, own.start - 1), min(length, own.stop + 1)
    return slice(first * pixels // length, -(-last * pixels // length))


def _starts(length: int, side: int) -> tuple[int, ...]:
    """First patches of windows that cover an axis evenly, overlapping."""
    if side == length:
        return (0,)
    step = max(1, side - math.ceil(OVERLAP * side))
    count = 1 + math.ceil((length - side) / step)
    return tuple(round(n * (length - side) / (count - 1)) for n in range(count))
