"""What images of an unlabelled pool are worth to each other: ours beside the published recipe.

    python tests/benchmarks/mutual.py --sets "elpv mono" "elpv poly" leather carpet screw capsule
    OMP_NUM_THREADS=1 python tests/benchmarks/mutual.py --cost --sizes 200 1000

Image AUROC in percent of pools of 60 normal images and so many anomalous ones that they are a share
of 5, 10, 20 and 40 %, mean over seeds; or what comparing costs by the size of the pool: processor
time per image, as a multiple of that of towers, and the peak of memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from image_sets import normal_and_defective
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import OpenCLIPPatchEmbedder, VisionOpenCLIPMutual

NORMAL, BAD = 60, 40  # images of a pool, at most
SHARES = (0.05, 0.1, 0.2, 0.4)
SIZES = (200, 1000, 5000)  # images
TOWERS = ("bundled", "ViT-B-16-plus-240")  # both see 240 x 240 pixels
PATCHES, WIDTH = (15, 15), 384


class Tokens:
    """An embedder that costs nothing: random tokens around one place of a grid."""

    def embed(self, number: int):
        draw = np.random.default_rng(int(number))
        common = np.random.default_rng(0).normal(size=(225, WIDTH))
        return common + draw.normal(size=common.shape), PATCHES, (240, 240)


def quality(sets: list[str], recipes: list[str], seeds: int) -> None:
    print(f"{'':14}{'':8}" + "".join(f"{f'{share:.0%} bad':>10}" for share in SHARES))
    for name in sets:
        normal, bad = normal_and_defective(name, NORMAL, BAD)
        for recipe in recipes:
            cells = []
            for share in SHARES:
                count = min(BAD, round(NORMAL * share / (1 - share)))
                found = []
                for seed in range(seeds):
                    chosen = np.random.default_rng(seed).permutation(BAD)[:count]
                    pool = normal + [bad[index] for index in chosen]
                    detector = VisionOpenCLIPMutual(openclip_model_name="bundled", recipe=recipe)
                    scores = detector.fit(pool).decision_scores_
                    found.append(100 * roc_auc_score(np.arange(len(pool)) >= NORMAL, scores))
                cells.append(f"{np.mean(found):>10.1f}")
            print(f"{name:14}{recipe:8}" + "".join(cells), flush=True)


def cost(sizes: list[int]) -> None:
    embedder, draws = Tokens(), range(20)
    drawing = processor_time(lambda: [embedder.embed(number) for number in draws]) / len(draws)
    before = peak()
    compared = {}
    for size in sorted(sizes):
        detector = VisionOpenCLIPMutual(embedder=embedder)
        seconds = processor_time(lambda: detector.fit(list(range(size))))  # noqa: B023
        compared[size] = seconds / size - drawing, peak() - before
    towers = {name: encoding(name) for name in TOWERS}
    for size, (seconds, memory) in compared.items():
        ratios = ", ".join(f"{seconds / each:.2f} x {name}" for name, each in towers.items())
        print(f"{size} images: {1000 * seconds:.1f} ms each, {ratios}; {memory:.0f} MB more")


def encoding(name: str) -> float:
    """Processor time in seconds that a tower, with any weights, takes for an image."""
    tower = OpenCLIPPatchEmbedder(name, None, precision="float32", layers=(0.5, 0.75))
    images = list(np.random.default_rng(0).integers(0, 256, (8, 240, 240, 3), np.uint8))
    tower.embed_batch(images)
    return min(processor_time(lambda: tower.embed_batch(images)) for _ in range(3)) / len(images)


def processor_time(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def peak() -> float:
    """Most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # kB on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=["elpv mono", "elpv poly", "leather", "screw"])
    parser.add_argument("--recipes", nargs="+", default=["fused", "musc"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--cost", action="store_true", help="by the size of the pool")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    options = parser.parse_args()
    if options.cost:
        cost(options.sizes)
    else:
        quality(options.sets, options.recipes, options.seeds)


if __name__ == "__main__":
    main()
