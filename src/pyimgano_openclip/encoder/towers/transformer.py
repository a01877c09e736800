"""The forward pass of transformer towers, shared by open_clip's own and timm's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the conventional name
from torch import Tensor, nn

from ...arrays import Size
from ..tokens import Positions
from .base import Request, Tower, TowerOutput, depths, unit_length
from .side_path import SidePath


class TransformerTower(Tower):
    """A tower that is a sequence of blocks over prefix tokens and patches.

    Attributes:
        windows_at_once: Maximum number of windows of each image that are embedded in one pass.
    """

    windows_at_once: int = 64

    @property
    @abstractmethod
    def _blocks(self) -> Sequence[nn.Module]:
        """The residual attention blocks in order."""

    @property
    @abstractmethod
    def _prefix(self) -> int:
        """Number of class and register tokens before the patches."""

    @property
    def _pooled(self) -> int | None:
        """Number of first tokens that the pooled embedding is made of; None for all."""
        return None

    @abstractmethod
    def _embed(
        self, images: Tensor, positions: Positions = "bicubic"
    ) -> tuple[Tensor, Size, dict[str, Any]]:
        """Return the tokens that enter the first block, their grid, and keywords for blocks."""

    @abstractmethod
    def _norm(self, tokens: Tensor) -> Tensor:
        """Apply the tower's own norm after the last block."""

    @abstractmethod
    def _head(self, tokens: Tensor) -> Tensor:
        """Apply the tower's own norm, pooling and projection: (B, N, C) -> (B, D)."""

    def __call__(self, images: Tensor, request: Request) -> TowerOutput:
        """Run the blocks as deep as needed; see :class:`~.base.Tower`."""
        tokens, grid, keywords = self._embed(images, request.positions)
        blocks, prefix = self._blocks, self._prefix
        output = TowerOutput()
        for side in request.windows:
            output.windows[side] = self._embed_windows(tokens, grid, side)
        taken = depths(request.layers, len(blocks))
        last = len(blocks) if request.aligned else max(taken)
        path = SidePath(self.attention_for(request), request.stages, len(blocks), request.surgery)
        # Beside the side path, the pooled embedding alone may need the last block.
        pooled = None if request.final or last in taken else self._pooled
        for index, block in enumerate(blocks[:last]):
            needed = pooled if index == last - 1 else None
            tokens = path.through(block, tokens, index, keywords, needed)
            output.features += [
                tokens[:, prefix:].unflatten(1, grid) for depth in taken if depth == index + 1
            ]
        if request.final:
            output.final = unit_length(self._norm(tokens)[:, prefix:]).unflatten(1, grid)
        if request.aligned:
            output.pooled = unit_length(self._head(tokens))
            stages = path.stages or [tokens]
            unit = [unit_length(self._project(stage[:, prefix:])) for stage in stages]
            output.aligned = (reduce(torch.add, unit) / len(unit)).unflatten(1, grid)
        return output

    def _project(self, tokens: Tensor) -> Tensor:
        """Pass each token through the tower's own head by itself: (B, N, C) -> (B, N, D)."""
        # Repeated, so that any kind of pooling sees only this token, whatever prefix it skips.
        alone = tokens.flatten(0, 1)[:, None].expand(-1, self._prefix + 1, -1)
        return self._head(alone).unflatten(0, tokens.shape[:2])

    def _embed_windows(self, tokens: Tensor, grid: Size, side: int) -> Tensor:
        """Embed each window of side x side patches as if it were the whole image.

        The other patches are dropped before the first block (WinCLIP, Jeong et al., CVPR 2023).
        """
        if side > min(grid):
            raise ValueError(
                f"windows={side}, but the grid has only {grid[0]} x {grid[1]} patches."
            )
        if self.rotary:
            raise ValueError("windows need a tower with absolute positions; this one is rotary.")
        places = torch.arange(grid[0] * grid[1], device=tokens.device).view(grid)
        inside = places.unfold(0, side, 1).unfold(1, side, 1).reshape(-1, side * side)
        embeddings = [
            self._embed_alone(tokens, part) for part in inside.split(self.windows_at_once)
        ]
        shape = (grid[0] - side + 1, grid[1] - side + 1)
        return unit_length(torch.cat(embeddings, dim=1)).unflatten(1, shape)

    def _embed_alone(self, tokens: Tensor, windows: Tensor) -> Tensor:
        """Embed windows, shape (W, side * side), of B images: (B, W, D)."""
        patches = tokens[:, self._prefix :][:, windows]
        first = tokens[:, None, : self._prefix].expand(-1, len(windows), -1, -1)
        alone = torch.cat([first, patches], dim=2).flatten(0, 1)
        for block in self._blocks:
            alone = block(alone)
        return self._head(alone).unflatten(0, (-1, len(windows)))

    @property
    def rotary(self) -> bool:
        """Whether the blocks get positions as a keyword instead of added to the tokens."""
        return False


def patch_planes(convolution: nn.Module, images: Tensor) -> Tensor:
    """Apply the convolution of a patch embedding: (B, 3, height, width) -> (B, D, rows, cols).

    Where there is a single column of patches, one of zeros is computed beside it and dropped:
    oneDNN's kernels in bfloat16 read other memory for a single column (torch 2.14, CPUs with AMX).
    """
    narrow = (
        isinstance(convolution, nn.Conv2d) and images.shape[-1] < 2 * convolution.kernel_size[1]
    )
    if not narrow or images.dtype == torch.float32:
        return convolution(images)
    beside = F.pad(images, (0, images.shape[-1]))
    return convolution(beside)[..., :1]
