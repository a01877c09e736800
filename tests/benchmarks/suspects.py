"""Which training images are named as standing out: planted defects, and normal images.

    python tests/benchmarks/suspects.py

For each set: of three defective images among 30 the share that ``suspects()`` of patch-kNN names,
how many normal ones it names beside them, and how many of 12 and of 30 normal images without a
defect; means over draws. Then in what share of draws more than one normal image is named. Each
image and copy is encoded once; what stands out is told from these tokens as ``fit`` does it.
"""

from __future__ import annotations

import argparse

import numpy as np
from image_sets import normal_and_defective

from pyimgano_openclip import OpenCLIPPatchEmbedder
from pyimgano_openclip.bank.enrolment import COPIES
from pyimgano_openclip.bank.moved import MovedCopies
from pyimgano_openclip.bank.spool import TokenSpool
from pyimgano_openclip.detector.suspects import stand_out
from pyimgano_openclip.images.views import JITTER, planned, seen, views_of
from pyimgano_openclip.pool.products import product_on
from pyimgano_openclip.pool.standing import standing

PLANTED = 3
FAMILIES = ("leather", "carpet", "cork", "tile", "gear", "screw", "capsule", "circuit board")
NORMAL, BAD = 120, 40  # images from which is drawn


class Encoded:
    """Tokens of images and of their moved copies."""

    def __init__(self, images: list[np.ndarray], jitter: float) -> None:
        embedder = OpenCLIPPatchEmbedder("bundled", None, device="cpu")
        self.views = views_of(1, jitter)
        self.found = [
            embedder.embed_batch([seen(image, view) for image in images]) for view in self.views
        ]

    def standing(self, numbers: list[int]) -> np.ndarray:
        """How much each of some images stands out."""
        with TokenSpool() as spool, TokenSpool() as of_copies:
            moved = MovedCopies(of_copies)
            for image, view in planned(self.views, len(numbers), COPIES):
                tokens = self.found[view][numbers[image]][0]
                if view:
                    moved.add(image, tokens, len(tokens))
                else:
                    spool.write(tokens)
            near = [np.array([image]) for image in range(len(numbers))]
            grids = [self.found[0][number][1] for number in numbers]
            return standing(spool, moved, near, grids, product_on("cpu"))

    def named(self, numbers: list[int]) -> list[int]:
        """The images that stand out."""
        return [numbers[one.image] for one in stand_out(self.standing(numbers))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--sets", nargs="+", default=["elpv mono", "elpv poly", *FAMILIES])
    parser.add_argument("--jitter", type=float, default=JITTER)
    options = parser.parse_args()
    print(f"{'':16}{'defects':>9}{'normal':>8}{'of 12':>8}{'of 30':>8}  more than one normal")
    for name in options.sets:
        normal, bad = normal_and_defective(name, NORMAL, BAD)
        encoded, rows = Encoded([*normal, *bad], options.jitter), []
        for draw in np.random.default_rng(0).spawn(options.draws):
            some = draw.permutation(len(normal)).tolist()
            planted = (len(normal) + draw.permutation(len(bad))[:PLANTED]).tolist()
            found = encoded.named([*some[: 30 - PLANTED], *planted])
            right = len(set(found) & set(planted))
            few, many = (len(encoded.named(some[:count])) for count in (12, 30))
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
