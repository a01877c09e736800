"""Normal and defective images to measure with: solar cells, textile, generated products.

Needs the extra ``examples``, and scikit-image for the photographs. The generated products are of
families that the bundled model was not trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import cv2
import numpy as np
from PIL import Image

from pyimgano_openclip import samples

TRAIN, TEST = 50, 150  # images to fit with, and to test with of each kind
PRODUCT_TRAIN, PRODUCT_TEST = 16, 24  # the same, of a generated product
CROPS = {"square": (160, 160), "wide": (80, 320), "margin": (182, 182)}  # pixels, of a photograph
DAMAGE = ("stain", "scratch", "patch")  # of a photograph
SHAPES = {"square": (192, 192), "wide": (96, 288), "high": (288, 96)}  # pixels


@dataclass(frozen=True)
class ImageSet:
    """RGB images; normal ones to fit with, normal and then defective ones to test with.

    Attributes:
        train: Normal images.
        test: Images to score.
        defective: 1 for each defective image of ``test``.
        masks: Where each image of ``test`` is defective, if that is known.
    """

    train: list[np.ndarray]
    test: list[np.ndarray]
    defective: np.ndarray
    masks: list[np.ndarray] | None = None


def image_set(train: list, normal: list, bad: list, masks: list | None = None) -> ImageSet:
    return ImageSet(train, normal + bad, np.arange(len(normal + bad)) >= len(normal), masks)


@cache
def _cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from elpv_dataset.utils import load_dataset

    return load_dataset()


def intact_cells(kind: str, seed: int) -> list[np.ndarray]:
    """Cells that experts call certainly intact, in random order."""
    images, probability, kinds = _cells()
    found = np.flatnonzero((kinds == kind) & (probability == 0))
    order = np.random.default_rng(seed).permutation(found)
    return [np.stack([images[index]] * 3, axis=-1) for index in order]


def solar_cells(kind: str, seed: int) -> ImageSet:
    """Monocrystalline ("mono") or polycrystalline ("poly") cells, 300 x 300, grey."""
    images, probability, kinds = _cells()
    broken = np.flatnonzero((kinds == kind) & (probability == 1))
    chosen = np.random.default_rng(seed).permutation(broken)[:TEST]
    bad = [np.stack([images[index]] * 3, axis=-1) for index in chosen]
    intact = intact_cells(kind, seed)[: TRAIN + TEST]
    return image_set(intact[:TRAIN], intact[TRAIN:], bad)


def panels(kind: str, seed: int, train: int, test: int) -> tuple[list, list, list]:
    """Panels of four cells, 300 x 300: to fit with, normal ones of other cells, and broken ones.

    In a broken panel one cell is broken; each is shown once.
    """
    sizes = {"dsize": (150, 150), "interpolation": cv2.INTER_AREA}
    cells = [cv2.resize(cell, **sizes) for cell in intact_cells(kind, seed)]
    found = solar_cells(kind, seed)
    broken = [
        cv2.resize(cell, **sizes)
        for cell, bad in zip(found.test, found.defective, strict=True)
        if bad
    ][:test]
    middle, draw = len(cells) // 2, np.random.default_rng(seed)

    def panel(first: int, stop: int, bad: np.ndarray | None = None) -> np.ndarray:
        four = [cells[first + number] for number in draw.permutation(stop - first)[:4]]
        if bad is not None:
            four[draw.integers(4)] = bad
        return np.vstack([np.hstack(four[:2]), np.hstack(four[2:])])

    return (
        [panel(0, middle) for _ in range(train)],
        [panel(middle, len(cells)) for _ in range(test)],
        [panel(middle, len(cells), bad) for bad in broken],
    )


def textile_images(kind: str, seed: int, count: int) -> list[np.ndarray]:
    """Photographs of cloth ("nominal", "local", "global"), 250 x 250, in random order."""
    import conformal_clip_data

    folder = getattr(conformal_clip_data, f"{kind}_dir")()
    files = np.random.default_rng(seed).permutation(sorted(folder.glob("*.jpg")))[:count]
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def textile(kind: str, seed: int) -> ImageSet:
    """Cloth with local or with global changes."""
    nominal = textile_images("nominal", seed, TRAIN + TEST)
    return image_set(nominal[:TRAIN], nominal[TRAIN:], textile_images(kind, seed, TEST))


def product(family: str, seed: int, shape: str = "square", grey: bool = False) -> ImageSet:
    """A generated product with every defect that it can have, with masks."""
    defects = samples.defects_of(family)

    def make(first: int, count: int, *, defective: bool = False) -> list[samples.Sample]:
        return [
            samples.make_sample(
                family,
                seed=first + index,
                product=1000 + seed,
                size=SHAPES[shape],
                defect=defects[index % len(defects)] if defective else None,
            )
            for index in range(count)
        ]

    train, normal = make(0, PRODUCT_TRAIN), make(1000, PRODUCT_TEST)
    bad = make(2000, PRODUCT_TEST, defective=True)
    pixels = [_grey(sample.image) if grey else sample.image for sample in train + normal + bad]
    masks = [sample.mask for sample in normal + bad]
    test = pixels[PRODUCT_TRAIN:]
    return image_set(pixels[:PRODUCT_TRAIN], test[:PRODUCT_TEST], test[PRODUCT_TEST:], masks)


def photograph(
    name: str,
    seed: int,
    shape: str = "square",
    train: int = PRODUCT_TRAIN,
    test: int = PRODUCT_TEST,
) -> ImageSet:
    """Pieces of a photograph of scikit-image, of other halves to fit and to test with.

    Damage is painted into them: a dark stain, a bright scratch, a patch of another photograph.
    """
    from skimage import data

    draw = np.random.default_rng(seed)
    whole = _rgb(getattr(data, name)())
    upper, lower = np.array_split(whole, 2)
    foreign = _rgb(data.camera() if name != "camera" else data.brick())
    fitted = [_piece(upper, draw, CROPS[shape]) for _ in range(train)]
    normal, sound = ([_piece(lower, draw, CROPS[shape]) for _ in range(test)] for _ in range(2))
    bad, masks = _painted(sound, foreign, draw)
    return image_set(fitted, normal, bad, [np.zeros_like(mask) for mask in masks] + masks)


def painted_cells(kind: str, seed: int) -> ImageSet:
    """Intact solar cells, of which some are damaged as photographs are, 160 x 160."""
    from skimage import data

    count, size = PRODUCT_TRAIN + 2 * PRODUCT_TEST, CROPS["square"]
    cells = [
        cv2.resize(cell, size, interpolation=cv2.INTER_AREA)
        for cell in intact_cells(kind, seed)[:count]
    ]
    fitted, normal = cells[:PRODUCT_TRAIN], cells[PRODUCT_TRAIN : PRODUCT_TRAIN + PRODUCT_TEST]
    sound, draw = cells[PRODUCT_TRAIN + PRODUCT_TEST :], np.random.default_rng(seed)
    bad, masks = _painted(sound, _rgb(data.camera()), draw)
    return image_set(fitted, normal, bad, [np.zeros_like(mask) for mask in masks] + masks)


def _painted(
    sound: list[np.ndarray], foreign: np.ndarray, draw: np.random.Generator
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images with a stain, a scratch or a piece of a foreign image in turn, and masks."""
    kinds = [DAMAGE[index % len(DAMAGE)] for index in range(len(sound))]
    masks = [_damage(kind, draw, image.shape[:2]) for kind, image in zip(kinds, sound, strict=True)]
    bad = []
    for kind, image, mask in zip(kinds, sound, masks, strict=True):
        other = _piece(foreign, draw, image.shape[:2])
        painted = {"stain": image * 0.6, "scratch": image + 70.0, "patch": other}[kind]
        bad.append(np.where(mask[..., None] > 0, painted.clip(0, 255), image).astype(np.uint8))
    return bad, masks


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).convert("RGB"))


def _piece(image: np.ndarray, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    top, left = (
        draw.integers(side - part + 1) for side, part in zip(image.shape[:2], size, strict=True)
    )
    return image[top : top + size[0], left : left + size[1]].copy()


def _damage(kind: str, draw: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Where the damage is: an ellipse, a line or a disc."""
    mask = np.zeros(size, dtype=np.uint8)
    x, y = (int(draw.integers(20, side - 20)) for side in reversed(size))
    radius = int(draw.integers(6, 14))
    if kind == "stain":
        cv2.ellipse(mask, (x, y), (radius, radius // 2), draw.uniform(0, 180), 0, 360, 1, -1)
    elif kind == "scratch":
        far_x, far_y = (int(draw.integers(-40, 40)) for _ in range(2))
        cv2.line(mask, (x, y), (x + far_x, y + far_y), 1, 2)
    else:
        cv2.circle(mask, (x, y), radius, 1, -1)
    return mask


def _grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


SETS: dict[str, Callable[[int], ImageSet]] = {
    "elpv mono": partial(solar_cells, "mono"),
    "elpv poly": partial(solar_cells, "poly"),
    "textile local": partial(textile, "local"),
    "textile global": partial(textile, "global"),
    **{family: partial(product, family) for family in samples.HELD_OUT_FAMILIES},
}
VARIANTS: dict[str, Callable[[int], ImageSet]] = {
    f"{family}, {name}": partial(product, family, **settings)
    for family in ("carpet", "screw")
    for name, settings in {
        "wide": {"shape": "wide"},
        "high": {"shape": "high"},
        "grey": {"grey": True},
    }.items()
}
PHOTOGRAPHS: dict[str, Callable[[int], ImageSet]] = {
    f"{name}, {shape}": partial(photograph, name, shape=shape)
    for name in ("brick", "grass", "gravel", "immunohistochemistry")
    for shape in ("square", "wide")
}


def normal_and_defective(
    name: str, normal: int, defective: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """So many normal and defective images of "elpv mono", "elpv poly" or a family of samples."""
    if name.startswith("elpv "):
        kind = name.split()[1]
        found = solar_cells(kind, 0)
        bad = [image for image, odd in zip(found.test, found.defective, strict=True) if odd]
        return intact_cells(kind, 0)[:normal], bad[:defective]
    defects = samples.defects_of(name)

    def make(seed: int, defect: str | None) -> np.ndarray:
        return samples.make_sample(
            name, seed=seed, product=1000, size=(192, 192), defect=defect
        ).image

    bad = [make(2000 + seed, defects[seed % len(defects)]) for seed in range(defective)]
    return [make(seed, None) for seed in range(normal)], bad
