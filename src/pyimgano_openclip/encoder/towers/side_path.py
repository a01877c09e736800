"""Text-aligned patch tokens from value-value attention.

CLIP's last-layer patch tokens do not align well with texts, since attention mixes global
information into them. The side path runs in parallel to the network: in each block, values attend
to values instead of queries to keys, without MLP. That attention is CLIP Surgery's (Li et al.,
2023), and so is the way in which ``surgery`` adds it up: on the tokens that enter the last blocks.
The default is our own: outputs are summed per stage over all blocks, without the tokens that enter,
and the stages are averaged after the projection. It uses no hooks and changes no weights: queries,
keys and values are computed from the blocks' own weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

TILE = 16  # tokens, of whose multiples torch's attention on the CPU is fastest in bfloat16


class SidePath:
    """Sums the self-self attention of the blocks over stages of equal depth, or as CLIP Surgery.

    Args:
        kind: ``"vv"``, ``"qq"``, ``"kk"``, or ``"none"`` for no side path.
        stages: Number of stages.
        n_blocks: Number of blocks in the tower.
        surgery: Number of last blocks whose outputs are added to the tokens that enter the first of
            them, as one stage; all blocks if there are fewer. 0 for equal stages.

    Attributes:
        stages: One sum per stage, shape (B, N, C), in order of depth; empty for ``"none"``.

    Raises:
        ValueError: If there are more stages than blocks.
    """

    def __init__(self, kind: str, stages: int, n_blocks: int, surgery: int = 0) -> None:
        if not 1 <= stages <= n_blocks:
            raise ValueError(
                f"stages={stages}, but the tower has {n_blocks} blocks; "
                f"choose from 1 to {n_blocks}."
            )
        self._kind = kind
        self._enters_at = max(0, n_blocks - surgery) if surgery else None
        self._starts = {n_blocks * stage // stages for stage in range(stages)}
        self.stages: list[Tensor] = []

    def through(
        self,
        block: Any,
        tokens: Tensor,
        index: int,
        keywords: dict[str, Any],
        needed: int | None = None,
    ) -> Tensor:
        """Run a block and add its self-self attention to its stage.

        Args:
            block: The next block.
            tokens: Input of the block, shape (B, N, C).
            index: Index of the block, from 0.
            keywords: Further arguments of a block without side path.
            needed: Number of first tokens of the output that are read; None for all.

        Returns:
            Output of the block, shape (B, N, C), or (B, needed, C) with a side path.
        """
        if self._kind == "none" or (self._enters_at is not None and index < self._enters_at):
            return block(tokens, **keywords)
        # Both share queries, keys and values: the side path adds one attention and projection.
        count = tokens.shape[1]
        kinds = {"qk": needed or count, self._kind: count}
        own, attended = attention_outputs(block, tokens, kinds)
        if index == self._enters_at:
            self.stages.append(tokens + attended)
        elif self._enters_at is None and index in self._starts:
            self.stages.append(attended)
        else:
            self.stages[-1] = self.stages[-1] + attended
        return _rest_of_block(block, tokens[:, :needed] + own)


def has_side_path(block: Any) -> bool:
    """Whether the attention of an open_clip or timm block can be rebuilt from its weights."""
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


def attention_outputs(block: Any, tokens: Tensor, kinds: Mapping[str, int]) -> list[Tensor]:
    """Compute the attention outputs of a residual block for different kinds of attention.

    Args:
        block: Residual attention block of open_clip or timm.
        tokens: Input of the block, shape (B, N, C).
        kinds: Each two letters of q, k and v: what attends, and to what. ``"qk"`` is the block's
            own attention, ``"vv"`` lets values attend to values. The values are averaged. With each
            comes the number of first tokens that attend; all are attended to.

    Returns:
        For each kind ``scale * out(softmax(a b^T / sqrt(h)) v)``, where h is the head width; shape
        (B, number of tokens that attend, C).
    """
    rebuild = _open_clip_attention if hasattr(block, "ln_1") else _timm_attention
    return rebuild(block, tokens, kinds)


def _open_clip_attention(block: Any, tokens: Tensor, kinds: Mapping[str, int]) -> list[Tensor]:
    attention, normed = block.attn, _in_tiles(block.ln_1(tokens))
    projected = F.linear(normed, attention.in_proj_weight, attention.in_proj_bias)
    heads = _heads(projected, attention.num_heads, tokens.shape[1])
    return [block.ls_1(attention.out_proj(_gather(heads, *kind))) for kind in kinds.items()]


def _timm_attention(block: Any, tokens: Tensor, kinds: Mapping[str, int]) -> list[Tensor]:
    attention, normed = block.attn, _in_tiles(block.norm1(tokens))
    bias = attention.qkv.bias
    if getattr(attention, "q_bias", None) is not None:
        bias = torch.cat((attention.q_bias, attention.k_bias, attention.v_bias))
    projected = F.linear(normed, attention.qkv.weight, bias)
    heads = _heads(projected, attention.num_heads, tokens.shape[1])
    heads["q"], heads["k"] = attention.q_norm(heads["q"]), attention.k_norm(heads["k"])
    mixed = [attention.proj(attention.norm(_gather(heads, *kind))) for kind in kinds.items()]
    if hasattr(block, "ls1"):
        return [block.ls1(output) for output in mixed]
    return mixed if block.gamma_1 is None else [block.gamma_1 * output for output in mixed]


def _rest_of_block(block: Any, tokens: Tensor) -> Tensor:
    """Run the second half of a block, after its attention has been added to its input."""
    if hasattr(block, "ln_2"):  # open_clip
        added: Tensor = block.ls_2(block.mlp(block.ln_2(tokens)))
    elif hasattr(block, "ls2"):
        added = block.ls2(block.mlp(block.norm2(tokens)))
    else:
        added = block.mlp(block.norm2(tokens))
        added = added if block.gamma_2 is None else block.gamma_2 * added
    return tokens + added


def _in_tiles(tokens: Tensor) -> Tensor:
    """Append zeros up to whole tiles where these save time: (B, N, C) -> (B, at least N, C)."""
    half = tokens.dtype == torch.bfloat16 and tokens.device.type == "cpu"
    return F.pad(tokens, (0, 0, 0, -tokens.shape[1] % TILE)) if half else tokens


def _heads(projected: Tensor, heads: int, count: int) -> dict[str, Tensor]:
    """Split into queries, keys and values: (B, N, 3 C) -> each (B, heads, N, head width).

    If not all N are tokens, but the first ``count``, ``"mask"`` leaves out the others as keys.
    """
    parts = projected.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    found = dict(zip("qkv", parts, strict=True))
    if projected.shape[1] > count:
        found["mask"] = mask = projected.new_zeros(1, projected.shape[1])
        mask[:, count:] = -torch.inf
    return found


def _gather(heads: dict[str, Tensor], kind: str, first: int) -> Tensor:
    """Softmax attention with the chosen queries and keys, heads concatenated: (B, first, C)."""
    queries, keys, values = (heads[name] for name in (*kind, "v"))
    gathered = F.scaled_dot_product_attention(
        queries[:, :, :first], keys, values, heads.get("mask")
    )
    return gathered.transpose(1, 2).flatten(2)
