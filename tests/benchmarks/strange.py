"""Images that are nothing like the training images as a whole, beside normal and defective ones.

    python tests/benchmarks/strange.py

For each set: the largest distance of a normal image as a multiple of the training images' reach,
that of a defective one, the smallest of a strange one that nothing else gives away, and how many
are refused; then the image AUROC and the share of false alarms without and with the refusal. The
margins in ``bank/limits.py`` were chosen by the first sets; the others were looked at afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import cv2
import numpy as np
from image_sets import ImageSet, photograph, product, solar_cells, textile
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.bank.whole import portrait

CHOSEN_BY: dict[str, Callable[[int], ImageSet]] = {
    "capsule": partial(product, "capsule"),
    "carpet": partial(product, "carpet"),
    "leather": partial(product, "leather"),
    "tile, 96 x 288": partial(product, "tile", shape="wide"),
    "textile": partial(textile, "local"),
}
OTHERS: dict[str, Callable[[int], ImageSet]] = {
    "cork": partial(product, "cork"),
    "gear": partial(product, "gear"),
    "screw": partial(product, "screw"),
    "circuit board, grey": partial(product, "circuit board", grey=True),
    "solar cells, mono": partial(solar_cells, "mono"),
    "solar cells, poly": partial(solar_cells, "poly"),
    "brick": partial(photograph, "brick"),
    "grass": partial(photograph, "grass"),
    "gravel": partial(photograph, "gravel"),
}
TEST = 40  # normal and defective images each


def strange(image: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What should never have been taken for this product."""
    draw, (height, width) = np.random.default_rng(seed), image.shape[:2]
    noise = draw.integers(0, 256, image.shape, dtype=np.uint8)
    hidden = image.copy()
    hidden[:, : width // 2] = image.reshape(-1, 3).min(axis=0)
    moved = np.full_like(image, np.median(image[:4].reshape(-1, 3), axis=0))
    moved[:, width // 2 :] = image[:, : width - width // 2]
    return {
        "black": np.zeros_like(image),
        "white": np.full_like(image, 255),
        "grey": np.full_like(image, 127),
        "noise": noise,
        "dark, noisy": (noise // 32),
        "blur": cv2.GaussianBlur(image, (0, 0), max(height, width) / 24),
        "half dark": hidden,
        "half out of view": moved,
    }


def measured(name: str, images: ImageSet, others: dict[str, np.ndarray], seed: int) -> None:
    """Print the row of a set."""
    detector = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", openclip_pretrained=None)
    detector.fit(images.train)
    places = [
        place for kind in (False, True) for place in np.flatnonzero(images.defective == kind)[:TEST]
    ]
    test, defective = [images.test[n] for n in places], images.defective[places]
    scored = list(detector.score_iter(test, with_tokens=True))
    whole = detector._learnt.whole
    far = np.array([whole.distance(portrait(found.tokens)) for found in scored])
    refused = np.array([found.unlike is not None for found in scored])
    raised = np.array([found.image for found in scored])
    plain = raised - 2.0 * refused
    odd = {
        **strange(images.train[0], seed),
        **{f"a {k}": v for k, v in others.items() if k != name},
    }
    found = dict(zip(odd, detector.score_iter(list(odd.values()), with_tokens=True), strict=True))
    missed = [kind for kind, one in found.items() if one.unlike is None]
    apart = [
        whole.distance(portrait(one.tokens))
        for one in found.values()
        if one.unlike in (None, "unlike the training images: as a whole")
    ]
    auroc = [100 * roc_auc_score(defective, values) for values in (plain, raised)]
    alarms = [100 * (v[~defective] > detector.threshold_).mean() for v in (plain, raised)]
    print(
        f"{name:22}{far[~defective].max():7.2f}{far[defective].max():7.2f}"
        f"{min(apart, default=np.nan):7.2f}{refused[~defective].sum():5}"
        f"{refused[defective].sum():5}{len(odd) - len(missed):5}/{len(odd)}"
        f"{auroc[0]:8.1f}{auroc[1]:7.1f}{alarms[0]:7.1f}{alarms[1]:6.1f}  {', '.join(missed)}",
        flush=True,
    )


def sets() -> Iterator[tuple[str, dict[str, Callable[[int], ImageSet]]]]:
    yield "chosen by", CHOSEN_BY
    yield "looked at afterwards", OTHERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    print(f"{'':22}  good  defect strange  refused good, defective, strange   AUROC  false alarms")
    for heading, group in sets():
        print(heading)
        read = {name: make(seed) for name, make in group.items()}
        others = {name: images.train[0] for name, images in read.items()}
        for name, images in read.items():
            measured(name, images, others, seed)


if __name__ == "__main__":
    main()
