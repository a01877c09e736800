"""What patch-kNN makes of parts that lie a little differently, with moved copies in its bank.

    python tests/benchmarks/movement.py --sets "elpv mono" gear --train 1 5 40 --jitter 0 0.02

Image AUROC, false alarms (asked: 10) and defective images above the threshold in percent on the
same crops, in place and moved by up to 2 % of the side and 1.5 degrees; mean over seeds. The time
of ``fit`` is that of one core.
"""

from __future__ import annotations

import argparse
from itertools import product
from time import process_time

import cv2
import numpy as np
from image_sets import intact_cells, panels, photograph, solar_cells
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import VisionOpenCLIPPatchKNN, samples

MARGIN = 0.06  # of the side, cut off all around, so that moved crops show what is really there
SHIFT, TURN = 0.02, 1.5  # of the side, and degrees
PRODUCT = (220, 220)  # pixels, with the margin
CELLS = ("elpv mono", "elpv poly")
OF_PHOTOGRAPHS = ("brick", "retina", "cell", "hubble_deep_field")


def piece(image: np.ndarray, down: float = 0, right: float = 0, degrees: float = 0) -> np.ndarray:
    """The middle of an image, moved by shares of its side and turned."""
    height, width = (int(side * (1 - 2 * MARGIN)) for side in image.shape[:2])
    turn = cv2.getRotationMatrix2D((0, 0), degrees, 1)[:, :2]
    centre = np.array([image.shape[1] / 2 + right * width, image.shape[0] / 2 + down * height])
    motion = np.c_[turn, centre - turn @ (width / 2, height / 2)]
    return cv2.warpAffine(
        image, motion, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )


def whole_images(name: str, seed: int, train: int, test: int) -> tuple[list, list, list]:
    """Normal images to fit with, normal ones and defective ones to test with, with a margin."""
    if name == "panels":
        return panels("poly", seed, train, test)
    if name in OF_PHOTOGRAPHS:
        pieces = photograph(name, seed, "margin", train=train, test=test)
        return pieces.train, pieces.test[:test], pieces.test[test:]
    if name in CELLS:
        kind = name.split()[1]
        intact, found = intact_cells(kind, seed), solar_cells(kind, seed)
        broken = [cell for cell, bad in zip(found.test, found.defective, strict=True) if bad]
        return intact[:train], intact[train : train + test], broken[:test]
    defects = samples.defects_of(name)

    def made(first: int, count: int, *, defective: bool = False) -> list[np.ndarray]:
        return [
            samples.make_sample(
                name,
                seed=first + index,
                product=1000 + seed,
                size=PRODUCT,
                defect=defects[index % len(defects)] if defective else None,
            ).image
            for index in range(count)
        ]

    return made(0, train), made(1000, test), made(2000, test, defective=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=[*CELLS, "gear", "screw"])
    parser.add_argument("--train", nargs="+", type=int, default=[1, 5, 50])
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument("--jitter", nargs="+", type=float, default=[0, 0.02])
    parser.add_argument("--max-patches", nargs="+", type=int, default=[5_000])
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    print(f"{'':14}{'images':>7}{'jitter':>8}{'rows':>8}   in place          moved           fit")
    for name in options.sets:
        rows: dict = {}
        for seed in range(options.seeds):
            train, normal, bad = whole_images(name, seed, max(options.train), options.test)
            draw, middles = np.random.default_rng(100 + seed), [piece(image) for image in train]
            test, truth = normal + bad, np.arange(len(normal + bad)) >= len(normal)
            moves = [(*draw.uniform(-SHIFT, SHIFT, 2), draw.uniform(-TURN, TURN)) for _ in test]
            placed = [piece(image) for image in test]
            moved = [piece(image, *move) for image, move in zip(test, moves, strict=True)]
            for choice in product(options.train, options.jitter, options.max_patches):
                detector = VisionOpenCLIPPatchKNN(
                    openclip_model_name="bundled", jitter=choice[1], max_patches=choice[2]
                )
                start = process_time()
                detector.fit(middles[: choice[0]])
                took, found = process_time() - start, []
                for images in (placed, moved):
                    scores = detector.decision_function(images)
                    shares = [(scores[truth == bad] > detector.threshold_).mean() for bad in (0, 1)]
                    found += [100 * roc_auc_score(truth, scores), *(100 * s for s in shares)]
                rows.setdefault(choice, []).append([*found, took])
        for (count, jitter, most), values in rows.items():
            *shares, took = np.mean(values, axis=0)
            cells = "".join(
                f"{auroc:7.1f} /{alarms:3.0f} /{met:3.0f}"
                for auroc, alarms, met in (shares[:3], shares[3:])
            )
            print(f"{name:14}{count:>7}{jitter:>8}{most:>8}{cells}{took:9.1f} s", flush=True)


if __name__ == "__main__":
    main()
