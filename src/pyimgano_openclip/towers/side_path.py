"""Text-aligned patch tokens by attention of values with values.

The plain last-layer patch tokens of CLIP compare badly with text: their attention gathers global
information. The side path runs beside the network: in every block, values attend to values instead
of queries to keys, without residual and MLP, summed over each of several stages (CLIP Surgery,
Li et al. 2023; the depths follow AnomalyCLIP, Zhou et al., ICLR 2024). No hook is set and no weight
is touched: queries, keys and values are computed from the blocks' own weights.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


class SidePath:
    """Sums the self-self attention of the blocks over equal stages of the network.

    Args:
        kind: ``"vv"``, ``"qq"``, ``"kk"``, or ``"none"`` for no side path.
        stages: Number of stages.
        n_blocks: Number of blocks of the tower.

    Attributes:
        stages: One sum per stage, shape (B, N, C), in order of depth; empty for ``"none"``.

    Raises:
        ValueError: If there are more stages than blocks.
    """

    def __init__(self, kind: str, stages: int, n_blocks: int) -> None:
        if not 1 <= stages <= n_blocks:
            raise ValueError(
                f"stages={stages}, but the tower has {n_blocks} blocks; "
                f"choose from 1 to {n_blocks}."
            )
        self._kind = kind
        self._starts = {n_blocks * stage // stages for stage in range(stages)}
        self.stages: list[Tensor] = []

    def add(self, block: nn.Module, tokens: Tensor, index: int) -> None:
        """Add the side path of one block.

        Args:
            block: The block that comes next.
            tokens: What enters it, shape (B, N, C).
            index: Number of the block, from 0.
        """
        if self._kind == "none":
            return
        attended = self_attention(block, tokens, self._kind)
        if index in self._starts:
            self.stages.append(attended)
        else:
            self.stages[-1] = self.stages[-1] + attended


def has_side_path(block: Any) -> bool:
    """True if the attention of a block can be rebuilt from its weights, by either library."""
    attention = getattr(block, "attn", None)
    if hasattr(block, "ln_1"):  # open_clip
        return isinstance(attention, nn.MultiheadAttention)
    # timm: pre-norm blocks with one projection for queries, keys and values, and no gate
    return (
        isinstance(getattr(attention, "qkv", None), nn.Linear)
        and getattr(attention, "gate", None) is None
        and (hasattr(block, "ls1") or hasattr(block, "gamma_1"))
        and not type(block).__name__.endswith("PostNorm")
    )


def self_attention(block: Any, tokens: Tensor, kind: str) -> Tensor:
    """Attention output of a residual block with a choice of what attends to what.

    Args:
        block: A residual attention block of open_clip or timm.
        tokens: Input of the block, shape (B, N, C).
        kind: Two letters of q, k, v: what asks and what is asked. ``"qk"`` is the block's own
            attention, ``"vv"`` compares values with values. Values are what is gathered.

    Returns:
        What the block would add to its input: ``scale * out(softmax(a b^T / sqrt(h)) v)``,
        h being the head width; shape (B, N, C).
    """
    rebuild = _open_clip_block if hasattr(block, "ln_1") else _timm_block
    return rebuild(block, tokens, kind)


def _open_clip_block(block: Any, tokens: Tensor, kind: str) -> Tensor:
    attention, normed = block.attn, block.ln_1(tokens)
    heads = {
        name: _project(normed, attention.in_proj_weight, attention.in_proj_bias, name, attention)
        for name in {*kind, "v"}
    }
    mixed: Tensor = block.ls_1(attention.out_proj(_gather(heads, kind)))
    return mixed


def _timm_block(block: Any, tokens: Tensor, kind: str) -> Tensor:
    attention, normed = block.attn, block.norm1(tokens)
    bias = attention.qkv.bias
    if getattr(attention, "q_bias", None) is not None:
        bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    heads = {
        name: _project(normed, attention.qkv.weight, bias, name, attention) for name in {*kind, "v"}
    }
    for name, norm in (("q", attention.q_norm), ("k", attention.k_norm)):
        if name in heads:
            heads[name] = norm(heads[name])
    mixed: Tensor = attention.proj(attention.norm(_gather(heads, kind)))
    if hasattr(block, "ls1"):
        mixed = block.ls1(mixed)
    elif block.gamma_1 is not None:
        mixed = block.gamma_1 * mixed
    return mixed


def _project(
    tokens: Tensor, weight: Tensor, bias: Tensor | None, name: str, attention: Any
) -> Tensor:
    """Queries, keys or values of all heads: (B, N, C) -> (B, heads, N, head width)."""
    part = "qkv".index(name)
    projected = F.linear(
        tokens, weight.chunk(3)[part], None if bias is None else bias.chunk(3)[part]
    )
    heads: Tensor = projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
    return heads


def _gather(heads: dict[str, Tensor], kind: str) -> Tensor:
    """Softmax attention of what asks over what is asked, heads side by side: (B, N, C)."""
    asks, asked = (heads[name] for name in kind)
    gathered: Tensor = F.scaled_dot_product_attention(asks, asked, heads["v"])
    return gathered.transpose(1, 2).flatten(2)
