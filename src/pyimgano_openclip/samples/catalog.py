"""All families and defects, and the functions that generate images of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from ..checks import check_sides
from . import defects, objects, surfaces
from .objects import FREE, PLACED
from .scene import Camera, Scene
from .texture import Floats, Grid, Rng

_SURFACES: Mapping[str, surfaces.Painter] = MappingProxyType(
    {
        "steel": surfaces.steel,
        "aluminium": surfaces.aluminium,
        "painted panel": surfaces.painted_panel,
        "plastic": surfaces.plastic,
        "rubber": surfaces.rubber,
        "fabric": surfaces.fabric,
        "denim": surfaces.denim,
        "knit": surfaces.knit,
        "felt": surfaces.felt,
        "wood": surfaces.wood,
        "concrete": surfaces.concrete,
        "granite": surfaces.granite,
        "marble": surfaces.marble,
        "terrazzo": surfaces.terrazzo,
        "paper": surfaces.paper,
        "cardboard": surfaces.cardboard,
        "foam": surfaces.foam,
        "mesh": surfaces.mesh,
        "solar cell": surfaces.solar_cell,
        "wallpaper": surfaces.wallpaper,
        "brick": surfaces.brick,
        "leather": surfaces.leather,
        "tile": surfaces.tile,
        "carpet": surfaces.carpet,
        "cork": surfaces.cork,
    }
)
_OBJECTS: Mapping[str, tuple[objects.Builder, float]] = MappingProxyType(
    {
        "nut": (objects.nut, FREE),
        "washer": (objects.washer, FREE),
        "pill": (objects.pill, FREE),
        "coin": (objects.coin, FREE),
        "button": (objects.button, FREE),
        "bottle cap": (objects.bottle_cap, FREE),
        "chip": (objects.chip, PLACED),
        "connector": (objects.connector, PLACED),
        "fuse": (objects.fuse, PLACED),
        "bolt": (objects.bolt, FREE),
        "bearing": (objects.bearing, FREE),
        "bracket": (objects.bracket, PLACED),
        "battery": (objects.battery, PLACED),
        "label": (objects.label, PLACED),
        "casting": (objects.casting, FREE),
        "housing": (objects.housing, PLACED),
        "zipper": (objects.zipper, PLACED),
        "cable": (objects.cable, FREE),
        "resistor": (objects.resistor, FREE),
        "biscuit": (objects.biscuit, FREE),
        "key": (objects.key, FREE),
        "blister": (objects.blister, PLACED),
        "gear": (objects.gear, FREE),
        "screw": (objects.screw, FREE),
        "capsule": (objects.capsule, PLACED),
        "circuit board": (objects.circuit_board, PLACED),
    }
)
_DEFECTS: Mapping[str, defects.Defect] = MappingProxyType(
    {
        "scratch": defects.scratch,
        "dent": defects.dent,
        "stain": defects.stain,
        "hole": defects.hole,
        "crack": defects.crack,
        "discoloration": defects.discoloration,
        "missing part": defects.missing_part,
        "bend": defects.bend,
        "print error": defects.print_error,
        "thread": defects.thread,
        "cut": defects.cut,
        "contamination": defects.contamination,
    }
)

SURFACES: tuple[str, ...] = tuple(_SURFACES)
"""Families that fill the picture."""
OBJECTS: tuple[str, ...] = tuple(_OBJECTS)
"""Families that lie on a background."""
FAMILIES: tuple[str, ...] = SURFACES + OBJECTS
"""All families; each name works as a class name in a prompt."""
DEFECTS: tuple[str, ...] = tuple(_DEFECTS)
"""All defect types."""
HELD_OUT_FAMILIES: tuple[str, ...] = (
    "leather", "tile", "carpet", "cork", "gear", "screw", "capsule", "circuit board",
)  # fmt: skip
"""Families never used to train the bundled model."""
HELD_OUT_DEFECTS: tuple[str, ...] = ("cut", "contamination")
"""Defect types never used to train the bundled model."""

_VISIBLE = 0.035  # minimum change of a channel inside a defect's mask, full scale = 1
_LEAST_AREA = 0.0015  # minimum share of the image that a defect covers
_LEAST_PEAK = 0.12  # minimum peak change of a channel in a visible defect, full scale = 1
_TRIES = 8
_CLOSE = 0.28  # logarithm of the ratio of a defect's side to the wanted one: within a third


@dataclass(frozen=True, eq=False)
class Sample:
    """One inspection image.

    Attributes:
        image: RGB, uint8, shape (H, W, 3).
        mask: True where the defect changed the image, bool, shape (H, W).
        family: Name of the product family.
        defect: Name of the defect, or None for a normal image.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    family: str
    defect: str | None

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def __eq__(self, other: object) -> bool:
        """Whether the other is a sample of the same family and defect, with the same pixels."""
        if not isinstance(other, Sample):
            return NotImplemented
        return (
            (self.family, self.defect) == (other.family, other.defect)
            and np.array_equal(self.image, other.image)
            and np.array_equal(self.mask, other.mask)
        )


def defects_of(family: str) -> tuple[str, ...]:
    """Return the defect types of a family; surfaces have no outline, so no missing part.

    Raises:
        ValueError: If the family is unknown.
    """
    _known("family", family, FAMILIES)
    return DEFECTS if family in _OBJECTS else tuple(d for d in DEFECTS if d != "missing part")


def make_sample(
    family: str,
    *,
    seed: int,
    size: tuple[int, int] = (96, 96),
    defect: str | None = None,
    product: int = 0,
    defect_size: int | None = None,
) -> Sample:
    """Generate an image of a normal or defective instance.

    Args:
        family: One of `FAMILIES`.
        seed: Seed of position, grain, noise and defect; not negative.
        size: (height, width) in pixels, each at least 16.
        defect: One of `defects_of(family)`, or None for a normal image.
        product: Seed of colour, scale, layout and light; not negative.
        defect_size: Longer side of the defect in pixels, at least 1, for small defects in large
            pictures. Most are within a third of it; bends and scratches can be several times as
            long. None for one in proportion to the picture.

    Returns:
        A sample, equal for equal arguments.

    Raises:
        ValueError: If a name is unknown, the family cannot have the defect, a size or a seed is out
            of range, or no defect of ``defect_size`` can be seen.
    """
    if defect is not None:
        return make_pair(
            family, seed=seed, size=size, defect=defect, product=product, defect_size=defect_size
        )[1]
    scene, camera = _set_up(family, seed, size, product)
    image = camera.develop(camera.expose(scene))
    return Sample(image, np.zeros(size, np.bool_), family, None)


def make_pair(
    family: str,
    *,
    seed: int,
    defect: str,
    size: tuple[int, int] = (96, 96),
    product: int = 0,
    defect_size: int | None = None,
) -> tuple[Sample, Sample]:
    """Generate images of one instance without and with a defect, in equal light and noise.

    Args:
        family: One of `FAMILIES`.
        seed: As for `make_sample`.
        defect: One of `defects_of(family)`.
        size: As for `make_sample`.
        product: As for `make_sample`.
        defect_size: As for `make_sample`.

    Returns:
        The normal and the defective sample. The mask is True where the two differ visibly before
        sensor noise is added; it is never empty.

    Raises:
        ValueError: As for `make_sample`.
    """
    _known("family", family, FAMILIES)
    _known(f"defect of {family!r}", defect, defects_of(family))
    if defect_size is not None and defect_size < 1:
        raise ValueError(f"defect_size is {defect_size}; it must be at least 1 pixel.")
    scene, camera = _set_up(family, seed, size, product)
    clean = camera.expose(scene)
    rng = _rng(f"{family}, {defect}", product, seed)
    damage = _DEFECTS[defect]
    if defect_size is None:
        best, best_mask = _damaged(scene, camera, clean, damage, rng)
    else:
        best, best_mask = _slightly_damaged(scene, camera, clean, damage, rng, defect_size)
    if not best_mask.any():
        raise ValueError(
            f"defect_size is {defect_size}, but no {defect} of that size can be seen on this "
            f"{family}; choose a larger one, or another seed."
        )
    return (
        Sample(camera.develop(clean), np.zeros(size, np.bool_), family, None),
        Sample(camera.develop(best), best_mask, family, defect),
    )


def _damaged(
    scene: Scene, camera: Camera, clean: Floats, damage: defects.Defect, rng: Rng
) -> tuple[Floats, NDArray[np.bool_]]:
    """The picture with a defect, and its mask; the plainest of some."""
    best, best_mask = clean, np.zeros(clean.shape[:2], np.bool_)
    for attempt in range(_TRIES):
        damaged = camera.expose(damage(scene, rng, 1 + 0.15 * attempt))
        mask, plain = _difference(clean, damaged)
        if plain:
            return damaged, mask
        if mask.sum() > best_mask.sum():
            best, best_mask = damaged, mask
    return best, best_mask


def _slightly_damaged(
    scene: Scene,
    camera: Camera,
    clean: Floats,
    damage: defects.Defect,
    rng: Rng,
    side: int,
) -> tuple[Floats, NDArray[np.bool_]]:
    """The picture with a defect of about `side` pixels anywhere, and its mask."""
    centre, seed = rng.random(2), int(rng.integers(2**32))
    best, mask = _damaged_at(centre, scene, camera, clean, damage, seed, side)
    for _ in range(_TRIES):
        if mask.any():
            break
        # There it cannot be seen, most often beside the thing.
        thing = np.argwhere(scene.part > 0.9 * scene.part.max())
        centre = thing[rng.integers(len(thing))] / np.array(mask.shape)
        best, mask = _damaged_at(centre, scene, camera, clean, damage, seed, side)
    return best, mask


def _damaged_at(
    centre: Floats,
    scene: Scene,
    camera: Camera,
    clean: Floats,
    damage: defects.Defect,
    seed: int,
    side: int,
) -> tuple[Floats, NDArray[np.bool_]]:
    """The same with the defect about a place, in shares of the picture's sides.

    The defect of a whole picture is put into a piece of this one, as small as it takes.
    """
    height, width = clean.shape[:2]
    shape = np.array([height, width])
    best, best_mask, error = clean, np.zeros((height, width), np.bool_), np.inf
    piece = 3.0 * side
    for attempt in range(2 * _TRIES):
        sides = np.clip(round(piece), 16, shape)
        top, left = (int(at) for at in np.rint(centre * (shape - sides)))
        rows, cols = slice(top, top + int(sides[0])), slice(left, left + int(sides[1]))
        part, lens = scene.part_of(rows, cols), camera.part_of(rows, cols)
        strength = np.random.default_rng([seed, attempt // 4])
        damaged = lens.expose(damage(part, strength, 1 + 0.15 * (attempt // 4)))
        change = damaged - lens.expose(part)
        mask = np.asarray(np.abs(change).max(axis=2) > _VISIBLE)
        extent = max((np.ptp(found) + 1 for found in np.nonzero(mask) if len(found)), default=0)
        off = abs(np.log(max(extent, 1) / side)) + (np.abs(change).max() < _LEAST_PEAK)
        if off < error:
            error, best_mask = off, np.zeros((height, width), np.bool_)
            best_mask[rows, cols] = mask
            best = clean.copy()
            best[rows, cols] = np.clip(clean[rows, cols] + change, 0, 1)
        if error < _CLOSE:
            break
        piece = np.clip(piece * side / max(extent, 4), side, 12 * side)
    return best, best_mask


def _difference(clean: Floats, damaged: Floats) -> tuple[NDArray[np.bool_], bool]:
    """Return the mask of the visible change, and whether it is large and strong enough."""
    change = np.abs(damaged - clean).max(axis=2)
    reach = max(3, min(change.shape) // 48 * 2 + 1)
    seen = cv2.morphologyEx(
        (change > _VISIBLE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8)
    )
    mask = np.asarray(seen > 0)
    return mask, bool(mask.mean() >= _LEAST_AREA and change.max() >= _LEAST_PEAK)


def _set_up(family: str, seed: int, size: tuple[int, int], product: int) -> tuple[Scene, Camera]:
    _known("family", family, FAMILIES)
    if min(check_sides("size", size)) < 16:
        raise ValueError(f"size is {size}; height and width must be at least 16 pixels.")
    if seed < 0 or product < 0:
        raise ValueError(f"seed is {seed} and product is {product}; neither may be negative.")
    grid = Grid.of(size)
    fixed, varying = _rng(family, product), _rng(family, product, seed)
    if family in _OBJECTS:
        builder, turn = _OBJECTS[family]
        scene = objects.thing(builder, turn, fixed, varying, grid)
    else:
        scene = surfaces.surface(_SURFACES[family], fixed, varying, grid)
    return scene, Camera.set_up(_rng("camera", product), varying, grid)


def _rng(name: str, *numbers: int) -> Rng:
    # The built-in hash of a string changes from one process to the next.
    return np.random.default_rng([zlib.crc32(name.encode()), *numbers])


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        raise ValueError(f"{name!r} is not a {what}; choose from {', '.join(names)}.")
