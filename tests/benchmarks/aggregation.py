"""How the image score should follow from the patch scores, on grids from 12 x 12 to 60 x 60.

    python tests/benchmarks/aggregation.py
    python tests/benchmarks/aggregation.py --reporting

Image AUROC in percent of patch-kNN, the mean over sets of images, for each grid and each rule. The
rules were compared on one half of the sets; ``--reporting`` takes the others.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from image_sets import SETS, ImageSet
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from pyimgano_openclip import VisionOpenCLIPPatchKNN

PATCH = 8  # pixels, of the bundled model
CHOOSING = ("elpv mono", "textile local", "leather", "tile", "screw", "capsule")
REPORTING = ("elpv poly", "textile global", "carpet", "cork", "gear", "circuit board")
TRAIN, TEST = 16, 40  # images to fit with, and to test with of each kind
RULES: dict[str, Callable[[int], float]] = {
    **{f"hottest {count}": lambda _, count=count: count for count in (1, 2, 3, 4, 6, 8)},
    **{f"{share:.0%}": lambda patches, share=share: share * patches for share in (0.01, 0.03)},
    "root / 6": lambda patches: math.sqrt(patches) / 6,
    "root / 3": lambda patches: math.sqrt(patches) / 3,
}


def auroc(images: ImageSet, side: int) -> list[float]:
    """Of each rule."""
    bad = np.flatnonzero(images.defective)
    good = np.flatnonzero(~images.defective)
    shown = [*good[:TEST], *bad[:TEST]]
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", force_image_size=side * PATCH, max_patches=10_000
    ).fit(images.train[:TRAIN])
    scored = detector.score_iter([images.test[place] for place in shown])
    patches = [np.sort(found.patches.ravel())[::-1] for found in scored]
    found = []
    for rule in RULES.values():
        means = [hot[: max(1, math.floor(rule(len(hot))))].mean() for hot in patches]
        found.append(100 * roc_auc_score(images.defective[shown], means))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reporting", action="store_true", help="the sets that did not choose")
    parser.add_argument("--grids", nargs="+", type=int, default=[12, 18, 24, 36, 60])
    options = parser.parse_args()
    print(f"{'grid':>7}" + "".join(f"{name:>11}" for name in RULES))
    for side in options.grids:
        names = REPORTING if options.reporting else CHOOSING
        rows = [auroc(SETS[name](0), side) for name in tqdm(names, leave=False)]
        print(f"{side:>7}" + "".join(f"{mean:11.1f}" for mean in np.mean(rows, axis=0)), flush=True)


if __name__ == "__main__":
    main()
