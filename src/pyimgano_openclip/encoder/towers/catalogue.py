"""Finds a model's family from its config alone, before anything is downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EXAMPLES = "ViT-B-16-plus-240, ViT-B-32, ViT-L-14, ViT-B-16-SigLIP2, convnext_base_w, RN50"


@dataclass(frozen=True)
class Family:
    """What a family of towers supports; ``vision_openclip_patchknn`` works with all of them.

    Attributes:
        name: Name of the family.
        aligned: Whether patches can be compared with texts (``vision_openclip_promptscore``).
        side_path: Whether the aligned tokens come from value attention by default.
        any_canvas: Whether the tower takes images of any size and aspect ratio.
    """

    name: str
    aligned: bool = True
    side_path: bool = False
    any_canvas: bool = True


OPEN_CLIP_VIT = Family("open_clip ViT", side_path=True)
MODIFIED_RESNET = Family("CLIP ResNet")
# by the start of the timm model's name
TIMM = {
    "eva_giant": Family("EVA-01", side_path=True),
    "eva02": Family("EVA-02"),
    "vit_pe_core": Family("PE-Core"),
    "vit_relpos": Family("relative-position ViT", aligned=False, any_canvas=False),
    "vitamin": Family("ViTamin", side_path=True),
    "vit_": Family("timm ViT", side_path=True),
    "convnext": Family("ConvNeXt"),
    "fastvit": Family("FastViT", aligned=False, any_canvas=False),
    "swin": Family("Swin", aligned=False, any_canvas=False),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """Find the family of a model.

    Args:
        config: An open_clip model config with an entry ``vision_cfg``.

    Raises:
        ValueError: If the family is unknown.
    """
    vision = config["vision_cfg"]
    trunk = vision.get("timm_model_name")
    if trunk is not None:
        for start, family in TIMM.items():
            if trunk.startswith(start):
                return family
        raise ValueError(f"The image tower {trunk!r} belongs to no known family; try {EXAMPLES}.")
    return MODIFIED_RESNET if isinstance(vision.get("layers"), (list, tuple)) else OPEN_CLIP_VIT
