"""Surfaces that fill the picture.

Each function paints one family. `product` decides what the product looks like (colour, scale,
direction) and draws the same values for each of its images; `instance` decides what differs from
shot to shot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .scene import Scene
from .texture import (
    Floats,
    Grid,
    Rng,
    any_colour,
    blend,
    cells,
    colour,
    fractal,
    grain,
    lines,
    mix,
    noise,
    rgb,
    smooth,
    wave,
)


@dataclass
class Coat:
    """Colour (H, W, 3), relief (H, W) in short sides, and gloss in [0, 1] of a surface."""

    albedo: Floats
    height: Floats
    gloss: float = 0.0


Painter = Callable[[Rng, Rng, Grid], Coat]


def surface(painter: Painter, product: Rng, instance: Rng, grid: Grid) -> Scene:
    """Lay the surface before the camera, shifted and slightly turned from shot to shot."""
    angle = product.choice([0.0, np.pi / 2, product.uniform(0, np.pi)]) + instance.normal(0, 0.03)
    dx, dy = instance.uniform(-5, 5, 2)
    coat = painter(product, instance, grid.moved(angle=angle, dx=dx, dy=dy))
    background = np.full((*grid.shape, 3), 0.04, np.float32)
    part = np.ones(grid.shape, np.float32)
    return Scene(grid, coat.albedo, coat.height, coat.gloss, part, background)


def _flat(grid: Grid, base: Floats) -> Floats:
    return np.broadcast_to(base, (*grid.shape, 3))


def _tone(base: Floats, factor: Floats) -> Floats:
    """The base colour, shape (3,), times a factor per pixel, shape (H, W)."""
    return np.clip(base * factor[..., None], 0, 1).astype(np.float32)


def steel(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Brushed sheet."""
    base = colour(product, (0.6, 0.61, 0.63), 0.07)
    width, contrast = product.uniform(0.006, 0.02), product.uniform(0.04, 0.12)
    streaks = noise(instance, grid.x, grid.y, (1.5, width))
    streaks = streaks + 0.6 * noise(instance, grid.x, grid.y, (0.5, width / 2))
    return Coat(_tone(base, 1 + contrast * streaks), 0.0006 * streaks, 0.3)


def aluminium(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Cast or blasted metal."""
    base = colour(product, (0.66, 0.67, 0.68), 0.07)
    cell = product.uniform(0.015, 0.04)
    rough = fractal(instance, grid, cell, 2)
    return Coat(
        _tone(base, 1 + 0.04 * grain(instance, grid)),
        product.uniform(0.001, 0.003) * rough,
        0.3,
    )


def painted_panel(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Lacquer with orange peel, sometimes metallic."""
    base = any_colour(product, 0.2, 0.9)
    peel = noise(instance, grid.x, grid.y, product.uniform(0.03, 0.08))
    flakes = product.uniform(0, 0.06) * grain(instance, grid)
    return Coat(_tone(base, 1 + flakes), product.uniform(0.0003, 0.0015) * peel, 0.5)


def plastic(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Moulded plastic with an etched grain."""
    base = any_colour(product, 0.1, 0.9)
    etched = noise(instance, grid.x, grid.y, product.uniform(0.012, 0.03))
    return Coat(_flat(grid, base), product.uniform(0.0005, 0.003) * etched, 0.25)


def rubber(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Dark mat with ridges or studs."""
    base = colour(product, (0.17, 0.17, 0.18), 0.05)
    pitch, crossed = product.uniform(0.07, 0.16), product.random() < 0.6
    relief = smooth(wave(grid.x / pitch), -0.2, 0.4)
    if crossed:
        relief = relief * smooth(wave(grid.y / pitch), -0.2, 0.4)
    rough = 0.002 * noise(instance, grid.x, grid.y, 0.015)
    return Coat(_tone(base, 0.7 + 0.5 * relief), 0.012 * relief + rough, 0.2)


def fabric(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Plain weave of two yarns."""
    warp, weft = any_colour(product, 0.2, 0.9), any_colour(product, 0.2, 0.9)
    weft = weft if product.random() < 0.4 else warp * np.float32(0.9)
    pitch = product.uniform(0.03, 0.07)
    wobble = 0.08 * noise(instance, grid.x, grid.y, 0.15)
    u, v = grid.x / pitch + wobble, grid.y / pitch + wobble
    over = wave(u / 2) * wave(v / 2)
    yarn = mix(np.abs(wave(u / 2)), np.abs(wave(v / 2)), smooth(over, -0.1, 0.1))
    uneven = 1 + 0.08 * noise(instance, grid.x, grid.y, (0.3, pitch))
    albedo = blend(warp, weft, smooth(over, -0.1, 0.1)) * ((0.55 + 0.45 * yarn) * uneven)[..., None]
    return Coat(np.clip(albedo, 0, 1), 0.1 * np.float32(pitch) * yarn)


def denim(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Twill: diagonal ribs with pale weft showing between them."""
    base = colour(product, (0.25, 0.33, 0.5), 0.08)
    pitch, ratio = product.uniform(0.03, 0.06), product.uniform(0.4, 0.8)
    wobble = 0.1 * noise(instance, grid.x, grid.y, 0.1)
    rib = smooth(wave(grid.x / pitch + ratio * grid.y / pitch + wobble), -0.6, 0.8)
    slub = noise(instance, grid.x, grid.y, (0.02, 0.25))
    tone = 0.75 + 0.35 * rib + 0.1 * slub
    return Coat(_tone(base, tone), 0.12 * np.float32(pitch) * rib)


def knit(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Columns of V-shaped loops."""
    base = any_colour(product, 0.3, 0.85)
    pitch = product.uniform(0.06, 0.11)
    wobble = 0.05 * noise(instance, grid.x, grid.y, 0.2)
    column = grid.x / pitch + wobble
    slant = np.abs(column - np.round(column))
    loop = wave(grid.y / pitch * 1.3 + slant * 1.2 + wobble)
    shape = smooth(loop, -0.9, 0.5) * smooth(slant, 0.0, 0.12)
    fuzz = 0.05 * grain(instance, grid)
    return Coat(_tone(base, 0.5 + 0.5 * shape + fuzz), 0.1 * np.float32(pitch) * shape)


def felt(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Matted fibres."""
    base = any_colour(product, 0.2, 0.8)
    a = noise(instance, grid.x + grid.y, grid.x - grid.y, (0.12, 0.012))
    b = noise(instance, grid.x, grid.y, (0.014, 0.13))
    fibres = np.maximum(a, b)
    depth = product.uniform(0.06, 0.16)
    return Coat(_tone(base, 1 + depth * (fibres - 0.5)), 0.001 * fibres)


def wood(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Planed board with growth rings and pores."""
    pale = colour(product, (0.72, 0.53, 0.34), 0.08)
    dark = pale * np.float32(product.uniform(0.55, 0.8))
    pitch, bend = product.uniform(0.05, 0.14), product.uniform(0.3, 1.0)
    drift = bend * noise(instance, grid.x, grid.y, (1.2, 0.35))
    ring = smooth(wave(grid.y / pitch + drift), -0.8, 1.0)
    pores = noise(instance, grid.x, grid.y, (0.15, 0.008))
    tone = 1 + 0.07 * pores + 0.05 * noise(instance, grid.x, grid.y, (0.8, 0.05))
    return Coat(np.clip(blend(pale, dark, ring) * tone[..., None], 0, 1), 0.0005 * pores, 0.1)


def concrete(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Grey cement with clouds, sand and pores."""
    base = colour(product, (0.55, 0.54, 0.52), 0.08)
    clouds = fractal(instance, grid, product.uniform(0.2, 0.5), 3)
    sand = noise(instance, grid.x, grid.y, 0.012)
    pores = smooth(noise(instance, grid.x, grid.y, 0.03), 1.9, 2.4) * product.uniform(0.2, 0.6)
    tone = 1 + 0.05 * clouds + 0.06 * sand - 0.5 * pores
    return Coat(_tone(base, tone), 0.0012 * sand - 0.004 * pores)


def granite(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Polished stone of differently coloured crystals."""
    base, spread = any_colour(product, 0.35, 0.75), product.uniform(0.12, 0.3)
    stone = cells(instance, grid, product.uniform(0.025, 0.06))
    crystals = stone.values(instance) - 0.5
    tone = 1 + 2 * spread * crystals + 0.06 * grain(instance, grid)
    warm = blend(base, base * rgb(1.1, 0.95, 0.85), stone.values(instance))
    return Coat(np.clip(warm * tone[..., None], 0, 1), np.zeros(grid.shape, np.float32), 0.3)


def marble(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Polished stone with veins."""
    base = colour(product, (0.82, 0.8, 0.77), 0.1)
    vein = base * np.float32(product.uniform(0.5, 0.8))
    pitch, twist = product.uniform(0.25, 0.6), product.uniform(0.5, 1.2)
    turbulence = fractal(instance, grid, 0.45, 4)
    ridge = 1 - np.abs(wave(grid.x / pitch + twist * turbulence * 0.4))
    clouds = 1 + 0.03 * fractal(instance, grid, 0.3, 2)
    albedo = blend(base, vein, smooth(ridge, 0.5, 1.1)) * clouds[..., None]
    return Coat(np.clip(albedo, 0, 1), np.zeros(grid.shape, np.float32), 0.3)


def terrazzo(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Stone chips in a ground."""
    ground, first, second = (any_colour(product, 0.3, 0.9) for _ in range(3))
    stone = cells(instance, grid, product.uniform(0.07, 0.14))
    chip = smooth(stone.edge, 0.004, 0.014) * (stone.values(instance) > product.uniform(0.2, 0.5))
    hue = blend(first, second, (stone.values(instance) > 0.5).astype(np.float32))
    albedo = _tone(ground, 1 + 0.03 * grain(instance, grid))
    return Coat(albedo + (hue - albedo) * chip[..., None], np.zeros(grid.shape, np.float32), 0.2)


def paper(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Uncoated sheet with faint flocculation."""
    base = colour(product, (0.85, 0.84, 0.8), 0.07)
    clouds = noise(instance, grid.x, grid.y, product.uniform(0.02, 0.06))
    fibres = noise(instance, grid.x, grid.y, (0.06, 0.01))
    return Coat(_tone(base, 1 + 0.012 * clouds + 0.012 * fibres), 0.0004 * fibres)


def cardboard(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Brown board; the flutes show through."""
    base = colour(product, (0.66, 0.52, 0.36), 0.06)
    pitch = product.uniform(0.05, 0.12)
    flute = wave(grid.x / pitch)
    fibres = noise(instance, grid.x, grid.y, (0.08, 0.012))
    clouds = noise(instance, grid.x, grid.y, 0.05)
    tone = 1 + 0.03 * flute + 0.04 * fibres + 0.02 * clouds
    return Coat(_tone(base, tone), product.uniform(0.0005, 0.003) * flute)


def foam(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Open-celled sponge."""
    base = any_colour(product, 0.4, 0.9)
    sponge = cells(instance, grid, product.uniform(0.03, 0.07))
    wall = 1 - smooth(sponge.edge, 0.0, 0.02)
    depth = sponge.values(instance) * product.uniform(0.2, 0.6)
    return Coat(_tone(base, 1 - (1 - wall) * depth), 0.006 * wall)


def mesh(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Wire grid over a dark ground."""
    ground, wire = colour(product, (0.12, 0.12, 0.13), 0.05), any_colour(product, 0.5, 0.85)
    pitch, width = product.uniform(0.08, 0.18), product.uniform(0.22, 0.4)
    wobble = 0.03 * noise(instance, grid.x, grid.y, 0.3)
    u, v = grid.x / pitch + wobble, grid.y / pitch + wobble
    soft = grid.pixel / pitch
    net = np.maximum(lines(u, width, soft), lines(v, width, soft))
    return Coat(blend(_flat(grid, ground), _flat(grid, wire), net), 0.02 * net, 0.3)


def solar_cell(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Cell with fingers and busbars, in colour or as a grey luminescence picture."""
    glowing = product.random() < 0.5
    base = (
        any_colour(product, 0.45, 0.7).mean() * np.ones(3)
        if glowing
        else np.array([0.12, 0.17, 0.33])
    )
    base = np.clip(base + product.normal(0, 0.03), 0.05, 0.9).astype(np.float32)
    bar = base * np.float32(0.25) if glowing else rgb(0.7, 0.71, 0.72)
    bars, pitch = product.integers(2, 5), product.uniform(0.025, 0.05)
    finger = lines(grid.y / pitch, 0.25, grid.pixel / pitch) * product.uniform(0.1, 0.35)
    busbar = lines(grid.x * bars + 0.5, 0.05 * bars, grid.pixel * bars)
    clouds = fractal(instance, grid, 0.35, 3)
    crystals = product.choice([0.0, 0.15]) * (cells(instance, grid, 0.12).values(instance) - 0.5)
    tone = 1 + 0.07 * clouds + crystals + 0.02 * grain(instance, grid)
    silicon = blend(_tone(base, tone), _flat(grid, bar), finger)
    return Coat(blend(silicon, _flat(grid, bar), busbar), 0.001 * busbar, 0.1)


def wallpaper(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Printed repeat: stripes, dots or rings in two inks."""
    ground, ink = any_colour(product, 0.6, 0.95), any_colour(product, 0.15, 0.7)
    pitch, style, fill = product.uniform(0.1, 0.22), product.integers(3), product.uniform(0.2, 0.36)
    u, v = grid.x / pitch, grid.y / pitch
    soft = float(grid.pixel / pitch)
    radius = np.hypot(u - np.round(u), v - np.round(v))
    if style == 0:
        print_ = lines(u, fill * 1.3, soft)
    elif style == 1:
        print_ = smooth(fill - radius, -soft / 2, soft / 2)
    else:
        print_ = smooth(0.1 - np.abs(radius - fill), -soft / 2, soft / 2)
    tone = 1 + 0.015 * noise(instance, grid.x, grid.y, 0.02)
    albedo = blend(_flat(grid, ground), _flat(grid, ink), print_) * tone[..., None]
    return Coat(albedo.astype(np.float32), 0.0003 * noise(instance, grid.x, grid.y, 0.03))


def brick(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Courses of small bricks with mortar."""
    base, mortar = (
        colour(product, (0.58, 0.33, 0.26), 0.07),
        colour(product, (0.7, 0.68, 0.64), 0.05),
    )
    height = product.uniform(0.12, 0.22)
    row = np.floor(grid.y / np.float32(height))
    u, v = grid.x / np.float32(2 * height) + 0.5 * np.mod(row, 2), grid.y / np.float32(height)
    soft = grid.pixel / height
    joint = np.maximum(lines(u, 0.07, soft / 2), lines(v, 0.14, soft))
    number = (np.mod(row, 64) * 64 + np.mod(np.floor(u), 64)).astype(np.int32)
    tone = 0.9 + 0.2 * instance.random(4096, dtype=np.float32)[number]
    rough = noise(instance, grid.x, grid.y, 0.02)
    albedo = blend(_tone(base, tone + 0.05 * rough), _flat(grid, mortar), joint)
    return Coat(albedo, 0.002 * rough - 0.012 * joint)


def leather(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Grained hide: soft pebbles between creases."""
    base = colour(product, (0.42, 0.27, 0.18), 0.1)
    hide = cells(instance, grid, product.uniform(0.03, 0.06))
    pebble = smooth(hide.edge, 0.0, 0.02)
    mottle = 0.05 * fractal(instance, grid, 0.25, 2)
    tone = 0.82 + 0.2 * pebble + mottle
    return Coat(_tone(base, tone), product.uniform(0.002, 0.005) * pebble, 0.3)


def tile(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Glazed tiles with grout lines."""
    glaze, grout = any_colour(product, 0.4, 0.9), colour(product, (0.6, 0.59, 0.57), 0.1)
    pitch = product.uniform(0.25, 0.5)
    soft = grid.pixel / pitch
    width = product.uniform(0.05, 0.1)
    joint = np.maximum(lines(grid.x / pitch, width, soft), lines(grid.y / pitch, width, soft))
    speckle = 1 + product.uniform(0, 0.08) * noise(instance, grid.x, grid.y, 0.02)
    albedo = blend(_tone(glaze, speckle), _flat(grid, grout), joint)
    return Coat(albedo, -0.01 * joint, 0.5)


def carpet(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Loop pile in rows."""
    base = any_colour(product, 0.25, 0.7)
    pitch = product.uniform(0.03, 0.05)
    wobble = 0.25 * noise(instance, grid.x, grid.y, 0.08)
    loops = wave(grid.x / pitch + wobble) * wave(grid.y / pitch - wobble)
    wool = noise(instance, grid.x, grid.y, 0.015)
    tone = 0.85 + 0.18 * loops + 0.12 * wool
    return Coat(_tone(base, tone), 0.1 * np.float32(pitch) * loops)


def cork(product: Rng, instance: Rng, grid: Grid) -> Coat:
    """Pressed granules with dark specks."""
    base = colour(product, (0.68, 0.5, 0.32), 0.06)
    pressed = cells(instance, grid, product.uniform(0.04, 0.08))
    specks = smooth(noise(instance, grid.x, grid.y, 0.02), 1.2, 2.0)
    seam = 1 - smooth(pressed.edge, 0.0, 0.01)
    tone = 0.85 + 0.3 * pressed.values(instance) - 0.25 * specks - 0.12 * seam
    return Coat(_tone(base, tone + 0.03 * grain(instance, grid)), -0.001 * seam)
