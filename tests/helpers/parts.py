"""Small pictures of parts in the folder layout of MVTec AD, for the host's command lines."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORY = "tile"  # the host knows the names of MVTec AD only


@dataclass(frozen=True)
class Parts:
    """Where the pictures lie."""

    root: Path

    @property
    def train(self):
        return self.root / CATEGORY / "train" / "good"

    @property
    def good(self):
        return self.root / CATEGORY / "test" / "good"

    @property
    def damaged(self):
        return self.root / CATEGORY / "test" / "hole"


def part(seed, height=64, width=96):
    """A brushed plate, (height, width, 3) of uint8."""
    generator = np.random.default_rng(seed)
    grain = generator.normal(150, 12, (height, 1)) + generator.normal(0, 5, (height, width))
    return np.repeat(grain.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def with_hole(image):
    """The same plate with a dark hole, and the mask of the hole."""
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    mask[20:36, 50:72] = 255
    return np.where(mask[..., None] > 0, np.uint8(15), image), mask


def save(path, pixels):
    """Write an image file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def make_parts(root):
    """Six plates to train with; two whole and two damaged ones to test."""
    parts = Parts(root)
    for seed in range(6):
        save(parts.train / f"{seed}.png", part(seed))
    for seed in range(2):
        save(parts.good / f"{seed}.png", part(10 + seed))
        pixels, mask = with_hole(part(20 + seed))
        save(parts.damaged / f"{seed}.png", pixels)
        masks = parts.root / CATEGORY / "ground_truth" / "hole"
        save(masks / f"{seed}_mask.png", mask)
    return parts
