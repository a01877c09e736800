"""Simple objects on a background.

Each function builds one family out of shapes and returns its gloss. A body's coordinates run from
-1 to 1 along its longest side.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .body import Body, along, around, bars, box, circle, contrasting, lobed, polygon
from .scene import Scene
from .texture import Floats, Grid, Rng, any_colour, blend, colour, mix, noise, rgb, smooth, wave

Builder = Callable[[Rng, Body], float]
FREE = np.pi  # radians: the object lies as it falls
PLACED = 0.06  # radians: a fixture holds the object


def thing(builder: Builder, turn: float, product: Rng, instance: Rng, grid: Grid) -> Scene:
    """Place the object on its background, moved and turned from shot to shot by up to `turn`."""
    background = _background(product, instance, grid)
    scale = product.uniform(0.33, 0.46) * instance.normal(1, 0.015)
    base = product.choice([0.0, np.pi / 2]) if turn < 1 else 0.0
    angle = base + instance.uniform(-turn, turn)
    dx, dy = instance.normal(0, 0.015, 2)
    shadow = product.uniform(0.1, 0.5)
    body = Body(grid.moved(angle=angle, dx=dx, dy=dy, scale=scale), instance)
    gloss = builder(product, body)
    rough = 1 + np.float32(0.025) * noise(instance, body.grid.x, body.grid.y, 0.06)
    albedo = np.clip(body.albedo * rough[..., None], 0, 1).astype(np.float32)
    height = (body.height * np.float32(scale)).astype(np.float32)
    return Scene(grid, albedo, height, gloss, body.part, background, shadow)


def _background(product: Rng, instance: Rng, grid: Grid) -> Floats:
    grey, painted = product.uniform(0.05, 0.95), product.random() < 0.4
    base = any_colour(product, 0.1, 0.9) if painted else colour(product, (grey, grey, grey), 0.03)
    kind, strength = product.integers(3), product.uniform(0.01, 0.05)
    cell = (0.02, 0.02) if kind == 0 else ((0.6, 0.02) if kind == 1 else (0.3, 0.3))
    texture = noise(instance, grid.x, grid.y, cell)
    ground: Floats = base * (1 + np.float32(strength) * texture)[..., None]
    return np.clip(ground, 0, 1).astype(np.float32)


def _metal(rng: Rng) -> Floats:
    shades = ((0.62, 0.63, 0.65), (0.72, 0.6, 0.35), (0.4, 0.4, 0.42), (0.7, 0.45, 0.33))
    return colour(rng, shades[rng.integers(len(shades))], 0.06)


def _round(y: Floats, half: float) -> Floats:
    """Relief of a lying cylinder of radius `half` about y = 0."""
    return np.sqrt(np.clip(np.float32(half**2) - y * y, 0, None))


def nut(product: Rng, body: Body) -> float:
    """Hexagon with a threaded bore."""
    metal, bore = _metal(product), product.uniform(0.38, 0.52)
    x, y = body.grid.x, body.grid.y
    body.add(polygon(x, y, 6, 0.85), metal, rise=0.15, bevel=0.1)
    body.paint(circle(x, y, bore + 0.1), metal * np.float32(0.75))
    body.cut(circle(x, y, bore))
    return 0.5


def washer(product: Rng, body: Body) -> float:
    """Flat ring, plain or toothed."""
    metal, bore, toothed = _metal(product), product.uniform(0.4, 0.6), product.random() < 0.3
    x, y = body.grid.x, body.grid.y
    outline = lobed(x, y, 0.93, 0.06, 12, 0.5) if toothed else circle(x, y, 0.95)
    body.add(outline, metal, rise=0.06)
    body.cut(circle(x, y, bore))
    return 0.5


def pill(product: Rng, body: Body) -> float:
    """Domed tablet with a score line or an embossed mark."""
    base, aspect = any_colour(product, 0.6, 0.95), product.choice([1.0, 0.6, 0.8])
    x, y = body.grid.x, body.grid.y
    outline = box(x, y, 0.95, 0.95 * aspect, 0.9 * aspect)
    body.add(outline, base, rise=0.12, bevel=0.4)
    mark = product.integers(3)
    if mark == 0:
        body.emboss(box(x, y, 0.04, 0.7 * aspect), -0.05, 0.04)
    elif mark == 1:
        bars(body, product, (-0.4, -0.2, 0.4, 0.2), 1, base * np.float32(0.5))
    return 0.15


def coin(product: Rng, body: Body) -> float:
    """Disc with a rim and a struck relief that is the same on each."""
    metal, cell = _metal(product), product.uniform(0.12, 0.25)
    x, y = body.grid.x, body.grid.y
    body.add(circle(x, y, 0.95), metal, rise=0.08)
    struck = smooth(noise(product, x, y, cell), -0.2, 0.6)
    body.height += np.float32(0.05) * struck * body.cover(circle(x, y, 0.7))
    body.emboss(circle(x, y, 0.82), -0.05, 0.04)
    dots_x, dots_y = around(x, y, 24, 0.76)
    body.emboss(circle(dots_x, dots_y, 0.05), 0.04, 0.04)
    return 0.5


def button(product: Rng, body: Body) -> float:
    """Sewing button with two or four holes."""
    base, holes, well = (
        any_colour(product, 0.15, 0.9),
        product.choice([2, 4]),
        product.uniform(0.5, 0.7),
    )
    x, y = body.grid.x, body.grid.y
    body.add(circle(x, y, 0.95), base, rise=0.12, bevel=0.15)
    body.emboss(circle(x, y, well), -0.08, 0.1)
    hole_x, hole_y = around(x, y, int(holes), 0.25)
    body.cut(circle(hole_x, hole_y, 0.11))
    return 0.4


def bottle_cap(product: Rng, body: Body) -> float:
    """Crown cap from above with a printed emblem."""
    base, teeth = any_colour(product, 0.2, 0.85), int(product.integers(18, 24))
    ink, sides = contrasting(product, base), int(product.integers(3, 7))
    x, y = body.grid.x, body.grid.y
    body.add(lobed(x, y, 0.9, 0.05, teeth), base * np.float32(0.8), rise=0.1, bevel=0.15)
    body.add(circle(x, y, 0.74), base, rise=0.18, bevel=0.1)
    body.paint(np.abs(circle(x, y, 0.6)) - np.float32(0.03), ink)
    body.paint(polygon(x, y, sides, 0.28), ink)
    return 0.4


def chip(product: Rng, body: Body) -> float:
    """Integrated circuit: dark package, pins on two or four sides, lettering."""
    base, pins = colour(product, (0.16, 0.16, 0.17), 0.04), int(product.integers(4, 9))
    quad, height = product.random() < 0.5, product.uniform(0.45, 0.7)
    height = 0.7 if quad else height
    x, y, pitch = body.grid.x, body.grid.y, 1.3 / pins
    tin = rgb(0.75, 0.75, 0.77)
    body.add(box(along(x, pins, pitch), y, 0.25 * pitch, height + 0.22), tin, rise=0.03)
    if quad:
        body.add(box(x, along(y, pins, pitch), 0.95, 0.25 * pitch), tin, rise=0.03)
    half = 0.74
    body.add(box(x, y, half, height, 0.03), base, rise=0.1, bevel=0.06)
    body.emboss(
        circle(x + np.float32(half - 0.16), y - np.float32(height - 0.16), 0.07), -0.04, 0.03
    )
    rows = int(product.integers(1, 4))
    bars(body, product, (-0.5, -0.28, 0.55, 0.28), rows, rgb(0.62, 0.62, 0.6))
    return 0.15


def connector(product: Rng, body: Body) -> float:
    """Pin header in a plastic housing."""
    base, pins, rows = (
        any_colour(product, 0.12, 0.85),
        int(product.integers(4, 9)),
        int(product.integers(1, 3)),
    )
    x, y, pitch = body.grid.x, body.grid.y, 1.7 / pins
    half = 0.24 * rows + 0.12
    body.add(box(x, y, 0.97, half, 0.05), base, rise=0.12)
    body.emboss(box(x, y, 0.9, half - 0.08, 0.03), -0.08, 0.04)
    px, py = along(x, pins, pitch), along(y, rows, 0.42)
    body.paint(box(px, py, 0.32 * pitch, 0.14), base * np.float32(0.45))
    gold = rgb(0.82, 0.7, 0.35)
    body.add(box(px, py, 0.17 * pitch, 0.08), gold, rise=0.1, bevel=0.04)
    return 0.3


def fuse(product: Rng, body: Body) -> float:
    """Glass tube with metal caps and a wire."""
    x, y, half = body.grid.x, body.grid.y, product.uniform(0.2, 0.3)
    cap, glass = _metal(product), colour(product, (0.75, 0.78, 0.78), 0.06)
    body.add(box(x, y, 0.97, half, 0.03), glass)
    body.paint(box(x, y - np.float32(0.02) * wave(x * 2), 0.9, 0.03), rgb(0.3, 0.3, 0.3))
    body.paint(box(np.abs(x) - np.float32(0.8), y, 0.18, half), cap)
    body.height += _round(y, half) * body.part
    return 0.6


def bolt(product: Rng, body: Body) -> float:
    """Hexagon bolt from the side."""
    metal, pitch, half = _metal(product), product.uniform(0.07, 0.12), product.uniform(0.17, 0.24)
    start = product.uniform(-0.5, 0.1)
    x, y = body.grid.x, body.grid.y
    threaded = (x > start).astype(np.float32)
    flank = np.float32(0.025) * wave(x / np.float32(pitch)) * threaded
    body.add(box(x - np.float32(0.18), y + flank * np.sign(y), 0.8, half, 0.02), metal)
    body.height += _round(y, half) * body.part
    body.height += (
        np.float32(0.02) * wave(x / np.float32(pitch) + y * np.float32(0.6)) * threaded * body.part
    )
    body.add(box(x + np.float32(0.78), y, 0.2, 0.44, 0.04), metal, rise=0.12)
    body.emboss(box(x + np.float32(0.78), np.abs(y) - np.float32(0.33), 0.2, 0.1), -0.06, 0.05)
    return 0.5


def bearing(product: Rng, body: Body) -> float:
    """Two rings and the balls between them."""
    metal, balls = colour(product, (0.62, 0.63, 0.65), 0.06), int(product.integers(7, 13))
    x, y, bore = body.grid.x, body.grid.y, product.uniform(0.3, 0.4)
    body.add(circle(x, y, 0.96), metal, rise=0.1)
    body.paint(np.abs(circle(x, y, 0.64)) - np.float32(0.15), metal * np.float32(0.3))
    body.emboss(np.abs(circle(x, y, 0.64)) - np.float32(0.15), -0.1)
    ball_x, ball_y = around(x, y, balls, 0.64)
    body.add(circle(ball_x, ball_y, 0.13), metal * np.float32(1.1), rise=0.14, bevel=0.13)
    body.cut(circle(x, y, bore))
    return 0.6


def bracket(product: Rng, body: Body) -> float:
    """Sheet-metal plate with holes and a slot."""
    base, half = _metal(product), product.uniform(0.4, 0.8)
    x, y, hole = body.grid.x, body.grid.y, product.uniform(0.08, 0.14)
    body.add(box(x, y, 0.95, half, product.uniform(0.05, 0.3)), base, rise=0.06)
    body.cut(circle(np.abs(x) - np.float32(0.7), np.abs(y) - np.float32(half - 0.2), hole))
    if product.random() < 0.6:
        body.cut(box(x, y, product.uniform(0.2, 0.4), 0.09, 0.09))
    if product.random() < 0.5:
        body.emboss(box(np.abs(x) - np.float32(0.5), y, 0.03, half), 0.05, 0.03)
    return 0.5


def battery(product: Rng, body: Body) -> float:
    """Round cell from the side with a printed sleeve."""
    first, half = any_colour(product, 0.15, 0.8), product.uniform(0.25, 0.38)
    second, split = contrasting(product, first), product.uniform(-0.2, 0.5)
    x, y = body.grid.x, body.grid.y
    body.add(box(x - np.float32(0.92), y, 0.07, 0.35 * half, 0.02), rgb(0.75, 0.75, 0.76))
    body.add(box(x + np.float32(0.06), y, 0.9, half, 0.04), first)
    body.paint(box(x - np.float32(split + 0.35), y, 0.35, half), second)
    bars(body, product, (-0.7, -0.4 * half, 0.3, 0.4 * half), 1, contrasting(product, first))
    body.height += _round(y, half) * body.part
    return 0.5


def label(product: Rng, body: Body) -> float:
    """Sticker with lettering, a frame and a bar code."""
    base, half = any_colour(product, 0.7, 0.97), product.uniform(0.5, 0.8)
    ink = contrasting(product, base)
    x, y = body.grid.x, body.grid.y
    body.add(box(x, y, 0.97, half, 0.05), base, rise=0.01)
    if product.random() < 0.6:
        body.paint(np.abs(box(x, y, 0.9, half - 0.07)) - np.float32(0.02), ink)
    bars(body, product, (-0.75, -half + 0.2, 0.75, -0.05), int(product.integers(2, 4)), ink)
    stripes = product.random(48) < 0.5
    index = np.clip(((x + np.float32(0.7)) / np.float32(1.4 / 48)).astype(int), 0, 47)
    code = np.where(stripes[index], box(x, y - np.float32(half * 0.5), 0.7, half * 0.28), 1.0)
    body.paint(code.astype(np.float32), rgb(0.08, 0.08, 0.08))
    return 0.05


def casting(product: Rng, body: Body) -> float:
    """Turned or cast part with some radial symmetry."""
    base, folds = any_colour(product, 0.2, 0.8), int(product.integers(3, 9))
    x, y = body.grid.x, body.grid.y
    body.add(lobed(x, y, 0.85, product.uniform(0, 0.12), folds, product.random()), base, rise=0.1)
    for radius in np.sort(product.uniform(0.3, 0.8, 2))[::-1]:
        body.emboss(circle(x, y, float(radius)), product.choice([-0.08, 0.08]), 0.05)
        body.paint(circle(x, y, float(radius)), base * np.float32(product.uniform(0.7, 1.25)))
    hole_x, hole_y = around(x, y, folds, product.uniform(0.5, 0.7))
    if product.random() < 0.7:
        body.cut(circle(hole_x, hole_y, product.uniform(0.06, 0.12)))
    if product.random() < 0.6:
        body.cut(circle(x, y, product.uniform(0.1, 0.28)))
    return 0.4


def housing(product: Rng, body: Body) -> float:
    """Moulded part with insets, bosses and ribs."""
    base, half = any_colour(product, 0.15, 0.85), product.uniform(0.45, 0.9)
    x, y = body.grid.x, body.grid.y
    body.add(box(x, y, 0.95, half, product.uniform(0.03, 0.3)), base, rise=0.1)
    body.emboss(box(x, y, 0.8, half - 0.15, 0.05), -0.07, 0.04)
    for _ in range(int(product.integers(2, 6))):
        cx, cy = product.uniform(-0.7, 0.7), product.uniform(-half + 0.2, half - 0.2)
        wide, tall = product.uniform(0.06, 0.3, 2)
        shape = box(
            x - np.float32(cx), y - np.float32(cy), wide, tall, min(wide, tall) * product.random()
        )
        body.emboss(shape, product.choice([-0.07, 0.07]), 0.04)
        body.paint(shape, np.clip(base * np.float32(product.uniform(0.5, 1.5)), 0, 1))
    return 0.25


def zipper(product: Rng, body: Body) -> float:
    """Two interlocking rows of teeth on tape."""
    tape, tooth = any_colour(product, 0.1, 0.7), _metal(product)
    x, y, pitch = body.grid.x, body.grid.y, product.uniform(0.12, 0.2)
    woven = 1 + np.float32(0.12) * wave(x / np.float32(0.05)) * wave(y / np.float32(0.05))
    body.add(box(x, y, 1.2, 0.6), tape * woven[..., None])
    row = np.sign(y)
    centre = x / np.float32(pitch) + np.float32(0.25) * row
    offset = (centre - np.round(centre)) * np.float32(pitch)
    body.add(
        box(offset, np.abs(y) - np.float32(0.1), 0.28 * pitch, 0.14, 0.03),
        tooth,
        rise=0.08,
        bevel=0.04,
    )
    return 0.4


def cable(product: Rng, body: Body) -> float:
    """Cross-section: sheath, insulated cores, copper strands."""
    sheath, cores = any_colour(product, 0.15, 0.85), int(product.integers(2, 5))
    hues = np.stack([any_colour(product, 0.15, 0.85) for _ in range(cores)])
    x, y, filler = body.grid.x, body.grid.y, any_colour(product, 0.3, 0.9)
    body.add(circle(x, y, 0.95), sheath, rise=0.05)
    body.paint(circle(x, y, 0.82), filler)
    sector = np.arctan2(y, x) / np.float32(2 * np.pi) * cores
    core_x, core_y = around(x, y, cores, 0.44)
    radius = min(0.34, 0.44 * np.sin(np.pi / cores))
    body.paint(circle(core_x, core_y, radius), hues[np.mod(np.round(sector).astype(int), cores)])
    strands = 0.75 + 0.25 * wave(core_x / np.float32(0.08)) * wave(core_y / np.float32(0.08))
    copper = rgb(0.75, 0.46, 0.3) * strands[..., None].astype(np.float32)
    body.paint(circle(core_x, core_y, 0.68 * radius), copper)
    return 0.2


def resistor(product: Rng, body: Body) -> float:
    """Axial part with colour bands and wire leads."""
    base, half = colour(product, (0.76, 0.66, 0.5), 0.1), product.uniform(0.2, 0.28)
    x, y = body.grid.x, body.grid.y
    body.add(box(x, y, 1.0, 0.05), rgb(0.7, 0.7, 0.72), rise=0.05)
    body.add(box(x, y, 0.6, half * 0.85, half * 0.4), base)
    body.add(box(np.abs(x) - np.float32(0.48), y, 0.14, half, 0.1), base)
    for centre in (-0.48, -0.2, 0.02, 0.48):
        body.paint(box(x - np.float32(centre), y, 0.05, half), any_colour(product, 0.05, 0.8))
    body.height += _round(y, half) * body.part
    return 0.4


def biscuit(product: Rng, body: Body) -> float:
    """Baked square or disc with docker holes and browned edges."""
    base, square = colour(product, (0.78, 0.6, 0.36), 0.07), product.random() < 0.5
    count = int(product.integers(3, 6))
    x, y = body.grid.x, body.grid.y
    outline = lobed(x, y, 0.9, 0.03, 20) if not square else box(x, y, 0.9, 0.9, 0.12)
    crumb = noise(body.instance, x, y, 0.05)
    browned = blend(base, base * rgb(0.75, 0.62, 0.5), smooth(outline, -0.3, 0.05))
    body.add(outline, browned * (1 + np.float32(0.06) * crumb)[..., None], rise=0.1, bevel=0.1)
    body.height += np.float32(0.006) * crumb * body.part
    dots = circle(along(x, count, 1.3 / count), along(y, count, 1.3 / count), 0.06)
    body.paint(dots, base * np.float32(0.5))
    return 0.05


def key(product: Rng, body: Body) -> float:
    """Flat key: bow with a hole, blade with bitting."""
    metal = _metal(product)
    x, y = body.grid.x, body.grid.y
    depths = product.uniform(0.0, 0.12, 8)
    step = np.clip((x / np.float32(0.15) + np.float32(1.2)).astype(int), 0, 7)
    bitting = depths[step].astype(np.float32) * (x > -0.15)
    blade = np.maximum(
        box(x - np.float32(0.3), y, 0.68, 0.17, 0.03), y - np.float32(0.17) + bitting
    )
    body.add(blade, metal, rise=0.05)
    body.emboss(box(x - np.float32(0.3), y + np.float32(0.06), 0.66, 0.03), -0.04, 0.03)
    body.add(circle(x + np.float32(0.62), y, 0.36), metal, rise=0.05)
    body.cut(circle(x + np.float32(0.76), y, 0.1))
    return 0.5


def blister(product: Rng, body: Body) -> float:
    """Foil pack with tablets in domes."""
    foil, tablet = colour(product, (0.7, 0.7, 0.72), 0.06), any_colour(product, 0.4, 0.95)
    columns, rows = int(product.integers(3, 6)), int(product.integers(2, 4))
    x, y, pitch = body.grid.x, body.grid.y, 1.75 / columns
    half = min(0.5 * pitch * rows + 0.08, 0.97)
    body.add(box(x, y, 0.97, half, 0.08), foil, rise=0.03)
    px, py = along(x, columns, pitch), along(y, rows, pitch)
    body.add(circle(px, py, 0.42 * pitch), foil * np.float32(0.9), rise=0.13, bevel=0.2 * pitch)
    body.paint(circle(px, py, 0.3 * pitch), tablet)
    return 0.5


def gear(product: Rng, body: Body) -> float:
    """Spur gear with a hub and sometimes spokes."""
    base, teeth = _metal(product), int(product.integers(12, 22))
    x, y = body.grid.x, body.grid.y
    body.add(lobed(x, y, 0.88, 0.07, teeth, product.uniform(0.3, 1.0)), base, rise=0.1)
    body.emboss(circle(x, y, 0.7), -0.06, 0.05)
    if product.random() < 0.5:
        hole_x, hole_y = around(x, y, int(product.integers(4, 7)), 0.48)
        body.cut(circle(hole_x, hole_y, 0.14))
    body.add(circle(x, y, 0.3), base, rise=0.12)
    body.cut(circle(x, y, product.uniform(0.12, 0.18)))
    return 0.5


def screw(product: Rng, body: Body) -> float:
    """Wood screw from the side: countersunk head, tapering thread, point."""
    metal, pitch, half = _metal(product), product.uniform(0.1, 0.15), product.uniform(0.13, 0.18)
    x, y = body.grid.x, body.grid.y
    taper = np.clip(mix(1.25, 0.0, smooth(x, -1.2, 1.0)), 0, 1)
    threaded = smooth(x, -0.55, -0.45)
    flank = np.float32(0.045) * wave(x / np.float32(pitch) + y * np.float32(1.5)) * threaded
    shank = np.maximum(
        np.abs(y) - np.float32(half) * taper - flank * taper, np.abs(x) - np.float32(0.95)
    )
    body.add(shank, metal)
    body.height += _round(y, half) * body.part * (1 + np.float32(4) * flank)
    head = np.maximum(
        np.abs(y) + (x + np.float32(0.95)) * np.float32(0.9) - np.float32(0.42),
        -x - np.float32(0.95),
    )
    body.add(head.astype(np.float32), metal, rise=0.1, bevel=0.15)
    return 0.5


def capsule(product: Rng, body: Body) -> float:
    """Two-piece gelatine capsule with printing."""
    first, second = any_colour(product, 0.3, 0.9), any_colour(product, 0.3, 0.9)
    x, y, half = body.grid.x, body.grid.y, product.uniform(0.32, 0.42)
    body.add(box(x, y, 0.95, half, half), first)
    body.paint(np.maximum(box(x, y, 0.95, half, half), x), second)
    body.height += np.sqrt(np.clip(-box(x, y, 0.95, half, half), 0, None)) * np.float32(0.4)
    body.emboss(box(x - np.float32(0.5), y, 0.5, half), -0.02, 0.03)
    bars(body, product, (0.15, -0.12, 0.75, 0.12), 1, contrasting(product, first))
    return 0.5


def circuit_board(product: Rng, body: Body) -> float:
    """Patch of a board: traces, pads, vias and a few parts."""
    mask = colour(
        product, [(0.1, 0.36, 0.2), (0.1, 0.2, 0.42), (0.3, 0.1, 0.1)][product.integers(3)], 0.04
    )
    x, y, tin = body.grid.x, body.grid.y, rgb(0.75, 0.73, 0.66)
    body.add(box(x, y, 0.97, 0.97, 0.04), mask, rise=0.03)
    for _ in range(6):
        cx, cy, length = (
            product.uniform(-0.7, 0.7),
            product.uniform(-0.8, 0.8),
            product.uniform(0.2, 0.8),
        )
        flip = product.random() < 0.5
        u, v = (x, y) if flip else (y, x)
        trace = box(u - np.float32(cx), v - np.float32(cy), length, 0.025)
        on_board = np.maximum(trace, box(x, y, 0.92, 0.92))
        body.paint(on_board, mask * np.float32(1.5))
    for _ in range(int(product.integers(3, 6))):
        cx, cy = product.uniform(-0.7, 0.7, 2)
        wide, tall = product.uniform(0.08, 0.22, 2)
        px, py = x - np.float32(cx), y - np.float32(cy)
        body.add(box(px, py, wide + 0.08, 0.7 * tall), tin, rise=0.05)
        body.add(box(px, py, wide, tall), any_colour(product, 0.1, 0.6), rise=0.11)
    via = circle(np.abs(x) - np.float32(0.84), np.abs(y) - np.float32(0.84), 0.08)
    body.paint(via, tin)
    body.cut(circle(np.abs(x) - np.float32(0.84), np.abs(y) - np.float32(0.84), 0.04))
    return 0.3
