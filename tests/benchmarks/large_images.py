"""What windows buy where defects are small, and how much of the whole image a token should carry.

    python tests/benchmarks/large_images.py
    python tests/benchmarks/large_images.py --whole 0 0.25 0.5 --pieces

Image and pixel AUROC, and AUPRO up to a false-positive rate of 0.05, of patch-kNN on generated
textures of 1,536 x 2,048 pixels with defects of 16 to 32 pixels: whole images at once, then with
``smallest_defect=16`` and shares of the whole image in a token. ``--pieces`` cuts 512 x 704 pixels
out of each picture, which takes a sixth of the time.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
from image_sets import ImageSet, image_set
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.encoder import windows
from pyimgano_openclip.samples import defects_of, make_pair, make_sample

SIZE, PIECE = (1536, 2048), (512, 704)  # pixels
TRAIN, PAIRS, PRODUCT = 6, 11, 7
PIECES_OF = 4  # training images, two pieces of each
LIMIT = 0.05  # of the false-positive rate
EVERY = 3  # pixel of a map in each direction counts for pixel AUROC


def sheets(family: str) -> tuple[list, list]:
    """Training images, and pairs of samples without and with a defect."""
    kinds = [name for name in defects_of(family) if name != "bend"]
    train = [make_sample(family, seed=n, size=SIZE, product=PRODUCT).image for n in range(TRAIN)]
    pairs = [
        make_pair(
            family,
            seed=100 + n,
            size=SIZE,
            product=PRODUCT,
            defect=kinds[n % len(kinds)],
            defect_size=16 + 2 * (n % 9),
        )
        for n in range(PAIRS)
    ]
    return train, pairs


def large(family: str, *, pieces: bool) -> ImageSet:
    """Normal and defective pictures, or pieces of them with the defect anywhere."""
    train, pairs = sheets(family)
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


def measure(images: ImageSet, smallest_defect: float | None) -> str:
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", max_patches=4000, smallest_defect=smallest_defect
    ).fit(images.train)
    scored = list(detector.score_iter(images.test))
    maps = [found.anomaly_map() for found in scored]
    image = roc_auc_score(images.defective, [found.image for found in scored])
    masked, found = (
        np.concatenate([plane[::EVERY, ::EVERY].ravel() for plane in planes])
        for planes in (images.masks, maps)
    )
    pixel, regions = roc_auc_score(masked, found), aupro(images.masks, maps)
    return f"{100 * image:7.1f}{100 * pixel:7.1f}{100 * regions:7.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=["leather", "carpet", "cork"])
    parser.add_argument("--whole", nargs="+", type=float, default=[windows.CONTEXT])
    parser.add_argument("--pieces", action="store_true")
    options = parser.parse_args()
    for family in options.families:
        images = large(family, pieces=options.pieces)
        print(f"{family:10}at once   {measure(images, None)}", flush=True)
        for share in options.whole:
            windows.CONTEXT = share
            print(f"{family:10}whole {share:4.2f}{measure(images, 16)}", flush=True)


if __name__ == "__main__":
    main()
