"""Embedders without torch, and images for them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


class ColourEmbedder:
    """One token per block of pixels: its mean colour with a constant, so hue is direction.

    Reads arrays only; remembers how many images it embedded.
    """

    def __init__(self, rows: int = 4, cols: int = 4) -> None:
        self.grid = (rows, cols)
        self.calls = 0

    def embed(self, image):
        self.calls += 1
        rows, cols = self.grid
        height, width = image.shape[:2]
        bands = np.array_split(np.asarray(image, dtype=np.float32), rows, axis=0)
        blocks = [np.array_split(band, cols, axis=1) for band in bands]
        means = [[block.mean(axis=(0, 1)) for block in band] for band in blocks]
        return np.reshape(means, (rows * cols, 3)) + 1, self.grid, (height, width)


class FileEmbedder(ColourEmbedder):
    """The same for files and pictures of Pillow, too."""

    def embed(self, image):
        if isinstance(image, np.ndarray):
            return super().embed(image)
        if isinstance(image, Image.Image):
            return super().embed(np.asarray(image))
        with Image.open(image) as picture:
            return super().embed(np.asarray(picture))


class WideEmbedder:
    """Random tokens that follow from the pixels: 400 an image, of 256 numbers each."""

    def embed(self, image):
        seed = int(np.asarray(image, dtype=np.int64).sum())
        tokens = np.random.default_rng(seed).normal(size=(400, 256))
        return tokens, (20, 20), image.shape[:2]


RED, GREEN = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def red_image(height: int = 40, width: int = 40, *, seed: int = 0) -> np.ndarray:
    """A noisy red image; red stands for normal in these tests."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 40, (height, width, 3), dtype=np.uint8)
    image[..., 0] += 160
    return image


def red_images(
    count: int, height: int = 40, width: int = 40, *, first: int = 0
) -> list[np.ndarray]:
    """So many of them, with seeds one after the other."""
    return [red_image(height, width, seed=first + index) for index in range(count)]


def save_all(images: Iterable[np.ndarray], folder: Path) -> list[Path]:
    """Write them as 0.png, 1.png, ..., and tell where."""
    paths = []
    for number, image in enumerate(images):
        paths.append(folder / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def with_green(image: np.ndarray, top: int, left: int, side: int = 10) -> np.ndarray:
    """The image with a green square; green stands for damage in these tests."""
    marked = image.copy()
    marked[top : top + side, left : left + side] = (0, 200, 0)
    return marked


def quadrants(height=40, width=60):
    """An image whose four quarters have four hues."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 0, 0)
    image[: height // 2, width // 2 :] = (0, 200, 0)
    image[height // 2 :, : width // 2] = (0, 0, 200)
    image[height // 2 :, width // 2 :] = (200, 200, 0)
    return image
