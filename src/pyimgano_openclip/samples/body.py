"""Building things from shapes.

A shape is a signed distance (H, W): negative inside, in the units of the coordinates it was made
from.
"""

from __future__ import annotations

import numpy as np

from .texture import Floats, Grid, Rng, any_colour


def circle(x: Floats, y: Floats, radius: float) -> Floats:
    """Disc around the origin."""
    return np.hypot(x, y) - np.float32(radius)


def box(x: Floats, y: Floats, half_width: float, half_height: float, corner: float = 0.0) -> Floats:
    """Rectangle around the origin, its corners rounded by `corner`."""
    qx = np.abs(x) - np.float32(half_width - corner)
    qy = np.abs(y) - np.float32(half_height - corner)
    outside = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0))
    inside = np.minimum(np.maximum(qx, qy), 0)
    return outside + inside - np.float32(corner)


def polygon(x: Floats, y: Floats, sides: int, radius: float) -> Floats:
    """Regular polygon around the origin, `radius` from the centre to a side."""
    sector = 2 * np.pi / sides
    angle = np.arctan2(y, x)
    folded = angle - np.round(angle / np.float32(sector)) * np.float32(sector)
    return np.hypot(x, y) * np.cos(folded) - np.float32(radius)


def lobed(
    x: Floats, y: Floats, radius: float, depth: float, lobes: int, square: float = 0.0
) -> Floats:
    """Disc whose edge rises `lobes` times by `depth`, steeply where `square` is near 1."""
    ripple = np.cos(np.arctan2(y, x) * lobes)
    ripple = np.clip(ripple * np.float32(1 + 4 * square), -1, 1)
    return np.hypot(x, y) - np.float32(radius) - np.float32(depth) * ripple


def around(x: Floats, y: Floats, count: int, radius: float) -> tuple[Floats, Floats]:
    """Coordinates about the nearest of `count` centres on a circle of `radius`."""
    sector = np.float32(2 * np.pi / count)
    angle = np.arctan2(y, x)
    folded = angle - np.round(angle / sector) * sector
    distance = np.hypot(x, y)
    return distance * np.cos(folded) - np.float32(radius), distance * np.sin(folded)


def along(x: Floats, count: int, pitch: float) -> Floats:
    """Coordinate about the nearest of `count` centres `pitch` apart in a row around the origin."""
    half = (count - 1) / 2
    index = np.clip(np.round(x / np.float32(pitch) + half), 0, count - 1) - half
    return np.asarray(x - index * np.float32(pitch), np.float32)


class Body:
    """A thing under construction.

    Attributes:
        grid: Coordinates of the thing, one unit = half its length.
        instance: Decides what differs from shot to shot.
        part: Coverage in [0, 1], shape (H, W).
        albedo: Colour, shape (H, W, 3).
        height: Relief in units of the grid, shape (H, W).
    """

    def __init__(self, grid: Grid, instance: Rng) -> None:
        self.grid = grid
        self.instance = instance
        self.part: Floats = np.zeros(grid.shape, np.float32)
        self.albedo: Floats = np.zeros((*grid.shape, 3), np.float32)
        self.height: Floats = np.zeros(grid.shape, np.float32)

    def cover(self, shape: Floats) -> Floats:
        """How much of each pixel a shape covers, in [0, 1]."""
        covered: Floats = np.clip(0.5 - shape / np.float32(self.grid.pixel), 0, 1)
        return covered.astype(np.float32)

    def add(self, shape: Floats, colour: Floats, *, rise: float = 0.0, bevel: float = 0.06) -> None:
        """Put a solid of one colour, shape (3,), or a painted one, (H, W, 3), over what is there.

        Its top is flat at `rise` above the ground and falls over a `bevel` wide edge.
        """
        self.paint(shape, colour)
        covered = self.cover(shape)
        self.part = np.maximum(self.part, covered)
        self.height = self.height * (1 - covered)
        self.emboss(shape, rise, bevel)

    def paint(self, shape: Floats, colour: Floats, strength: float = 1.0) -> None:
        """Colour what is there without changing its outline."""
        weight = self.cover(shape)[..., None] * np.float32(strength)
        self.albedo = self.albedo + (colour - self.albedo) * weight

    def emboss(self, shape: Floats, rise: float, bevel: float = 0.06) -> None:
        """Raise (or with negative `rise` sink) the inside of a shape."""
        self.height += np.float32(rise) * np.clip(-shape / np.float32(bevel), 0, 1)

    def cut(self, shape: Floats, bevel: float = 0.05) -> None:
        """Make a hole through which the background shows; its rim falls over `bevel`."""
        self.part = self.part * (1 - self.cover(shape))
        self.height *= np.clip(shape / np.float32(bevel), 0, 1)


def bars(
    body: Body,
    rng: Rng,
    area: tuple[float, float, float, float],
    rows: int,
    ink: Floats,
) -> None:
    """Print rows of small bars that look like lettering.

    Args:
        body: The thing to print on.
        rng: Decides the text: pass the product's.
        area: Left, top, right, bottom in the body's coordinates.
        rows: Number of lines.
        ink: Colour, shape (3,).
    """
    left, top, right, bottom = area
    pitch = (bottom - top) / rows
    cell = pitch * 0.6
    table = rng.random((rows, 64)) < 0.72
    row = np.floor((body.grid.y - np.float32(top)) / np.float32(pitch))
    column = np.floor((body.grid.x - np.float32(left)) / np.float32(cell))
    inside = (body.grid.x > left) & (body.grid.x < right) & (row >= 0) & (row < rows)
    on = table[np.clip(row, 0, rows - 1).astype(int), np.clip(column, 0, 63).astype(int)] & inside
    within = box(
        body.grid.x - (left + (column + np.float32(0.5)) * cell),
        body.grid.y - (top + (row + np.float32(0.5)) * pitch),
        0.36 * cell,
        0.32 * pitch,
    )
    body.paint(np.where(on, within, np.float32(1.0)).astype(np.float32), ink)


def contrasting(rng: Rng, base: Floats) -> Floats:
    """A colour that can be told from `base`, shape (3,)."""
    ink = any_colour(rng, 0.05, 0.95)
    if abs(float(ink.mean() - base.mean())) < 0.25:
        ink = base * np.float32(0.3) if base.mean() > 0.45 else base + (1 - base) * np.float32(0.7)
    return ink
