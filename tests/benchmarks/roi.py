"""Regions of interest whose surroundings change, seen blank and seen as they are.

    python tests/benchmarks/roi.py

For each set: image AUROC and false alarms in percent of images whose surroundings are those of the
training images; then the same with a disc of any colour beside the region, and false alarms with
noise around it. First with everything outside blank, as ``roi=`` shows it to the tower; then with
whole images, as a custom embedder sees them. Defects are inside. Last the means.
"""

from __future__ import annotations

import argparse
import warnings

import cv2
import numpy as np
from image_sets import solar_cells
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import OpenCLIPPatchEmbedder, VisionOpenCLIPPatchKNN
from pyimgano_openclip.samples import defects_of, make_pair, make_sample

CIRCLE, CENTRE, LEFT = "circle", (0.2, 0.2, 0.8, 0.8), (0.05, 0.1, 0.55, 0.9)
SETS = {
    "gear": CIRCLE,
    "screw": CENTRE,
    "capsule": CIRCLE,
    "carpet": CENTRE,
    "cork": LEFT,
    "circuit board": LEFT,
    "elpv mono": CENTRE,
    "elpv poly": LEFT,
}
SIZE, TRAIN, TEST, SHOWN = (192, 192), 20, 40, 0.6  # of a defect, inside


class Whole:
    """Sees whole images."""

    def __init__(self) -> None:
        self.embed = OpenCLIPPatchEmbedder("bundled", None, device="cpu").embed


def region(kind: object, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    mask = np.zeros(size, np.uint8)
    if kind == CIRCLE:
        axes = (int(0.36 * width), int(0.36 * height))
        return cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1, -1) > 0
    left, top, right, bottom = kind
    mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = 1
    return mask > 0


def images_of(name: str, seed: int) -> tuple[list, list, list, np.ndarray]:
    """Images to fit with, normal and defective ones to test with, and the region."""
    if name.startswith("elpv"):
        cells = solar_cells(name.removeprefix("elpv "), seed)
        pairs = list(zip(cells.test, cells.defective, strict=True))
        normal, bad = ([image for image, is_bad in pairs if is_bad == kind] for kind in (0, 1))
        roi = region(SETS[name], cells.train[0].shape[:2])
        return cells.train[:TRAIN], normal[:TEST], bad[:TEST], roi
    roi, bad, number = region(SETS[name], SIZE), [], 0
    normal = [
        make_sample(name, seed=10_000 * seed + n, size=SIZE).image for n in range(TRAIN + TEST)
    ]
    while len(bad) < TEST:
        defect = defects_of(name)[number % len(defects_of(name))]
        one = make_pair(name, seed=10_000 * seed + 5_000 + number, defect=defect, size=SIZE)[1]
        number += 1
        if (one.mask & roi).sum() >= SHOWN * one.mask.sum():
            bad.append(one.image)
    return normal[:TRAIN], normal[TRAIN:], bad, roi


def with_disc(image: np.ndarray, roi: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    away = cv2.distanceTransform((~roi).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.nonzero((away > 6) & (away < 25))
    at, disc = draw.integers(len(y)), np.zeros(roi.shape, np.uint8)
    cv2.circle(disc, (int(x[at]), int(y[at])), len(roi) // 7, 1, -1)
    changed = image.copy()
    changed[(disc > 0) & ~roi] = draw.integers(0, 256, 3)
    return changed


def with_noise(image: np.ndarray, roi: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    return np.where(roi[..., None], image, draw.integers(0, 256, image.shape, np.uint8))


def measured(name: str, seed: int, *, blank: bool) -> list[float]:
    train, normal, bad, roi = images_of(name, seed)
    sight = {"openclip_model_name": "bundled", "device": "cpu"} if blank else {"embedder": Whole()}
    fitted, found = VisionOpenCLIPPatchKNN(roi=roi, jitter=0, **sight).fit(train), []
    for change in (None, with_disc, with_noise):
        draw = np.random.default_rng(seed)
        good, poor = (
            fitted.decision_function([change(i, roi, draw) for i in some] if change else some)
            for some in (normal, bad)
        )
        labels = [0] * len(good) + [1] * len(poor)
        found += [roc_auc_score(labels, [*good, *poor]), np.mean(good > fitted.threshold_)]
    return [100 * value for value in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for blank in (True, False):
        print("blank outside" if blank else "whole images")
        rows = []
        for name in options.sets:
            each = [measured(name, seed, blank=blank) for seed in range(options.seeds)]
            rows.append(np.mean(each, axis=0))
            print(f"{name:14}" + "".join(f"{value:7.1f}" for value in rows[-1]), flush=True)
        print(f"{'mean':14}" + "".join(f"{value:7.1f}" for value in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
