"""Reads everything that a detector needs from an image tower in one forward pass.

A tower returns the pooled embedding of CLIP itself; "aligned" patch tokens, which are in the joint
image-text space and can be compared with text vectors; and "features", patch tokens from chosen
depths, for comparing images with images. Each family of towers has its own file;
``catalogue.py`` derives the family from a model's config.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .base import Request, Tower, TowerOutput
from .convolutional import ConvNeXtTower, FeatureMapTower, ModifiedResNetTower
from .open_clip_vit import VisionTransformerTower
from .timm_vit import TimmTransformerTower

__all__ = ["Request", "Tower", "TowerOutput", "VisionTransformerTower", "make_tower"]


def make_tower(visual: Any) -> Tower:
    """Wrap the image tower of a loaded open_clip model.

    Args:
        visual: ``model.visual`` of an open_clip model; it is neither changed nor copied.

    Raises:
        ValueError: If this kind of tower is not supported.
    """
    for family in (
        VisionTransformerTower,
        TimmTransformerTower,
        ModifiedResNetTower,
        ConvNeXtTower,
        FeatureMapTower,
    ):
        if family.fits(visual):
            return family(visual)
    raise ValueError(
        f"The image tower {_name(visual)} is not supported: it returns no known patch tokens."
    )


def _name(visual: nn.Module) -> str:
    return type(getattr(visual, "trunk", visual)).__name__
