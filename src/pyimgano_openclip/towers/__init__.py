"""Dense tokens of an image tower: one forward pass, everything a detector reads from it.

A tower gives three things: the pooled embedding that CLIP itself would give, patch tokens in the
joint image-text space ("aligned": their dot product with a text vector means something), and
patch tokens after chosen depths ("features": for comparing images with images). There is one file
per family of towers; `catalogue.py` knows from a model's config which family it is.
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
        visual: ``model.visual`` of an open_clip model. It is neither changed nor copied.

    Raises:
        ValueError: If no patch tokens can be read from this kind of tower.
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
        f"The image tower {_name(visual)} gives no patch tokens that this package can read."
    )


def _name(visual: nn.Module) -> str:
    return type(getattr(visual, "trunk", visual)).__name__
