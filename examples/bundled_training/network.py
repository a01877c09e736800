"""The network, how it starts, and how it is written down."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file
from torch import Tensor, nn

from pyimgano_openclip.bundled import CHECKSUMS

from .captions import CONTEXT, FULL_VOCABULARY, Vocabulary
from .data import CROP

WEIGHTS = "open_clip_model.safetensors"
CONFIG = "open_clip_config.json"
MODEL: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": CROP,
        "patch_size": 8,
        "width": 128,
        "layers": 4,
        "head_width": 32,
        "mlp_ratio": 3.0,
    },
    "text_cfg": {
        "context_length": CONTEXT,
        "vocab_size": FULL_VOCABULARY,
        "width": 64,
        "heads": 2,
        "layers": 2,
    },
}
FLOOR = 0.1  # of the mean variance: what is weaker is mostly sensor noise and stays weak
PREPROCESSING: dict[str, Any] = {
    "mean": list(OPENAI_DATASET_MEAN),
    "std": list(OPENAI_DATASET_STD),
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def build(vocabulary: Vocabulary, seed: int) -> nn.Module:
    """The network with random weights and the compact vocabulary."""
    torch.manual_seed(seed)
    text = {**MODEL["text_cfg"], "vocab_size": len(vocabulary)}
    model = open_clip.CLIP(MODEL["embed_dim"], MODEL["vision_cfg"], text)
    model.token_embedding.padding_idx = 0  # the row of unknown words gets no gradient
    with torch.no_grad():
        model.token_embedding.weight[0] = 0
    return model


def whiten(model: nn.Module, images: NDArray[np.float32]) -> None:
    """Start the patch embedding as a whitening of real patches.

    Its outputs then have about equal spread and no correlation. With so few steps of training
    this matters more than anything else.

    Args:
        model: Changed in place.
        images: RGB in [0, 1], shape (N, 3, 96, 96).
    """
    conv: nn.Conv2d = model.visual.conv1
    pixels = normalise(torch.from_numpy(images))
    size = conv.kernel_size[0]
    patches = pixels.unfold(2, size, size).unfold(3, size, size).permute(0, 2, 3, 1, 4, 5)
    flat = patches.reshape(-1, conv.weight[0].numel()).double()
    values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
    values, vectors = values.flip(0), vectors.flip(1)
    keep = conv.out_channels
    rows = vectors[:, :keep].T / (values[:keep, None] + FLOOR * values.mean()).sqrt()
    with torch.no_grad():
        conv.weight.copy_(rows.view_as(conv.weight))


def normalise(pixels: Tensor) -> Tensor:
    """RGB in [0, 1], shape (N, 3, H, W), to what the tower takes."""
    mean = torch.tensor(PREPROCESSING["mean"], device=pixels.device).view(3, 1, 1)
    std = torch.tensor(PREPROCESSING["std"], device=pixels.device).view(3, 1, 1)
    return (pixels - mean) / std


def save(folder: Path, state: dict[str, Tensor], vocabulary: Vocabulary) -> None:
    """Write configuration, float16 weights and checksums for open_clip's factory."""
    folder.mkdir(parents=True, exist_ok=True)
    wide = dict(state)
    wide["token_embedding.weight"] = vocabulary.widen(state["token_embedding.weight"])
    halves = {name: value.detach().half().contiguous().cpu() for name, value in wide.items()}
    save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone
    config = {"model_cfg": MODEL, "preprocess_cfg": PREPROCESSING}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    sums = [
        f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in (WEIGHTS, CONFIG)
    ]
    (folder / CHECKSUMS).write_text("\n".join(sums) + "\n", encoding="ascii")
