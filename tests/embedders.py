"""Embedders without torch, for tests of everything around them."""

import numpy as np


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


RED, GREEN = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])


def red_image(height: int = 40, width: int = 40, *, seed: int = 0) -> np.ndarray:
    """A noisy red image; red stands for normal in these tests."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 40, (height, width, 3), dtype=np.uint8)
    image[..., 0] += 160
    return image


def with_green(image: np.ndarray, top: int, left: int, side: int = 10) -> np.ndarray:
    """The image with a green square; green stands for damage in these tests."""
    marked = image.copy()
    marked[top : top + side, left : left + side] = (0, 200, 0)
    return marked
