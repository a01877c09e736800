"""How many normal images are flagged that the detector has not seen, beside the host's own.

    python tests/benchmarks/calibration.py --seeds 5

False-alarm rate in percent on held-out normal images, and the half width of its 95 % interval over
seeds, for detectors fitted on 10, 20 and 50 normal images. It should be the contamination.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from image_sets import intact_cells, textile_images
from pyimgano.models import openclip_backend
from quality import host_embedder
from tqdm import tqdm

from pyimgano_openclip import OpenCLIPPatchEmbedder, VisionOpenCLIPPatchKNN

POOL, HELD_OUT = 250, 100  # normal images of each kind, and of these how many to score
FITTED_ON = (10, 20, 50)  # images
CONTAMINATIONS = (0.05, 0.1, 0.2)
STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26}  # 97.5 %, by seeds
POOLS: dict[str, Callable[[], list[np.ndarray]]] = {
    "textile nominal": lambda: textile_images("nominal", 0, POOL),
    "elpv mono": lambda: intact_cells("mono", 0)[:POOL],
    "elpv poly": lambda: intact_cells("poly", 0)[:POOL],
}


class Remembered:
    """Gives the tokens of image number i, encoded once, to a detector that takes numbers."""

    def __init__(self, embedder, images: list[np.ndarray]) -> None:
        self.found = [embedder.embed(image) for image in tqdm(images, leave=False)]

    def embed(self, number: int):
        return self.found[number]


def rates(build: Callable[..., object], embedder: Remembered, n: int, seed: int) -> list[float]:
    """Share of held-out normal images above each threshold."""
    order = np.random.default_rng(seed).permutation(len(embedder.found)).tolist()
    detector = build(embedder=embedder)
    detector.fit(order[:n])
    scores = detector.decision_function(order[-HELD_OUT:])
    shares = []
    for contamination in CONTAMINATIONS:
        if isinstance(detector, VisionOpenCLIPPatchKNN):
            detector.contamination = contamination
            threshold = detector._process_decision_scores().threshold_
        else:
            threshold = np.quantile(detector.decision_scores_, 1 - contamination)
        shares.append(float((scores > threshold).mean()))
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--pretrained")
    parser.add_argument("--seeds", type=int, default=5, choices=STUDENT)
    parser.add_argument("--coreset-sampling-ratio", type=float, default=1.0)
    parser.add_argument("--contestants", nargs="+", default=["ours", "host"])
    options = parser.parse_args()
    both = {
        "ours": (
            OpenCLIPPatchEmbedder(options.model, options.pretrained),
            lambda **more: VisionOpenCLIPPatchKNN(
                coreset_sampling_ratio=options.coreset_sampling_ratio, **more
            ),
        ),
        "host": (
            host_embedder(options.model, options.pretrained),
            openclip_backend.VisionOpenCLIPPatchKNN,
        ),
    }
    heads = "".join(f"{f'at {c:.2f}':>14}" for c in CONTAMINATIONS)
    print(f"{'':18}{'fitted on':>10}{'':>6}{heads}")
    for pool, read in POOLS.items():
        images = read()
        for who in options.contestants:
            embedder, build = both[who]
            remembered = Remembered(embedder, images)
            for n in FITTED_ON:
                found = [rates(build, remembered, n, seed) for seed in range(options.seeds)]
                mean = 100 * np.mean(found, axis=0)
                error = 100 * np.std(found, axis=0, ddof=1) / options.seeds**0.5
                half = STUDENT[options.seeds] * error
                cells = "".join(
                    f"{f'{m:.1f} ±{h:.1f}':>14}" for m, h in zip(mean, half, strict=True)
                )
                print(f"{pool:18}{n:>10}{who:>6}{cells}", flush=True)


if __name__ == "__main__":
    main()
