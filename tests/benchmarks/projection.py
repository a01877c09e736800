"""What the projection of patch tokens costs and saves, on one tower.

    python tests/benchmarks/projection.py

For each length and kind: how much cosine distances change (standard deviation, in percent), image
AUROC in percent, mean over sets, and the time of a search as a share of that of whole tokens.
"""

from __future__ import annotations

import argparse
from time import perf_counter

import numpy as np
import torch
from image_sets import SETS
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import OpenCLIPPatchEmbedder, VisionOpenCLIPPatchKNN
from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.search import build_search
from pyimgano_openclip.encoder.features import Projection

CHOICES = [(None, "orthonormal")] + [
    (dimension, kind) for dimension in (384, 256, 128) for kind in ("orthonormal", "gaussian")
]
PAIRS, ROUNDS = 20_000, 5


class Remembered:
    """Gives the projected tokens of image number i, encoded once."""

    def __init__(self, whole: list, project) -> None:
        self.found = [(project(tokens), grid, size) for tokens, grid, size in whole]

    def embed(self, number: int):
        return self.found[number]


def projected(tokens: np.ndarray, dimension: int | None, kind: str) -> np.ndarray:
    if dimension is None:
        return tokens
    return unit(Projection(dimension, kind)(torch.from_numpy(tokens)).numpy())


def distances(tokens: np.ndarray) -> np.ndarray:
    """Cosine distances of pairs of tokens of one set."""
    first, second = np.random.default_rng(0).integers(len(tokens), size=(2, PAIRS))
    apart = first != second
    return 1 - np.einsum("pd,pd->p", tokens[first[apart]], tokens[second[apart]])


def search_time(rows: np.ndarray) -> float:
    """Seconds to search an image's patches among the rows; the shortest of several."""
    search, times = build_search("torch", rows, "cpu"), []
    for _ in range(ROUNDS):
        start = perf_counter()
        search(rows[:225], 1, ())
        times.append(perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--pretrained")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[*SETS])
    options = parser.parse_args()
    embedder = OpenCLIPPatchEmbedder(options.model, options.pretrained, dimension=None)
    found: dict = {choice: [] for choice in CHOICES}
    for name in options.sets:
        for seed in range(options.seeds):
            images = SETS[name](seed)
            whole = embedder.embed_batch(images.train + images.test)
            train = range(len(images.train))
            exact = np.concatenate([whole[number][0] for number in train])
            for choice in CHOICES:
                rows = projected(exact, *choice)
                error = np.std(distances(rows) / distances(exact))
                remembered = Remembered(whole, lambda tokens, c=choice: projected(tokens, *c))
                detector = VisionOpenCLIPPatchKNN(embedder=remembered).fit(train)
                scores = detector.decision_function(range(len(train), len(whole)))
                found[choice].append(
                    [error, roc_auc_score(images.defective, scores), search_time(rows)]
                )
    print(f"{'length':>8} {'kind':14}{'error':>8}{'AUROC':>8}{'search':>8}")
    whole_time = np.mean(found[CHOICES[0]], axis=0)[2]
    for (dimension, kind), values in found.items():
        error, quality, time = np.mean(values, axis=0)
        length, kind = ("whole", "") if dimension is None else (str(dimension), kind)
        print(
            f"{length:>8} {kind:14}{100 * error:8.1f}{100 * quality:8.1f}{time / whole_time:8.2f}"
        )


if __name__ == "__main__":
    main()
