"""A scene before the photograph, and the camera that takes it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .texture import Floats, Grid, Rng, noise

CAMERA_NOISE = (0.003, 0.02)  # standard deviation of the sensor noise, full scale = 1


@dataclass
class Scene:
    """What stands before the camera.

    Attributes:
        grid: Pixel coordinates.
        albedo: Colour of the thing, RGB in [0, 1], shape (H, W, 3).
        height: Relief towards the camera in short sides, shape (H, W).
        gloss: Strength of highlights in [0, 1].
        part: Where the thing covers the background, in [0, 1], shape (H, W).
        background: Colour behind the thing, RGB in [0, 1], shape (H, W, 3).
        shadow: How dark the thing's shadow on the background is, in [0, 1].
    """

    grid: Grid
    albedo: Floats
    height: Floats
    gloss: float
    part: Floats
    background: Floats
    shadow: float = 0.0

    def copy(self) -> Scene:
        """Return a scene whose arrays may be changed."""
        return Scene(
            self.grid,
            self.albedo.copy(),
            self.height.copy(),
            self.gloss,
            self.part.copy(),
            self.background.copy(),
            self.shadow,
        )

    def part_of(self, rows: slice, cols: slice) -> Scene:
        """A piece of the scene as one of its own, whose short side is the unit of length."""
        grid = Grid.of((rows.stop - rows.start, cols.stop - cols.start))
        unit = np.float32(grid.pixel / self.grid.pixel)
        return Scene(
            grid,
            self.albedo[rows, cols].copy(),
            self.height[rows, cols] * unit,
            self.gloss,
            self.part[rows, cols].copy(),
            self.background[rows, cols].copy(),
            self.shadow,
        )


@dataclass(frozen=True)
class Camera:
    """Light, lens and sensor of one photograph, with or without a defect.

    Attributes:
        toward: Direction the light comes from, (x, y), longer is more grazing.
        light: Illumination over the picture, shape (H, W, 3).
        blur: Standard deviation of the lens blur in pixels.
        noise: Sensor noise to add, shape (H, W, 3).
    """

    toward: tuple[float, float]
    light: Floats
    blur: float
    noise: Floats

    @classmethod
    def set_up(cls, product: Rng, instance: Rng, grid: Grid) -> Camera:
        """Draw a station's light from `product` and one shot's variation from `instance`."""
        angle = product.uniform(0, 2 * np.pi) + instance.normal(0, 0.12)
        grazing = product.uniform(0.5, 1.0)
        slope = product.normal(0, 0.12, 2) + instance.normal(0, 0.05, 2)
        vignette = product.uniform(0, 0.25)
        exposure = product.uniform(0.85, 1.12) * instance.normal(1, 0.03)
        balance = 1 + product.normal(0, 0.03, 3) + instance.normal(0, 0.005, 3)
        field = 1 + slope[0] * grid.x + slope[1] * grid.y - vignette * (grid.x**2 + grid.y**2)
        field = field + instance.uniform(0, 0.03) * noise(instance, grid.x, grid.y, 0.6)
        light = (field * exposure)[..., None] * balance
        blur = product.uniform(0.35, 0.9) * instance.uniform(0.9, 1.1)
        sigma = product.uniform(*CAMERA_NOISE)
        common = instance.standard_normal((*grid.shape, 1), dtype=np.float32)
        chroma = instance.standard_normal((*grid.shape, 3), dtype=np.float32)
        return cls(
            (grazing * np.cos(angle), grazing * np.sin(angle)),
            light.astype(np.float32),
            blur,
            np.float32(sigma) * (common + np.float32(0.4) * chroma),
        )

    def part_of(self, rows: slice, cols: slice) -> Camera:
        """The same camera, of which a piece of the picture is used."""
        return Camera(self.toward, self.light[rows, cols], self.blur, self.noise[rows, cols])

    def expose(self, scene: Scene) -> Floats:
        """Photograph a scene without sensor noise: RGB in [0, 1], shape (H, W, 3)."""
        lit = scene.albedo * self._shade(scene)
        part = scene.part[..., None]
        behind = scene.background
        if scene.shadow > 0:
            behind = behind * (1 - scene.shadow * self._shadow(scene))[..., None]
        picture = (behind + (lit - behind) * part) * self.light
        sharp = np.asarray(picture, np.float32)
        seen = cv2.GaussianBlur(sharp, (0, 0), self.blur, borderType=cv2.BORDER_REFLECT_101)
        return np.clip(seen, 0, 1).astype(np.float32)

    def develop(self, picture: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        """Add the sensor noise and round to uint8."""
        return np.clip(np.rint((picture + self.noise) * 255), 0, 255).astype(np.uint8)

    def _shade(self, scene: Scene) -> Floats:
        slopes = np.asarray(scene.height / scene.grid.pixel, np.float32)
        gx = cv2.Sobel(slopes, cv2.CV_32F, 1, 0, ksize=3, scale=0.125)
        gy = cv2.Sobel(slopes, cv2.CV_32F, 0, 1, ksize=3, scale=0.125)
        facing = np.tanh(gx * np.float32(-self.toward[0]) + gy * np.float32(-self.toward[1]))
        shine = scene.gloss * np.clip(facing, 0, 1) ** 2
        return np.asarray((1 + 0.6 * facing + shine)[..., None], np.float32)

    def _shadow(self, scene: Scene) -> Floats:
        reach = 0.03 / scene.grid.pixel
        dx, dy = -self.toward[0] * reach, -self.toward[1] * reach
        shift = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        height, width = scene.part.shape
        moved = cv2.warpAffine(np.asarray(scene.part, np.float32), shift, (width, height))
        return np.asarray(cv2.GaussianBlur(moved, (0, 0), max(reach, 0.6)), np.float32)
