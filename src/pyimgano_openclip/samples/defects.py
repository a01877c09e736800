"""What can be wrong with a thing.

Each function returns a changed copy of a scene. `strength` near 1 is ordinary; above it the defect
is larger and plainer. All draw from `rng` alone.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import Scene
from .texture import Floats, Rng, any_colour, noise, smooth

Defect = Callable[[Scene, Rng, float], Scene]

_MARGIN = 0.06  # short sides: no defect is centred nearer to the picture's edge


def _spot(scene: Scene, rng: Rng, *, rim: bool = False) -> tuple[float, float]:
    """A random point (x, y) on the thing, with `rim` on its outline, in the scene's coordinates."""
    inside = (scene.part > 0.9).astype(np.uint8)
    margin = round(_MARGIN / scene.grid.pixel)
    inside[:margin], inside[-margin:], inside[:, :margin], inside[:, -margin:] = 0, 0, 0, 0
    eroded = cv2.erode(
        inside, np.ones((3, 3), np.uint8), iterations=max(1, int(0.02 / scene.grid.pixel))
    )
    where = np.flatnonzero((inside > 0) & (eroded == 0)) if rim else np.flatnonzero(eroded)
    if len(where) == 0:
        where = np.flatnonzero(scene.part >= scene.part.max())
    index = where[rng.integers(len(where))]
    return float(scene.grid.x.flat[index]), float(scene.grid.y.flat[index])


def _blob(
    scene: Scene, rng: Rng, centre: tuple[float, float], radius: float, rough: float
) -> Floats:
    """Signed distance to an irregular patch: negative inside."""
    angle, aspect = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
    here = scene.grid.moved(angle=angle, dx=centre[0], dy=centre[1])
    distance = np.hypot(here.x, here.y / np.float32(aspect))
    edge = np.float32(radius) * (1 + np.float32(rough) * noise(rng, here.x, here.y, radius))
    return np.asarray(distance - edge, np.float32)


def _cover(scene: Scene, distance: Floats, soft: float = 1.0) -> Floats:
    """Coverage in [0, 1] of a signed distance, its edge `soft` pixels wide."""
    return np.clip(0.5 - distance / np.float32(soft * scene.grid.pixel), 0, 1)


def _stroke(scene: Scene, points: NDArray[np.floating], width: float) -> Floats:
    """Coverage in [0, 1] of a line `width` wide through points (n, 2), the scene's coordinates."""
    height, columns = scene.grid.shape
    pixels = points / scene.grid.pixel + np.array([(columns - 1) / 2, (height - 1) / 2])
    wide = width / scene.grid.pixel
    thickness = max(1, round(wide))
    canvas = np.zeros((height, columns), np.uint8)
    cv2.polylines(
        canvas, [np.rint(pixels * 16).astype(np.int32)], False, 255, thickness, cv2.LINE_AA, 4
    )
    covered: Floats = canvas.astype(np.float32) / np.float32(255)
    covered *= np.float32(min(wide / thickness, 1.0))
    return covered


def _walk(
    rng: Rng, start: tuple[float, float], length: float, turn: float, steps: int
) -> NDArray[np.floating]:
    """Points (steps + 1, 2) of a path about `start` that turns by about `turn` radians a step."""
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, turn, steps))
    moves = np.stack([np.cos(heading), np.sin(heading)], 1) * (length / steps)
    path = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])
    return np.asarray(path - path[steps // 2] + np.asarray(start))


def _recolour(scene: Scene, colour: Floats, weight: Floats, *, everywhere: bool = False) -> None:
    """Blend the thing, or `everywhere` also what is behind, towards a colour (3,) or (H, W, 3)."""
    w = weight[..., None]
    scene.albedo = np.clip(scene.albedo + (colour - scene.albedo) * w, 0, 1).astype(np.float32)
    if everywhere:
        scene.background = np.clip(scene.background + (colour - scene.background) * w, 0, 1).astype(
            np.float32
        )


def _local(scene: Scene, centre: tuple[float, float]) -> float:
    """Brightness of the thing near a point, in [0, 1]."""
    distance = np.hypot(scene.grid.x - centre[0], scene.grid.y - centre[1])
    return float(scene.albedo[distance < 0.06].mean())


def _unlike(scene: Scene, rng: Rng, centre: tuple[float, float], gap: float) -> Floats:
    """A colour at least `gap` brighter or darker than the thing near a point, shape (3,)."""
    here = _local(scene, centre)
    ink = any_colour(rng, 0.05, 0.95)
    if abs(float(ink.mean()) - here) < gap:
        shade = here - gap if (here > 0.5 or (here > gap and rng.random() < 0.5)) else here + gap
        ink = ink + np.float32(shade - ink.mean())
    return np.clip(ink, 0, 1).astype(np.float32)


def scratch(scene: Scene, rng: Rng, strength: float) -> Scene:
    """One to three fine, nearly straight lines, bright or dark."""
    out = scene.copy()
    centre = _spot(scene, rng)
    ink = _unlike(scene, rng, centre, 0.3 * strength)
    width = rng.uniform(0.008, 0.016) * strength
    path = _walk(rng, centre, rng.uniform(0.15, 0.5) * strength, 0.04, 8)
    weight = _stroke(scene, path, width)
    for _ in range(int(rng.integers(0, 3))):
        near = (
            path
            + rng.normal(0, 0.02, 2)
            + np.outer(np.linspace(-1, 1, len(path)), rng.normal(0, 0.01, 2))
        )
        weight = np.maximum(weight, _stroke(scene, near, width))
    _recolour(out, ink, weight * np.float32(min(rng.uniform(0.6, 1.0) * strength, 1)))
    out.height = out.height - np.float32(0.006) * weight
    return out


def dent(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A smooth hollow or bump."""
    out = scene.copy()
    centre, radius = _spot(scene, rng), rng.uniform(0.05, 0.11) * strength
    distance = _blob(scene, rng, centre, radius, 0.15) + np.float32(radius)
    depth = radius * rng.uniform(0.5, 1.0) * strength * rng.choice([-1.0, -1.0, 1.0])
    hollow = np.exp(-((distance / np.float32(0.7 * radius)) ** 2))
    out.height = out.height + np.float32(depth) * hollow
    _recolour(out, np.zeros(3, np.float32), np.float32(0.12) * hollow)
    return out


def stain(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A dried liquid: a tinted patch, darker at its edge."""
    out = scene.copy()
    centre, radius = _spot(scene, rng), rng.uniform(0.05, 0.14) * strength
    distance = _blob(scene, rng, centre, radius, 0.3)
    patch = smooth(-distance, 0, 0.02)
    ring = patch * np.exp(-np.abs(distance + np.float32(0.01)) / np.float32(0.015))
    ink = _unlike(scene, rng, centre, 0.3 * strength)
    weight = np.float32(rng.uniform(0.35, 0.7)) * patch + np.float32(0.3) * ring
    _recolour(out, ink, np.clip(weight, 0, 1))
    return out


def hole(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A puncture through which the dark or the background shows, with a raised or frayed rim."""
    out = scene.copy()
    centre, radius = _spot(scene, rng), rng.uniform(0.025, 0.065) * strength
    distance = _blob(scene, rng, centre, radius, 0.2)
    opening = _cover(scene, distance)
    rim = np.exp(-((distance / np.float32(0.3 * radius)) ** 2))
    out.height = out.height + np.float32(0.15 * radius) * rim
    if scene.shadow > 0 and rng.random() < 0.4:
        out.part = out.part * (1 - opening)
    else:
        depth = 0.03 if _local(scene, centre) > 0.25 else 0.6
        _recolour(out, np.full(3, depth, np.float32), opening)
    return out


def crack(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A jagged branching line."""
    out = scene.copy()
    centre, width = _spot(scene, rng), rng.uniform(0.008, 0.016) * strength
    path = _walk(rng, centre, rng.uniform(0.25, 0.6) * strength, 0.5, 14)
    weight = _stroke(scene, path, width)
    for _ in range(int(rng.integers(0, 3))):
        fork = path[rng.integers(2, len(path) - 2)]
        branch = _walk(rng, (0.0, 0.0), rng.uniform(0.08, 0.2), 0.5, 6)
        weight = np.maximum(weight, _stroke(scene, branch - branch[0] + fork, 0.8 * width))
    shade = 0.04 if _local(scene, centre) > 0.22 else 0.5 + 0.2 * rng.random()
    _recolour(out, np.full(3, shade, np.float32), weight * np.float32(rng.uniform(0.75, 1)))
    out.height = out.height - np.float32(0.008) * weight
    return out


def discoloration(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A wide patch, soft at its edge, of another tint: heat, sun or chemicals."""
    out = scene.copy()
    centre, radius = _spot(scene, rng), rng.uniform(0.1, 0.2) * strength
    patch = smooth(-_blob(scene, rng, centre, radius, 0.2), -0.02, 0.6 * radius)
    shift = rng.uniform(-1, 1, 3) * 0.1 + rng.choice([-0.22, 0.22])
    if _local(scene, centre) > 0.75 or _local(scene, centre) < 0.25:
        shift = np.abs(shift) * (-1 if _local(scene, centre) > 0.5 else 1)
    _recolour(out, scene.albedo + np.float32(strength) * shift.astype(np.float32), patch)
    return out


def missing_part(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A piece broken out of the outline."""
    out = scene.copy()
    centre, radius = _spot(scene, rng, rim=True), rng.uniform(0.06, 0.13) * strength
    distance = _blob(scene, rng, centre, radius, 0.25)
    out.part = out.part * (1 - _cover(scene, distance))
    out.height = out.height * np.clip(distance / np.float32(0.02), 0, 1)
    return out


def bend(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A piece pushed aside: outline and pattern are displaced, and a fold catches the light."""
    out = scene.copy()
    centre, radius = _spot(scene, rng, rim=scene.shadow > 0), rng.uniform(0.1, 0.18) * strength
    push = rng.uniform(0.05, 0.09) * strength
    angle = rng.uniform(0, 2 * np.pi)
    distance2 = (scene.grid.x - np.float32(centre[0])) ** 2 + (
        scene.grid.y - np.float32(centre[1])
    ) ** 2
    bump = np.exp(-distance2 / np.float32(radius**2))
    rows, columns = np.indices(scene.grid.shape, dtype=np.float32)
    reach = np.float32(push / scene.grid.pixel) * bump
    across, down = (
        columns + reach * np.float32(np.cos(angle)),
        rows + reach * np.float32(np.sin(angle)),
    )

    def pushed(picture: Floats) -> Floats:
        moved = cv2.remap(
            picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        return np.asarray(moved, np.float32)

    out.albedo, out.part, out.height = pushed(out.albedo), pushed(out.part), pushed(out.height)
    turned = scene.grid.moved(angle=angle, dx=centre[0], dy=centre[1])
    fold = np.exp(-((turned.x / np.float32(0.035)) ** 2)) * bump
    out.height = out.height + np.float32(0.04 * strength * rng.uniform(0.6, 1)) * fold
    return out


def print_error(scene: Scene, rng: Rng, strength: float) -> Scene:
    """Ink where none belongs: a bar pattern, or a ghost copied from elsewhere on the thing."""
    out = scene.copy()
    centre = _spot(scene, rng)
    here = scene.grid.moved(angle=rng.uniform(0, np.pi), dx=centre[0], dy=centre[1])
    half_x, half_y = rng.uniform(0.06, 0.14) * strength, rng.uniform(0.03, 0.07) * strength
    inside = np.maximum(np.abs(here.x) - np.float32(half_x), np.abs(here.y) - np.float32(half_y))
    area = _cover(scene, np.asarray(inside, np.float32))
    if rng.random() < 0.35 * (strength < 1.3):
        shift = rng.uniform(0.08, 0.2, 2) * rng.choice([-1, 1], 2) / scene.grid.pixel
        ghost = np.roll(scene.albedo, np.rint(shift).astype(int).tolist(), (0, 1))
        _recolour(out, ghost, area)
        return out
    pitch = rng.uniform(0.025, 0.05)
    table = rng.random((16, 16)) < 0.55
    cell = table[
        np.mod(np.floor(here.x / np.float32(pitch)).astype(int), 16),
        np.mod(np.floor(here.y / np.float32(pitch)).astype(int), 16),
    ]
    _recolour(
        out,
        _unlike(scene, rng, centre, 0.35 * strength),
        area * cell * np.float32(rng.uniform(0.6, 1)),
    )
    return out


def thread(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A hair or yarn lying on the thing, curved, with a fine shadow."""
    out = scene.copy()
    centre, width = _spot(scene, rng), rng.uniform(0.008, 0.018) * strength
    path = _walk(rng, centre, rng.uniform(0.3, 0.8) * strength, rng.uniform(0.1, 0.3), 24)
    ink = _unlike(scene, rng, centre, 0.3 * strength)
    shade = _stroke(scene, path + np.array([0.008, 0.008]), width)
    _recolour(out, np.zeros(3, np.float32), np.float32(0.4) * shade, everywhere=True)
    weight = _stroke(scene, path, width)
    _recolour(out, ink, weight, everywhere=True)
    return out


def cut(scene: Scene, rng: Rng, strength: float) -> Scene:
    """A straight open slit, widest in the middle, dark inside, with one lifted lip."""
    out = scene.copy()
    centre, length = _spot(scene, rng), rng.uniform(0.07, 0.2) * strength
    here = scene.grid.moved(angle=rng.uniform(0, np.pi), dx=centre[0], dy=centre[1])
    half = (
        rng.uniform(0.012, 0.024) * strength * np.clip(1 - (here.x / np.float32(length)) ** 2, 0, 1)
    )
    half = half - np.where(np.abs(here.x) > length, np.float32(1), np.float32(0))
    distance = np.asarray(np.abs(here.y) - half, np.float32)
    shade = 0.03 if _local(scene, centre) > 0.22 else 0.5
    _recolour(out, np.full(3, shade, np.float32), _cover(scene, distance))
    lip = np.exp(-(((here.y - half - np.float32(0.012)) / np.float32(0.012)) ** 2))
    out.height = out.height + np.float32(0.012) * lip * (np.abs(here.x) < length)
    return out


def contamination(scene: Scene, rng: Rng, strength: float) -> Scene:
    """Chips, dust or droplets of another material in a cluster."""
    out = scene.copy()
    centre = _spot(scene, rng)
    ink = _unlike(scene, rng, centre, 0.3 * strength)
    for _ in range(int(rng.integers(2, 8))):
        spot = (centre[0] + rng.normal(0, 0.05), centre[1] + rng.normal(0, 0.05))
        radius = rng.uniform(0.012, 0.035) * strength
        distance = _blob(scene, rng, spot, radius, 0.3)
        speck = _cover(scene, distance)
        _recolour(
            out, np.clip(ink * np.float32(rng.uniform(0.8, 1.2)), 0, 1), speck, everywhere=True
        )
        out.height = out.height + np.float32(0.4 * radius) * speck
    return out
