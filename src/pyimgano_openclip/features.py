"""Feature tokens for comparing images with images, fused from several depths and neighbourhoods.

For each layer and neighbourhood this is the local aggregation of MuSc (Li et al., ICLR 2024):
centre the token map, average it over a window, scale to unit length. The results are concatenated
to one token per patch, whose cosine with another such token is the mean of the cosines of the
parts; a random projection shortens it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def fuse_features(
    layers: Sequence[Tensor], neighbourhoods: Sequence[int], projection: Projection | None
) -> Tensor:
    """Fuse the tokens of several layers into one unit-length token per patch.

    Args:
        layers: Tokens after each depth, each of shape (B, rows, cols, C).
        neighbourhoods: Odd window sizes in patches; 1 is the patch alone.
        projection: Projection of the fused tokens; None for no projection.

    Returns:
        Fused tokens, shape (B, rows, cols, D), float32.
    """
    parts = [aggregate(tokens, window) for tokens in layers for window in neighbourhoods]
    fused = torch.cat(parts, dim=-1)
    return F.normalize(fused if projection is None else projection(fused), dim=-1)


def aggregate(tokens: Tensor, window: int) -> Tensor:
    """Average each patch token over its neighbourhood and scale it to unit length.

    Args:
        tokens: Shape (B, rows, cols, C).
        window: Odd side of the neighbourhood in patches; clipped at the border.
    """
    tokens = tokens.float()
    centred = tokens - tokens.mean(dim=(1, 2, 3), keepdim=True)
    planes = centred.permute(0, 3, 1, 2)
    pooled = F.avg_pool2d(planes, window, stride=1, padding=window // 2, count_include_pad=False)
    return F.normalize(pooled.permute(0, 2, 3, 1), dim=-1)


class Projection:
    """A Gaussian random projection; preserves distances to a few percent (Johnson-Lindenstrauss).

    Args:
        dimension: Length of projected tokens; shorter tokens are not projected.
        seed: Equal seeds give equal projections on all devices.
    """

    def __init__(self, dimension: int, seed: int) -> None:
        self.dimension = dimension
        self.seed = seed
        self._matrix: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        """Project the last axis from C to at most ``dimension``."""
        if tokens.shape[-1] <= self.dimension:
            return tokens
        known = self._matrix
        if known is None or known.shape[0] != tokens.shape[-1] or known.device != tokens.device:
            generator = torch.Generator().manual_seed(self.seed)
            matrix = torch.randn(tokens.shape[-1], self.dimension, generator=generator)
            self._matrix = known = (matrix / self.dimension**0.5).to(tokens.device)
        return tokens @ known.to(tokens.dtype)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_matrix": None}  # rebuilt from the seed
