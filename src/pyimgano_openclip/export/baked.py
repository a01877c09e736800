"""Copies of towers for one canvas: with their positions interpolated already.

ONNX has no antialiased bicubic interpolation, and the canvas of a detector never changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..arrays import Size
from ..encoder.tokens import Positions
from ..encoder.towers import Tower, VisionTransformerTower, make_tower
from ..encoder.towers.base import resample_positions
from ..encoder.towers.timm_vit import TimmTransformerTower
from ..encoder.towers.transformer import TransformerTower

WINDOWS_AT_ONCE = 256  # of WinCLIP; fewer take less memory, but each pass is traced by itself


def alone(tower: Tower) -> Tower:
    """A copy of a tower that can be traced, with weights of its own."""
    return make_tower(copy.deepcopy(tower.visual).requires_grad_(False))


def baked(tower: Tower, canvas: Size, positions: Positions = "bicubic") -> Tower:
    """A copy of a tower that takes images of this size only, with the same weights.

    Args:
        tower: Any tower; it is not changed.
        canvas: (height, width) in pixels, in whole patches.
        positions: Interpolation of position embeddings.
    """
    shared = {id(weight): weight for weight in tower.visual.parameters()}
    visual = copy.deepcopy(tower.visual, shared)
    height, width = tower.patch_size
    grid = canvas[0] // height, canvas[1] // width
    for family, bake in BAKED.items():
        if isinstance(tower, family):
            bake(visual, grid, positions)
    copied = make_tower(visual)
    if isinstance(copied, TransformerTower):
        copied.windows_at_once = WINDOWS_AT_ONCE
    return copied


def _bake_open_clip(visual: Any, grid: Size, positions: Positions) -> None:
    learned = visual.positional_embedding
    plane = resample_positions(learned[1:], tuple(visual.grid_size), grid, positions)
    visual.positional_embedding = _parameter([learned[:1], plane])
    visual.grid_size = grid


def _bake_timm(visual: Any, grid: Size, positions: Positions) -> None:
    trunk = visual.trunk
    own: Size = tuple(trunk.patch_embed.grid_size)
    if trunk.pos_embed is not None:
        learned = trunk.pos_embed[0]
        prefix = 0 if trunk.no_embed_class else int(trunk.num_prefix_tokens)
        plane = resample_positions(learned[prefix:], own, grid, positions)
        trunk.pos_embed = _parameter([learned[:prefix], plane], batched=True)
    if getattr(trunk, "rope", None) is not None and grid != own:
        trunk.rope.update_feat_shape(list(grid))
    trunk.patch_embed.grid_size = grid


def _parameter(parts: list[Any], *, batched: bool = False) -> nn.Parameter:
    whole = torch.cat(parts)
    return nn.Parameter(whole[None] if batched else whole, requires_grad=False)


BAKED: dict[type[Tower], Callable[[Any, Size, Positions], None]] = {
    VisionTransformerTower: _bake_open_clip,
    TimmTransformerTower: _bake_timm,
}
