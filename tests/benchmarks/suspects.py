"""Which training images are named as standing out: planted defects, and normal images.

    python tests/benchmarks/suspects.py

For each set: of three defective images among 30 the share that ``suspects()`` names, how many
normal ones it names beside them, and how many of 12 and of 30 normal images without a defect; means
over draws. Then in what share of draws more than one normal image is named.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from image_sets import normal_and_defective
from promises import Remembered

from pyimgano_openclip import VisionOpenCLIPPatchKNN

PLANTED = 3
FAMILIES = ("leather", "carpet", "cork", "tile", "gear", "screw", "capsule", "circuit board")
NORMAL, BAD = 120, 40  # images from which is drawn


def named(embedder: Remembered, numbers: list[int]) -> list[int]:
    """The images that stand out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = VisionOpenCLIPPatchKNN(embedder=embedder).fit(numbers)
    return [numbers[one.image] for one in detector.suspects()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    print(f"{'':16}{'defects':>9}{'normal':>8}{'of 12':>8}{'of 30':>8}  more than one normal")
    for name in ("elpv mono", "elpv poly", *FAMILIES):
        normal, bad = normal_and_defective(name, NORMAL, BAD)
        embedder = Remembered([*normal, *bad])
        rows = []
        for draw in np.random.default_rng(0).spawn(options.draws):
            some = draw.permutation(len(normal)).tolist()
            planted = (len(normal) + draw.permutation(len(bad))[:PLANTED]).tolist()
            found = named(embedder, [*some[: 30 - PLANTED], *planted])
            right = len(set(found) & set(planted))
            few, many = (len(named(embedder, some[:count])) for count in (12, 30))
            rows.append([right / PLANTED, len(found) - right, few, many])
        each = np.array(rows)
        above = (each[:, 1:] > 1).mean(axis=0)
        print(
            f"{name:16}{each[:, 0].mean():9.2f}"
            + "".join(f"{value:8.2f}" for value in each[:, 1:].mean(axis=0))
            + "".join(f"{value:8.2f}" for value in above),
            flush=True,
        )


if __name__ == "__main__":
    main()
