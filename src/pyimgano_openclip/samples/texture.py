"""Noise, cells and coordinates: what the surfaces and objects are made of.

Lengths are in units of the image's short side unless they are said to be pixels, so that a picture
looks the same at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Rng = np.random.Generator

_TILE = 128  # cells on a side of the random tile that `noise` reads


@dataclass(frozen=True)
class Grid:
    """Pixel centres of an image in units of its short side, the origin at the centre.

    Attributes:
        x: Horizontal coordinate, shape (H, W), to the right.
        y: Vertical coordinate, shape (H, W), downwards.
        pixel: Size of one pixel.
    """

    x: Floats
    y: Floats
    pixel: float

    @classmethod
    def of(cls, size: tuple[int, int]) -> Grid:
        """Return the grid of an image of (height, width) pixels."""
        height, width = size
        pixel = 1.0 / min(size)
        xs = (np.arange(width, dtype=np.float32) - (width - 1) / 2) * np.float32(pixel)
        ys = (np.arange(height, dtype=np.float32) - (height - 1) / 2) * np.float32(pixel)
        return cls(*_mesh(xs, ys), pixel)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.x.shape
        return height, width

    def moved(
        self, *, angle: float = 0.0, dx: float = 0.0, dy: float = 0.0, scale: float = 1.0
    ) -> Grid:
        """Coordinates of a thing turned by `angle` radians, moved by (dx, dy) and scaled."""
        cos, sin = np.float32(np.cos(angle) / scale), np.float32(np.sin(angle) / scale)
        x, y = self.x - np.float32(dx), self.y - np.float32(dy)
        return Grid(cos * x + sin * y, cos * y - sin * x, self.pixel / scale)


def _mesh(xs: Floats, ys: Floats) -> tuple[Floats, Floats]:
    shape = (len(ys), len(xs))
    return np.broadcast_to(xs, shape).copy(), np.broadcast_to(ys[:, None], shape).copy()


def noise(rng: Rng, x: Floats, y: Floats, cell: float | tuple[float, float]) -> Floats:
    """Smooth random field with features as large as `cell`, about zero mean and unit spread.

    Args:
        rng: Source of the field.
        x: Horizontal coordinate, any shape (H, W).
        y: Vertical coordinate, the same shape.
        cell: Feature size, or (along x, along y).

    Returns:
        Values, shape (H, W).
    """
    across, down = cell if isinstance(cell, tuple) else (cell, cell)
    tile = rng.standard_normal((_TILE, _TILE), dtype=np.float32)
    shift = rng.uniform(0, _TILE, 2)
    columns = np.mod(x / np.float32(across) + np.float32(shift[0]), np.float32(_TILE))
    rows = np.mod(y / np.float32(down) + np.float32(shift[1]), np.float32(_TILE))
    return np.asarray(
        cv2.remap(tile, columns, rows, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP), np.float32
    )


def fractal(rng: Rng, grid: Grid, cell: float, octaves: int = 3) -> Floats:
    """Sum of `octaves` noises, each half as large and 0.6 as strong as the one before."""
    total = noise(rng, grid.x, grid.y, cell)
    for octave in range(1, octaves):
        total = total + np.float32(0.6**octave) * noise(rng, grid.x, grid.y, cell / 2**octave)
    return total


def grain(rng: Rng, grid: Grid) -> Floats:
    """Independent unit noise in each pixel."""
    return rng.standard_normal(grid.shape, dtype=np.float32)


@dataclass(frozen=True)
class Cells:
    """A Voronoi pattern.

    Attributes:
        label: Number of the cell that a pixel lies in, shape (H, W).
        edge: Distance to the nearest border between cells, in short sides, shape (H, W).
        count: One more than the largest label.
    """

    label: NDArray[np.int32]
    edge: Floats
    count: int

    def values(self, rng: Rng) -> Floats:
        """One uniform value in [0, 1) per cell, spread over its pixels, shape (H, W)."""
        return rng.random(self.count, dtype=np.float32)[self.label]


def cells(rng: Rng, grid: Grid, spacing: float) -> Cells:
    """Voronoi cells of jittered points about `spacing` apart."""
    height, width = grid.shape
    step = max(spacing / grid.pixel, 2.0)
    rows, columns = int(height / step) + 2, int(width / step) + 2
    jitter = rng.uniform(0, step, (2, rows, columns))
    py = np.clip(np.arange(rows)[:, None] * step + jitter[0] - step / 2, 0, height - 1).astype(int)
    px = np.clip(np.arange(columns)[None] * step + jitter[1] - step / 2, 0, width - 1).astype(int)
    points = np.ones(grid.shape, np.uint8)
    points[py, px] = 0
    _, label = cv2.distanceTransformWithLabels(
        points, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    numbers: NDArray[np.int32] = np.asarray(label, np.int32)
    inside = np.ones(grid.shape, np.uint8)
    inside[:, 1:][numbers[:, 1:] != numbers[:, :-1]] = 0
    inside[1:][numbers[1:] != numbers[:-1]] = 0
    edge = np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, 3), np.float32)
    return Cells(numbers, edge * np.float32(grid.pixel), int(numbers.max()) + 1)


def wave(t: Floats) -> Floats:
    """Sine with period 1, in [-1, 1]."""
    return np.sin(t * np.float32(2 * np.pi))


def lines(t: Floats, width: float, pixel: float) -> Floats:
    """Soft-edged lines at whole values of `t`, `width` wide: 1 on a line, 0 between.

    `pixel` is the size of a pixel; all lengths are in units of t.
    """
    distance = np.abs(t - np.round(t))
    edge = np.float32(max(pixel, 1e-4))
    return np.clip((np.float32(width / 2) - distance) / edge + 0.5, 0, 1)


def mix(low: Floats | float, high: Floats | float, t: Floats) -> Floats:
    """Linear blend from `low` (t = 0) to `high` (t = 1)."""
    return np.asarray(low + (high - low) * t, np.float32)


def blend(low: Floats, high: Floats, t: Floats) -> Floats:
    """Blend two colours or (H, W, 3) pictures with weight t, shape (H, W)."""
    return np.asarray(low + (high - low) * t[..., None], np.float32)


def smooth(t: Floats, low: float, high: float) -> Floats:
    """Smooth step from 0 below `low` to 1 above `high`."""
    s: Floats = np.clip((t - np.float32(low)) / np.float32(high - low), 0, 1)
    return s * s * (3 - 2 * s)


def colour(rng: Rng, base: tuple[float, float, float], spread: float = 0.08) -> Floats:
    """A colour near `base`, RGB in [0, 1], shape (3,).

    Its brightness varies by `spread`, each channel by a further third of that.
    """
    offset = rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
    return np.clip(np.asarray(base) + offset, 0.02, 0.98).astype(np.float32)


def any_colour(rng: Rng, low: float = 0.15, high: float = 0.85) -> Floats:
    """Any colour, often nearly grey, shape (3,)."""
    grey = rng.uniform(low, high)
    tint = rng.uniform(-1, 1, 3) * rng.uniform(0, 0.3)
    return np.clip(grey + tint, 0.02, 0.98).astype(np.float32)


def rgb(red: float, green: float, blue: float) -> Floats:
    """A fixed colour, shape (3,)."""
    return np.array([red, green, blue], np.float32)
