"""open_clip's own ``VisionTransformer`` with token, average or attentional pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...arrays import Size
from ..tokens import Positions
from .base import resample_positions
from .side_path import has_side_path
from .transformer import TransformerTower, patch_planes


class VisionTransformerTower(TransformerTower):
    """CLIP, OpenCLIP, CLIPA, MetaCLIP, DFN, CoCa: every ViT without ``timm`` in its config."""

    def __init__(self, visual: Any) -> None:
        super().__init__(visual)
        self.side_path = has_side_path(visual.transformer.resblocks[0])

    @staticmethod
    def fits(visual: Any) -> bool:
        """True for towers built like open_clip's ``VisionTransformer``."""
        needed = ("conv1", "class_embedding", "positional_embedding", "transformer", "ln_post")
        return all(hasattr(visual, name) for name in needed)

    @property
    def patch_size(self) -> Size:
        """(height, width) of a patch in pixels."""
        height, width = self.visual.patch_size
        return int(height), int(width)

    @property
    def native_size(self) -> Size:
        """(height, width) of the tower's own input in pixels, rounded to whole patches."""
        (rows, cols), (height, width) = self.visual.grid_size, self.patch_size
        return int(rows) * height, int(cols) * width

    @property
    def _blocks(self) -> Sequence[nn.Module]:
        return list(self.visual.transformer.resblocks)

    @property
    def _prefix(self) -> int:
        return 1

    @property
    def _pooled(self) -> int | None:
        visual = self.visual
        return 1 if visual.attn_pool is None and visual.pool_type == "tok" else None

    def _embed(
        self, images: Tensor, positions: Positions = "bicubic"
    ) -> tuple[Tensor, Size, dict[str, Any]]:
        visual = self.visual
        patches = patch_planes(visual.conv1, images)
        grid = (patches.shape[-2], patches.shape[-1])
        patches = patches.flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        learned: Tensor = visual.positional_embedding
        plane = resample_positions(learned[1:], tuple(visual.grid_size), grid, positions)
        places = torch.cat([learned[:1], plane]).to(patches.dtype)
        entered: Tensor = visual.ln_pre(torch.cat([first, patches], dim=1) + places)
        return entered, grid, {}

    def _norm(self, tokens: Tensor) -> Tensor:
        return self.visual.ln_post(tokens)

    def _head(self, tokens: Tensor) -> Tensor:
        pooled: Tensor = self.visual._pool(tokens)[0]
        return pooled if self.visual.proj is None else pooled @ self.visual.proj

    def _project(self, tokens: Tensor) -> Tensor:
        visual = self.visual
        if visual.attn_pool is None and visual.proj is not None:
            # Equal to the general method for token and average pooling, at half the cost.
            return visual.ln_post(tokens) @ visual.proj
        return super()._project(tokens)
