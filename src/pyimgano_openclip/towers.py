"""Dense tokens of an image tower: one forward pass, everything a detector reads from it.

A tower gives three things: the pooled embedding that CLIP itself would give, patch tokens in the
joint image-text space ("aligned": their dot product with a text vector means something), and
patch tokens after chosen blocks ("features": for comparing images with images).

The plain last-layer patch tokens of CLIP compare badly with text. The aligned tokens therefore
come from a side path beside the network: in every block, attention of the values with themselves
instead of queries with keys, without residual and MLP, summed over each of several stages, and
projected by the tower's own head (CLIP Surgery, Li et al. 2023; AnomalyCLIP, Zhou et al., ICLR
2024). No hook is set and no weight is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from torch import Tensor, nn

Attention = Literal["vv", "qq", "kk", "none"]
ATTENTIONS: tuple[str, ...] = get_args(Attention)


@dataclass(frozen=True)
class Request:
    """What to read from one pass.

    Attributes:
        aligned: The side path for text-aligned tokens, ``"none"`` for the plain last tokens, or
            None to leave them out together with the pooled embedding.
        stages: How many equal groups of blocks the side path is summed over.
        layers: Depths in (0, 1] after which feature tokens are taken; 1 is after the last block.
    """

    aligned: Attention | None = None
    stages: int = 4
    layers: tuple[float, ...] = ()


@dataclass
class TowerOutput:
    """Result of one pass over a batch of B images with a grid of (rows, cols) patches.

    Attributes:
        pooled: Unit-length image embeddings, shape (B, D), as ``encode_image`` gives them.
        aligned: Text-aligned patch tokens, shape (B, rows, cols, D). Each is the mean of the
            unit-length tokens of the stages, so its dot product with a unit text vector is the
            mean cosine over the stages.
        features: One tensor per requested layer, shape (B, rows, cols, C), not normalised.
    """

    pooled: Tensor | None = None
    aligned: Tensor | None = None
    features: list[Tensor] = field(default_factory=list)


class VisionTransformerTower:
    """open_clip's own ``VisionTransformer``: token, average and attentional pooling.

    Args:
        visual: ``model.visual`` of an open_clip model.

    Raises:
        ValueError: If ``visual`` is another kind of tower.
    """

    def __init__(self, visual: nn.Module) -> None:
        needed = ("conv1", "class_embedding", "positional_embedding", "transformer", "ln_post")
        if not all(hasattr(visual, name) for name in needed):
            raise ValueError(
                f"The image tower {type(visual).__name__} gives no patch tokens that this package "
                "can read; choose a model with a VisionTransformer tower, such as 'ViT-B-32'."
            )
        self.visual = cast(Any, visual)

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        height, width = self.visual.patch_size
        return int(height), int(width)

    @property
    def native_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the tower was made for, in whole patches."""
        (rows, cols), (height, width) = self.visual.grid_size, self.patch_size
        return int(rows) * height, int(cols) * width

    def __call__(self, images: Tensor, request: Request) -> TowerOutput:
        """Run the tower once.

        Args:
            images: Normalised pixels, shape (B, 3, rows * patch height, cols * patch width).
            request: What to return.
        """
        tokens, grid = self._embed(images)
        blocks = list(self.visual.transformer.resblocks)
        depths = _depths(request.layers, len(blocks))
        last = len(blocks) if request.aligned is not None else max(depths)
        side = SidePath(request, len(blocks))
        output = TowerOutput()
        for depth, block in enumerate(blocks[:last], start=1):
            side.add(block, tokens, depth)
            tokens = block(tokens)
            output.features += [_to_grid(tokens, grid)] * depths.count(depth)
        if request.aligned is not None:
            output.pooled = F.normalize(self._head(tokens), dim=-1)
            stages = side.stages or [tokens]
            aligned = [F.normalize(self._project(stage[:, 1:]), dim=-1) for stage in stages]
            output.aligned = torch.stack(aligned).mean(0).unflatten(1, grid)
        return output

    def _embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Pixels to the tokens that enter the first block, class token first."""
        visual = self.visual
        patches = visual.conv1(images)
        grid = (patches.shape[-2], patches.shape[-1])
        patches = patches.flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self._positions(grid).to(patches.dtype)
        entered: Tensor = visual.ln_pre(visual.patch_dropout(tokens))
        return entered, grid

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings for a grid of any shape, interpolated as open_clip does at load."""
        positions: Tensor = self.visual.positional_embedding
        native = tuple(self.visual.grid_size)
        if grid == native:
            return positions
        # Bicubic interpolation is missing for half precision on the CPU.
        plane = positions[1:].float().T.unflatten(1, native)[None]
        plane = F.interpolate(plane, grid, mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([positions[:1], plane[0].flatten(1).T.to(positions.dtype)])

    def _head(self, tokens: Tensor) -> Tensor:
        """The tower's own pooling and projection: (B, N, C) -> (B, D)."""
        pooled, _ = self.visual._pool(tokens)
        projected: Tensor = pooled if self.visual.proj is None else pooled @ self.visual.proj
        return projected

    def _project(self, tokens: Tensor) -> Tensor:
        """Every token alone through the tower's own head: (B, N, C) -> (B, N, D)."""
        visual = self.visual
        if visual.attn_pool is None and visual.proj is not None:
            projected: Tensor = visual.ln_post(tokens) @ visual.proj
            return projected
        # As the sequence [t, t], so that any pooling, also by attention, sees nothing but t.
        pairs = tokens.flatten(0, 1)[:, None].expand(-1, 2, -1)
        alone: Tensor = self._head(pairs).unflatten(0, tokens.shape[:2])
        return alone


class SidePath:
    """Sums the self-self attention of the blocks over equal stages of the network.

    Attributes:
        stages: One sum per stage, shape (B, N, C), in order of depth; empty for ``"none"``.
    """

    def __init__(self, request: Request, n_blocks: int) -> None:
        self._kind = None if request.aligned in (None, "none") else request.aligned
        if self._kind and not 1 <= request.stages <= n_blocks:
            raise ValueError(
                f"stages={request.stages}, but the tower has {n_blocks} blocks; "
                f"choose from 1 to {n_blocks}."
            )
        self._starts = {n_blocks * stage // request.stages for stage in range(request.stages)}
        self.stages: list[Tensor] = []

    def add(self, block: nn.Module, tokens: Tensor, depth: int) -> None:
        """Add the side path of one block.

        Args:
            block: The block that comes next.
            tokens: What enters it, shape (B, N, C).
            depth: Number of the block, from 1.
        """
        if self._kind is None:
            return
        attended = self_attention(block, tokens, self._kind)
        if depth - 1 in self._starts:
            self.stages.append(attended)
        else:
            self.stages[-1] = self.stages[-1] + attended


def self_attention(block: nn.Module, tokens: Tensor, kind: str) -> Tensor:
    """Attention output of a residual block with a choice of what attends to what.

    Args:
        block: A residual attention block of open_clip.
        tokens: Input of the block, shape (B, N, C).
        kind: Two letters of q, k, v: what asks and what is asked. ``"qk"`` is the block's own
            attention, ``"vv"`` compares values with values. Values are what is gathered.

    Returns:
        ``ls_1(out_proj(softmax(a b^T / sqrt(head width)) v))``, shape (B, N, C).

    Raises:
        ValueError: If the block has a kind of attention that cannot be rebuilt from its weights.
    """
    parts = cast(Any, block)
    attention = parts.attn
    if not isinstance(attention, nn.MultiheadAttention):
        raise ValueError(
            f"The tower's blocks use {type(attention).__name__}, whose side path is not "
            "implemented; use attention='none'."
        )
    normed = parts.ln_1(tokens)
    projected = {name: _in_projection(attention, normed, name) for name in {*kind, "v"}}
    asks, asked = (projected[name] for name in kind)
    gathered = F.scaled_dot_product_attention(asks, asked, projected["v"])
    mixed: Tensor = parts.ls_1(attention.out_proj(gathered.transpose(1, 2).flatten(2)))
    return mixed


def _in_projection(attention: nn.MultiheadAttention, tokens: Tensor, name: str) -> Tensor:
    """Queries, keys or values of all heads: (B, N, C) -> (B, heads, N, head width)."""
    index = "qkv".index(name)
    weight = cast(Tensor, attention.in_proj_weight).chunk(3)[index]
    bias = attention.in_proj_bias
    projected = F.linear(tokens, weight, None if bias is None else bias.chunk(3)[index])
    heads: Tensor = projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    return heads


def _depths(layers: Sequence[float], n_blocks: int) -> list[int]:
    """Relative depths to block counts: 0.25 of 12 blocks is after the third."""
    return [max(1, round(layer * n_blocks)) for layer in layers]


def _to_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    plane: Tensor = tokens[:, 1:].unflatten(1, grid)
    return plane
