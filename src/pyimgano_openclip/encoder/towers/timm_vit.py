"""timm transformers in open_clip: SigLIP, SigLIP 2, EVA, PE-Core, MobileCLIP-B, ViTamin."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...arrays import Size
from ..tokens import Positions
from .base import resample_positions
from .side_path import has_side_path
from .transformer import TransformerTower, patch_planes


class TimmTransformerTower(TransformerTower):
    """A timm ``VisionTransformer`` or ``Eva`` trunk followed by open_clip's head.

    Rotary position embeddings are rebuilt for each grid. Rotary and post-norm blocks have no side
    path; for them ``"auto"`` means the plain last tokens.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__(visual)
        self.trunk: Any = visual.trunk
        self.side_path = not self.rotary and has_side_path(self.trunk.blocks[0])

    @staticmethod
    def fits(visual: Any) -> bool:
        """True for trunks with one sequence of blocks and absolute or rotary positions."""
        trunk = getattr(visual, "trunk", None)
        return type(trunk).__name__ in ("VisionTransformer", "Eva")

    @property
    def patch_size(self) -> Size:
        """(height, width) of a patch in pixels."""
        (rows, cols), (height, width) = self._native_grid, self.visual.image_size
        return int(height) // rows, int(width) // cols

    @property
    def native_size(self) -> Size:
        """(height, width) of the tower's own input in pixels, rounded to whole patches."""
        (rows, cols), (height, width) = self._native_grid, self.patch_size
        return rows * height, cols * width

    @property
    def rotary(self) -> bool:
        """Whether the trunk has rotary position embeddings."""
        return getattr(self.trunk, "rope", None) is not None

    @property
    def _native_grid(self) -> Size:
        rows, cols = self.trunk.patch_embed.grid_size
        return int(rows), int(cols)

    @property
    def _blocks(self) -> Sequence[nn.Module]:
        return list(self.trunk.blocks)

    @property
    def _prefix(self) -> int:
        return int(self.trunk.num_prefix_tokens)

    def _embed(
        self, images: Tensor, positions: Positions = "bicubic"
    ) -> tuple[Tensor, Size, dict[str, Any]]:
        trunk, embed = self.trunk, self.trunk.patch_embed
        images = embed.backbone(images) if hasattr(embed, "backbone") else images
        planes = patch_planes(embed.proj, images)
        grid = (planes.shape[-2], planes.shape[-1])
        patches = planes.flatten(2).transpose(1, 2)
        patches = embed.norm(patches) if hasattr(embed, "norm") else patches
        first = [
            token.expand(patches.shape[0], -1, -1)
            for token in (trunk.cls_token, getattr(trunk, "reg_token", None))
            if token is not None
        ]
        places = self._positions(grid, positions)
        if trunk.no_embed_class:
            tokens = torch.cat([*first, patches + places], dim=1)
        else:
            tokens = torch.cat([*first, patches], dim=1) + places
        return trunk.norm_pre(tokens), grid, self._rotary(grid)

    def _positions(self, grid: Size, mode: Positions) -> Tensor | float:
        trunk = self.trunk
        if trunk.pos_embed is None:
            return 0.0
        learned: Tensor = trunk.pos_embed[0]
        prefix = 0 if trunk.no_embed_class else self._prefix
        plane = resample_positions(learned[prefix:], self._native_grid, grid, mode)
        return torch.cat([learned[:prefix], plane])

    def _rotary(self, grid: Size) -> dict[str, Tensor]:
        """Rotary embeddings as a keyword argument for the blocks; empty if there are none."""
        if not self.rotary:
            return {}
        rope = self.trunk.rope
        if grid != self._native_grid:
            rope = copy.deepcopy(rope)
            rope.update_feat_shape(list(grid))
        return {"rope": rope.get_embed()}

    def _norm(self, tokens: Tensor) -> Tensor:
        return self.trunk.norm(tokens)

    def _head(self, tokens: Tensor) -> Tensor:
        return self.visual.head(self.trunk.forward_head(self.trunk.norm(tokens)))
