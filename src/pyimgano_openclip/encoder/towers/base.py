"""The interface of towers, the same for all families."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch.nn.functional as F  # noqa: N812 - the conventional name
from torch import Tensor

from ...arrays import Size
from ..tokens import Attention, Positions


@dataclass(frozen=True)
class Request:
    """What to read from one pass.

    Attributes:
        aligned: The side path for text-aligned tokens, ``"none"`` for the plain last tokens,
            ``"auto"`` for ``"vv"`` where the tower has a side path and ``"none"`` elsewhere, or
            None to leave them out together with the pooled embedding.
        stages: Number of equal groups of blocks over which the side path is summed.
        layers: Depths in (0, 1] after which feature tokens are taken; 1 is after the last block.
        windows: Sides in patches of square windows that are embedded separately.
        surgery: Number of last blocks whose side path is accumulated on the tokens that enter them
            (CLIP Surgery), instead of ``stages``; 0 for ours.
        final: Whether to return the last tokens before the projection (WinCLIP+).
        positions: Interpolation of position embeddings to another grid than the tower's own;
            ``"bicubic"`` is antialiased, as in open_clip.
    """

    aligned: Attention | None = None
    stages: int = 4
    layers: tuple[float, ...] = ()
    windows: tuple[int, ...] = ()
    surgery: int = 0
    final: bool = False
    positions: Positions = "bicubic"


@dataclass
class TowerOutput:
    """Result of one pass over a batch of B images with a grid of (rows, cols) patches.

    Attributes:
        pooled: Unit-length image embeddings, float32, shape (B, D), equal to ``encode_image``.
        aligned: Text-aligned patch tokens, float32, (B, rows, cols, D). Each is the mean of the
            unit-length tokens of the stages, so its dot product with a unit text vector is the
            mean cosine over the stages.
        features: One tensor per requested layer, shape (B, rows, cols, C), not normalised.
        windows: Unit-length embeddings by window side, as ``encode_image`` would compute them from
            the patches of the window alone, shape (B, rows - side + 1, cols - side + 1, D).
        final: Unit-length patch tokens after the last block and the tower's own norm, not
            projected, float32, shape (B, rows, cols, C), if requested.
    """

    pooled: Tensor | None = None
    aligned: Tensor | None = None
    features: list[Tensor] = field(default_factory=list)
    windows: dict[int, Tensor] = field(default_factory=dict)
    final: Tensor | None = None


class Tower(ABC):
    """One family of image towers.

    Attributes:
        side_path: True if the aligned tokens can come from self-self attention.
        aligned: False if the family has no text-aligned patch tokens.
        any_canvas: False if the tower accepts only images of its own size.

    Args:
        visual: ``model.visual`` of an open_clip model; it is neither changed nor copied.
    """

    side_path: bool = False
    aligned: ClassVar[bool] = True
    any_canvas: ClassVar[bool] = True

    def __init__(self, visual: Any) -> None:
        self.visual = visual

    @staticmethod
    @abstractmethod
    def fits(visual: Any) -> bool:
        """True if ``visual`` belongs to this family."""

    @property
    @abstractmethod
    def patch_size(self) -> Size:
        """(height, width) of a patch in pixels; both sides of a canvas are multiples of it."""

    @property
    @abstractmethod
    def native_size(self) -> Size:
        """(height, width) of the tower's own input in pixels, rounded to whole patches."""

    @property
    def feature_stride(self) -> Size:
        """(height, width) in pixels covered by a feature token."""
        return self.patch_size

    @abstractmethod
    def __call__(self, images: Tensor, request: Request) -> TowerOutput:
        """Run the tower once.

        Args:
            images: Normalised pixels, shape (B, 3, height, width), in whole patches.
            request: What to return.

        Raises:
            ValueError: If the tower does not support the request.
        """

    def attention_for(self, request: Request) -> str:
        """Resolve the side path of a request on this tower.

        Raises:
            ValueError: If the tower does not have the requested side path.
        """
        wanted = request.aligned or "none"
        if wanted == "auto":
            return "vv" if self.side_path else "none"
        if wanted != "none" and not self.side_path:
            raise ValueError(
                f"attention={wanted!r}: the blocks of {type(self.visual).__name__} are rotary, "
                "post-norm or convolutional and have no side path; use 'auto' or 'none'."
            )
        return wanted


def depths(layers: Sequence[float], n_blocks: int) -> list[int]:
    """Convert relative depths to block counts: 0.25 of 12 blocks is after the third."""
    return [max(1, round(layer * n_blocks)) for layer in layers]


def unit_length(vectors: Tensor) -> Tensor:
    """Scale vectors along the last axis to length 1, in float32."""
    # In half precision the epsilon that prevents a division by zero is itself zero.
    return F.normalize(vectors.float(), dim=-1)


def resample_positions(plane: Tensor, old: Size, new: Size, mode: Positions = "bicubic") -> Tensor:
    """Interpolate position embeddings to a grid of any shape.

    Args:
        plane: Position embeddings of the patches, shape (old rows * old cols, C).
        old: (rows, cols) of ``plane``.
        new: (rows, cols) of the result.
        mode: ``"bicubic"``, antialiased, as open_clip does when loading; or ``"bilinear"``.

    Returns:
        Shape (new rows * new cols, C), in the dtype of ``plane``.
    """
    if old == new:
        return plane
    # Antialiased bicubic interpolation is missing in half precision on the CPU, and on MPS up to
    # torch 2.7 (pytorch/pytorch#149378).
    whole = plane.cpu() if plane.device.type == "mps" else plane
    stacked = whole.float().T.unflatten(1, old)[None]
    smooth = mode == "bicubic"
    stacked = F.interpolate(stacked, new, mode=mode, antialias=smooth, align_corners=False)
    return stacked[0].flatten(1).T.to(plane)
