"""A small tower of open_clip with random weights, and images for it."""

import numpy as np
from PIL import Image

from pyimgano_openclip import (
    OpenCLIPPatchEmbedder,
)

from helpers.detectors import TINY


def photograph(height=64, width=160, seed=0):
    """Smooth colours, (height, width, 3) of uint8."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


def embedder(**settings):
    """An embedder with a random tower; all of the same seed have the same weights."""
    return OpenCLIPPatchEmbedder(
        TINY, None, **{"device": "cpu", "precision": "float32", **settings}
    )
