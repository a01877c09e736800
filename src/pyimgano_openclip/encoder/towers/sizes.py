"""Sizes of image towers, known without their weights.

Building all of them takes half a minute even on torch's meta device, so the sizes of open_clip's
models are stored in ``sizes.json``, written by ``tests/benchmarks/tower_sizes.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from ...arrays import Size

TABLE = "sizes.json"
# The smallest possible text tower; open_clip builds no model without one.
TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}


@dataclass(frozen=True)
class TowerSize:
    """The size of an image tower.

    Attributes:
        parameters: Number of parameters, without the text tower.
        input: (height, width) of the tower's own input in pixels.
        patch: (height, width) in pixels of a patch that is compared with texts.
        stride: (height, width) in pixels of a patch that is compared with patches.
    """

    parameters: int
    input: Size
    patch: Size
    stride: Size

    @property
    def aligned_grid(self) -> Size:
        """(rows, cols) of the patches that are compared with texts, at the tower's own size."""
        return self.input[0] // self.patch[0], self.input[1] // self.patch[1]

    @property
    def feature_grid(self) -> Size:
        """(rows, cols) of the patches that are compared with patches, at the tower's own size."""
        return self.input[0] // self.stride[0], self.input[1] // self.stride[1]


def known_sizes() -> dict[str, TowerSize]:
    """Read the table of sizes, by model name."""
    table = json.loads(files(__package__).joinpath(TABLE).read_text(encoding="utf-8"))
    return {name: TowerSize(count, *map(tuple, sizes)) for name, (count, *sizes) in table.items()}


def measure(config: Mapping[str, Any]) -> TowerSize:
    """Build an image tower without weights and measure it.

    Args:
        config: An open_clip model config.

    Raises:
        ValueError: If the tower is not supported.
    """
    # Importing torch and open_clip takes seconds.
    import torch
    from open_clip.model import CLIP

    from . import make_tower

    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    with torch.device("meta"):
        visual = CLIP(config["embed_dim"], vision, TEXT).visual
    tower = make_tower(visual)
    parameters = sum(parameter.numel() for parameter in visual.parameters())
    return TowerSize(parameters, tower.native_size, tower.patch_size, tower.feature_stride)
