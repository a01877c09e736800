"""Convolutional towers: CLIP's ResNets, ConvNeXt, and feature maps of any other timm trunk."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.func import functional_call

from ...arrays import Size
from .base import Request, Tower, TowerOutput, depths, resample_positions, unit_length

FEATURE_STRIDE = 16  # pixels per feature token; maps with other strides are resized to it


class ConvolutionalTower(Tower):
    """Base class of towers without attention blocks."""

    @property
    def feature_stride(self) -> Size:
        """(height, width) in pixels covered by a feature token."""
        return FEATURE_STRIDE, FEATURE_STRIDE

    def _refuse_transformer_settings(self, request: Request) -> None:
        self.attention_for(request)
        if request.windows:
            raise ValueError("windows need a transformer tower; this one is convolutional.")


class ModifiedResNetTower(ConvolutionalTower):
    """CLIP's ResNets; aligned tokens are the value path of the attention pool, per cell."""

    @staticmethod
    def fits(visual: Any) -> bool:
        """True for open_clip's ``ModifiedResNet``."""
        return hasattr(visual, "attnpool") and hasattr(visual, "layer4")

    @property
    def patch_size(self) -> Size:
        """Stride of the last stage in pixels."""
        return 32, 32

    @property
    def native_size(self) -> Size:
        """(height, width) of the tower's own input in pixels."""
        side = self.visual.image_size
        height, width = (side, side) if isinstance(side, int) else side
        return height, width

    def __call__(self, images: Tensor, request: Request) -> TowerOutput:
        """Run the stages as deep as needed; see :class:`~.base.Tower`."""
        visual = self.visual
        stages = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        taken = depths(request.layers, len(stages))
        last = len(stages) if request.aligned else max(taken)
        self._refuse_transformer_settings(request)
        output, plane = TowerOutput(), visual.stem(images)
        grid = _feature_grid(images)
        for index, stage in enumerate(stages[:last]):
            plane = stage(plane)
            output.features += [_resized(plane, grid)] * taken.count(index + 1)
        if request.aligned:
            pool = visual.attnpool
            output.pooled = unit_length(self._pooled(plane))
            aligned = pool.c_proj(pool.v_proj(plane.permute(0, 2, 3, 1)))
            output.aligned = unit_length(aligned)
        return output

    def _pooled(self, plane: Tensor) -> Tensor:
        """Apply the attention pool with position embeddings for the plane's own grid."""
        pool = self.visual.attnpool
        learned: Tensor = pool.positional_embedding
        side = round((len(learned) - 1) ** 0.5)
        grid = (plane.shape[-2], plane.shape[-1])
        positions = torch.cat([learned[:1], resample_positions(learned[1:], (side, side), grid)])
        return functional_call(pool, {"positional_embedding": positions}, (plane,))


class FeatureMapTower(ConvolutionalTower):
    """Feature maps of any timm trunk that returns them, such as FastViT or Swin.

    They are for comparing images with images only: such trunks end in global pooling or mix cells,
    so that no cell can be compared with a text.
    """

    aligned: ClassVar[bool] = False
    any_canvas: ClassVar[bool] = False

    @staticmethod
    def fits(visual: Any) -> bool:
        """True for timm trunks with ``forward_intermediates``."""
        return hasattr(getattr(visual, "trunk", None), "forward_intermediates")

    @property
    def patch_size(self) -> Size:
        """Stride of the coarsest feature map in pixels."""
        return 32, 32

    @property
    def native_size(self) -> Size:
        """(height, width) of the tower's own input in pixels."""
        height, width = self.visual.image_size
        return int(height), int(width)

    def __call__(self, images: Tensor, request: Request) -> TowerOutput:
        """Run the trunk once; see :class:`~.base.Tower`."""
        if request.aligned and not self.aligned:
            raise ValueError(
                f"The patch tokens of {type(self.visual.trunk).__name__} cannot be compared with "
                "texts; use this tower with vision_openclip_patchknn."
            )
        self._refuse_transformer_settings(request)
        last, planes = self.visual.trunk.forward_intermediates(images, output_fmt="NCHW")
        grid = _feature_grid(images)
        taken = depths(request.layers, len(planes))
        output = TowerOutput(features=[_resized(planes[depth - 1], grid) for depth in taken])
        if request.aligned:
            self._align(last, output)
        return output

    def _align(self, last: Tensor, output: TowerOutput) -> None:
        raise NotImplementedError


class ConvNeXtTower(FeatureMapTower):
    """ConvNeXt; aligned tokens are the last cells, each passed through the head by itself."""

    aligned: ClassVar[bool] = True
    any_canvas: ClassVar[bool] = True

    @staticmethod
    def fits(visual: Any) -> bool:
        """True for timm's ``ConvNeXt`` trunks."""
        return type(getattr(visual, "trunk", None)).__name__ == "ConvNeXt"

    def _align(self, last: Tensor, output: TowerOutput) -> None:
        visual, (batch, _, rows, cols) = self.visual, last.shape
        output.pooled = unit_length(visual.head(visual.trunk.forward_head(last)))
        cells = last.permute(0, 2, 3, 1).reshape(-1, last.shape[1], 1, 1)
        alone = unit_length(visual.head(visual.trunk.forward_head(cells)))
        output.aligned = alone.reshape(batch, rows, cols, -1)


def _feature_grid(images: Tensor) -> Size:
    height, width = images.shape[-2:]
    return max(1, height // FEATURE_STRIDE), max(1, width // FEATURE_STRIDE)


def _resized(plane: Tensor, grid: Size) -> Tensor:
    """Resize a feature map (B, C, h, w) to a grid of tokens (B, rows, cols, C)."""
    if plane.shape[-2] > grid[0]:
        plane = F.adaptive_avg_pool2d(plane, grid)
    elif (plane.shape[-2], plane.shape[-1]) != grid:
        plane = F.interpolate(plane, grid, mode="bilinear", align_corners=False)
    return plane.permute(0, 2, 3, 1)
