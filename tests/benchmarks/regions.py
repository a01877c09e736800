"""How well the regions of explain() match masks, beside the best threshold there is.

    python tests/benchmarks/regions.py

For each set: the best F1 of pixels that any one threshold of the maps reaches, which nobody knows
without masks; as a share of it, the F1 of pixels above the region threshold, and of those that
``explain()`` calls hot, which are near the peak of their region as well; the share of defects with
a hot pixel, where two defective images are one, so that the stronger of two defects may hide the
other; and the share of normal images with any pixel above the region threshold, of which the
contamination was asked for.
"""

from __future__ import annotations

import argparse

import numpy as np
from image_sets import ImageSet, painted_cells, photograph, product

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.maps.regions import hot_pixels

FAMILIES = ("leather", "carpet", "cork", "gear", "screw", "capsule", "circuit board")
CELLS = ("mono", "poly")
PHOTOGRAPHS = ("brick", "grass", "gravel", "immunohistochemistry")


def f1(values: np.ndarray, truth: np.ndarray, threshold: float) -> float:
    """F1 of pixels above a threshold."""
    above = values > threshold
    hits = int((above & truth).sum())
    return 2 * hits / max(1, int(above.sum()) + int(truth.sum()))


def best_f1(values: np.ndarray, truth: np.ndarray) -> float:
    """The highest F1 of all thresholds."""
    order = np.argsort(-values)
    hits = np.cumsum(truth[order])
    return float((2 * hits / (np.arange(1, len(hits) + 1) + truth.sum())).max())


def found(maps: list[np.ndarray], masks: list[np.ndarray], threshold: float) -> float:
    """Share of defects with a hot pixel, of maps that lie side by side in pairs."""
    hits = []
    for left, right in zip(range(0, len(maps), 2), range(1, len(maps), 2), strict=False):
        pair = [maps[left], maps[right]]
        hot = np.hsplit(hot_pixels(np.hstack(pair), threshold), 2)
        hits += [(hot[n] & masks[at]).any() for n, at in enumerate((left, right))]
    return float(np.mean(hits))


def measured(name: str, images: ImageSet, contamination: float) -> list[float]:
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", openclip_pretrained=None, contamination=contamination
    ).fit(images.train)
    maps = [scored.anomaly_map() for scored in detector.score_iter(images.test)]
    threshold = detector.region_threshold()
    peaks = np.array([found.max() for found in maps])[~images.defective]
    values = np.concatenate([found.ravel()[::4] for found in maps])
    hot = np.concatenate([hot_pixels(found, threshold).ravel()[::4] for found in maps])
    truth = np.concatenate([mask.ravel()[::4] > 0 for mask in images.masks])
    best = best_f1(values, truth)
    shares = (f1(values, truth, threshold) / best, f1(hot, truth, 0) / best)
    bad = np.flatnonzero(images.defective)
    pairs = found([maps[n] for n in bad], [images.masks[n] > 0 for n in bad], threshold)
    row = [best, *shares, pairs, float((peaks > threshold).mean())]
    print(f"{name:16}" + "".join(f"{number:10.2f}" for number in row), flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--contamination", type=float, default=0.1)
    options = parser.parse_args()
    print(f"{'':16}{'best F1':>9}{'threshold':>11}{'explain()':>11}{'pairs':>8}{'normal':>10}")
    rows = []
    for seed in range(options.seeds):
        sets = {family: product(family, seed) for family in FAMILIES}
        sets |= {f"cells, {kind}": painted_cells(kind, seed) for kind in CELLS}
        sets |= {name: photograph(name, seed) for name in PHOTOGRAPHS}
        rows += [measured(name, images, options.contamination) for name, images in sets.items()]
    print(f"{'mean':16}" + "".join(f"{number:10.2f}" for number in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
