"""What windows buy where defects are small, and how much the whole image should add to a score.

    python tests/benchmarks/large_images.py
    python tests/benchmarks/large_images.py --whole 0 0.2 0.5 --pieces --seeds 3
    python tests/benchmarks/large_images.py --photographs
    python tests/benchmarks/large_images.py --seams
    python tests/benchmarks/large_images.py --usual --seeds 3
    python tests/benchmarks/large_images.py --usual --families "elpv mono" "elpv poly" --train 50 \
        --each 80 --seeds 4

Image and pixel AUROC, and AUPRO up to a false-positive rate of 0.05, of patch-kNN on generated
textures of 1,536 x 2,048 pixels with defects of 16 to 32 pixels: whole images at once, then with
``smallest_defect=16`` and shares of the whole image in patch scores; means over seeds, and the
image AUROC of each. ``--pieces`` cuts 512 x 704 pixels out of each picture, which takes a sixth of
the time. ``--photographs`` takes pictures of 1,500 x 1,800 pixels, each put together from thirty
photographs of solar cells, others to fit and to test with, and paints marks of 16 to 32 pixels into
some. ``--seams`` paints dark spots into intact pieces, where one window takes over from another, at
the border, and elsewhere, and tells the share that is hotter than all but one in a hundred pixels
of the intact piece. ``--usual`` takes images in which defects are not small, so that windows can
only be in the way.
"""

from __future__ import annotations

import argparse
from typing import Any

import cv2
import numpy as np
from image_sets import SETS, ImageSet, image_set, intact_cells
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.maps import overview
from pyimgano_openclip.samples import defects_of, make_pair, make_sample

SIZE, PIECE = (1536, 2048), (512, 704)  # pixels
TRAIN, PAIRS, PRODUCT = 6, 11, 7
PIECES_OF = 4  # training images, two pieces of each
LIMIT = 0.05  # of the false-positive rate
EVERY = 3  # pixel of a map in each direction counts for pixel AUROC
FAMILIES = ("leather", "carpet", "cork")
USUAL = ("elpv mono", "elpv poly", "gear", "screw", "circuit board")
PHOTOGRAPHS = ("mono", "poly")
ROWS, COLS, CELL = 5, 6, 300  # cells of a picture; pixels
CONTRAST = 0.5  # of a mark
SHARE = 0.035  # of the height, for which windows look in them
# Moved copies of a texture would only take time.
OF_TEXTURES = {"max_patches": 4000, "jitter": 0}
SPOTS, RADIUS, DARKER = 6, 9, 0.7  # in a piece; pixels; brightness


def sheets(family: str, product: int) -> tuple[list, list]:
    """Training images, and pairs of samples without and with a defect."""
    kinds = [name for name in defects_of(family) if name != "bend"]
    train = [make_sample(family, seed=n, size=SIZE, product=product).image for n in range(TRAIN)]
    pairs = [
        make_pair(
            family,
            seed=100 + n,
            size=SIZE,
            product=product,
            defect=kinds[n % len(kinds)],
            defect_size=16 + 2 * (n % 9),
        )
        for n in range(PAIRS)
    ]
    return train, pairs


def large(family: str, *, pieces: bool, seed: int = 0) -> ImageSet:
    """Normal and defective pictures, or pieces of them with the defect anywhere."""
    train, pairs = sheets(family, PRODUCT + 100 * seed)
    parts = [(slice(None), slice(None))] * len(pairs)
    if pieces:
        draw, (height, width) = np.random.default_rng(0), PIECE
        parts = []
        for _, bad in pairs:
            rows, cols = np.nonzero(bad.mask)
            top = int(np.clip(rows.mean() - draw.integers(0, height), 0, SIZE[0] - height))
            left = int(np.clip(cols.mean() - draw.integers(0, width), 0, SIZE[1] - width))
            parts.append((slice(top, top + height), slice(left, left + width)))
        train = [
            image[n * height : (n + 1) * height, n * width : (n + 1) * width]
            for image in train[:PIECES_OF]
            for n in (0, 1)
        ]
    good, bad, masks = (
        [sample(pair)[part] for pair, part in zip(pairs, parts, strict=True)]
        for sample in (lambda p: p[0].image, lambda p: p[1].image, lambda p: p[1].mask)
    )
    return image_set(train, good, bad, [np.zeros_like(mask) for mask in masks] + masks)


def photographs(kind: str, seed: int) -> ImageSet:
    """Pictures of solar cells, some with a mark: a stain or a scratch, darker or brighter."""
    cells, draw = intact_cells(kind, seed), np.random.default_rng(seed)
    third = len(cells) // 3

    def picture(of: list) -> np.ndarray:
        some = np.array([of[n] for n in draw.permutation(len(of))[: ROWS * COLS]])
        rows = some.reshape(ROWS, COLS, CELL, CELL, 3).swapaxes(1, 2)
        return rows.reshape(ROWS * CELL, COLS * CELL, 3)

    train = [picture(cells[:third]) for _ in range(TRAIN)]
    normal, bad = ([picture(cells[third:]) for _ in range(PAIRS)] for _ in range(2))
    masks = [mark(16 + 2 * (n % 9), line=n % 2 == 0, draw=draw) for n in range(PAIRS)]
    for n, mask in enumerate(masks):
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.8)[..., None]
        change = CONTRAST * (1 if n % 3 == 0 else -1)
        bad[n] = (bad[n] * (1 + change * soft)).clip(0, 255).astype(np.uint8)
    return image_set(train, normal, bad, [np.zeros_like(mask) for mask in masks] + masks)


def mark(length: int, *, line: bool, draw: np.random.Generator) -> np.ndarray:
    """A line or an ellipse of so many pixels anywhere in a picture of cells."""
    mask, turn = np.zeros((ROWS * CELL, COLS * CELL), np.uint8), draw.uniform(0, np.pi)
    centre = draw.integers(length, np.array(mask.shape[::-1]) - length)
    if line:
        reach = np.array([np.cos(turn), np.sin(turn)]) * length / 2
        ends = [np.rint(centre + sign * reach).astype(int).tolist() for sign in (-1, 1)]
        cv2.line(mask, *ends, 1, 3)
    else:
        axes = length // 2, length // 3
        cv2.ellipse(mask, centre.tolist(), axes, float(np.degrees(turn)), 0, 360, 1, -1)
    return mask > 0


def usual(name: str, seed: int, train: int, each: int) -> ImageSet:
    """A set of which neither images nor defects are large or small, with empty masks if unknown."""
    found, (good, bad) = SETS[name](seed), (slice(0, each), slice(-each, None))
    masks = found.masks or [np.zeros(image.shape[:2], bool) for image in found.test]
    masks = [np.asarray(mask) > 0 for mask in masks]
    return image_set(
        found.train[:train], found.test[good], found.test[bad], masks[good] + masks[bad]
    )


def aupro(masks: list[np.ndarray], maps: list[np.ndarray]) -> float:
    """Mean share of a defect that is found, over false-positive rates up to the limit."""
    sound = [found[~mask][::4] for mask, found in zip(masks, maps, strict=True)]
    falling = np.sort(np.concatenate(sound))[::-1]
    rates = np.linspace(0.0005, LIMIT, 60)
    thresholds = falling[(rates * len(falling)).astype(int)]
    regions = []
    for mask, found in zip(masks, maps, strict=True):
        count, labels = cv2.connectedComponents(mask.astype(np.uint8))
        regions += [found[labels == label] for label in range(1, count)]
    shares = [np.mean([(region > limit).mean() for region in regions]) for limit in thresholds]
    return float(np.trapezoid([0, *shares], [0, *rates]) / LIMIT)


def measured(images: ImageSet, smallest_defect: float | None, **settings: Any) -> list[float]:
    """Image AUROC, and pixel AUROC and AUPRO where masks are known, in percent."""
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", smallest_defect=smallest_defect, **settings
    ).fit(images.train)
    scored = list(detector.score_iter(images.test))
    maps = [found.anomaly_map() for found in scored]
    image = roc_auc_score(images.defective, [found.image for found in scored])
    if not any(mask.any() for mask in images.masks):
        return [100 * image]
    masked, found = (
        np.concatenate([plane[::EVERY, ::EVERY].ravel() for plane in planes])
        for planes in (images.masks, maps)
    )
    pixel, regions = roc_auc_score(masked, found), aupro(images.masks, maps)
    return [100 * image, 100 * pixel, 100 * regions]


def tell(name: str, how: str, found: list[list[float]]) -> None:
    """Print the mean over seeds, and image AUROC of each seed."""
    mean = "".join(f"{value:7.1f}" for value in np.mean(found, axis=0))
    each = ", ".join(f"{row[0]:.1f}" for row in found)
    print(f"{name:14}{how:11}{mean}   {each}", flush=True)


def places(detector: VisionOpenCLIPPatchKNN, draw: np.random.Generator) -> dict[str, list]:
    """Centres (y, x) of spots in pixels: on seams of windows, at the border, far from both."""
    plan = detector._embedder.canvases.windows(detector.canvas_)
    grid = [side // 8 for side in detector.canvas_]
    cuts = [
        [axis.own(n).start for n in range(1, len(axis.starts))] for axis in plan._axes(plan.side)
    ]
    free = [
        [n for n in range(3, side - 3) if min(abs(n - cut) for cut in own) > 2]
        for side, own in zip(grid, cuts, strict=True)
    ]
    found: dict[str, list] = {"seams": [], "border": [], "elsewhere": []}
    for spot in range(SPOTS):
        along = spot % 2  # rows or columns
        for name, choice in (("seams", cuts), ("border", [[1, side - 1] for side in grid])):
            at = [draw.choice(side) for side in free]
            at[along] = draw.choice(choice[along])
            found[name].append(at)
        found["elsewhere"].append([draw.choice(side) for side in free])
    pitch = [side / cells for side, cells in zip(PIECE, grid, strict=True)]
    return {name: np.round(np.multiply(at, pitch)).astype(int) for name, at in found.items()}


def seams(family: str) -> str:
    """Shares of spots that are found."""
    images, draw = large(family, pieces=True), np.random.default_rng(0)
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", smallest_defect=16, **OF_TEXTURES
    ).fit(images.train)
    hot: dict[str, list[bool]] = {}
    for image in images.test[:PAIRS]:
        intact = detector.get_anomaly_map(image)
        for name, centres in places(detector, draw).items():
            spots = [
                cv2.circle(np.zeros(PIECE, np.float32), (int(x), int(y)), RADIUS, 1, -1)
                for y, x in centres
            ]
            soft = cv2.GaussianBlur(np.max(spots, axis=0), (0, 0), 1)[..., None]
            spotted = (image * (1 - (1 - DARKER) * soft)).astype(np.uint8)
            found = detector.get_anomaly_map(spotted)
            usual = np.quantile(intact, 0.99)
            hot.setdefault(name, []).extend(found[spot > 0].max() > usual for spot in spots)
    return "  ".join(f"{name} {100 * np.mean(found):.0f} %" for name, found in hot.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", help="or sets, with --usual")
    parser.add_argument("--whole", nargs="+", type=float, default=[overview.OVERVIEW])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--pieces", action="store_true")
    parser.add_argument("--photographs", action="store_true")
    parser.add_argument("--seams", action="store_true")
    parser.add_argument("--usual", action="store_true")
    parser.add_argument("--train", type=int, default=16, help="images, with --usual")
    parser.add_argument("--each", type=int, default=24, help="test images, with --usual")
    options = parser.parse_args()
    usually = USUAL if options.usual else PHOTOGRAPHS if options.photographs else FAMILIES
    families = options.families or usually
    for family in families if options.seams else ():
        print(f"{family:10}{seams(family)}", flush=True)
    if options.seams:
        return
    for name in families:
        if options.usual:
            few = options.train, options.each
            sets = [usual(name, seed, *few) for seed in range(options.seeds)]
        elif options.photographs:
            sets = [photographs(name, seed) for seed in range(options.seeds)]
        else:
            sets = [large(name, pieces=options.pieces, seed=seed) for seed in range(options.seeds)]
        sides = [SHARE * found.test[0].shape[0] if options.usual else 16 for found in sets]
        settings = {} if options.photographs else OF_TEXTURES
        tell(name, "at once", [measured(found, None, **settings) for found in sets])
        for share in options.whole:
            overview.OVERVIEW = share
            each = zip(sets, sides, strict=True)
            tell(name, f"whole {share:4.2f}", [measured(*one, **settings) for one in each])


if __name__ == "__main__":
    main()
