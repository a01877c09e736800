"""Which scoring by prompts should be the default: ours, the published ones, or mixtures.

    python tests/benchmarks/default_prompts.py

The same weights (the bundled model) on generated products that it was not trained on, on solar
cells and on textile. For each way of making patch tokens: pixel AUROC, and image AUROC of the whole
image's score (as WinCLIP's), of the 2 hottest patches, and of the mean of both (as ours). A recipe
has one image score, its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
from image_sets import solar_cells, textile
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from pyimgano_openclip import VisionOpenCLIPPromptScore, samples
from pyimgano_openclip.encoder.towers import transformer
from pyimgano_openclip.encoder.towers.side_path import SidePath
from zero_shot import images_of

PHOTOGRAPHS = 40  # of each kind
HALF = 2  # of the bundled model's blocks


class LastStage(SidePath):
    """The last stage alone: with two stages the last half of the blocks."""

    def through(self, *arguments: Any) -> Any:
        tokens = super().through(*arguments)
        self.stages = self.stages[-1:]
        return tokens


class Residual(VisionOpenCLIPPromptScore):
    """Ours, but the side path adds up on the tokens that enter it, as in CLIP Surgery."""

    blocks = 2 * HALF

    def _embedder_settings(self) -> dict[str, Any]:
        return {**super()._embedder_settings(), "stages": 1, "surgery": self.blocks}


class ResidualOfHalf(Residual):
    blocks = HALF


def _last_half() -> AbstractContextManager[Any]:
    return mock.patch.object(transformer, "SidePath", LastStage)


Build = Callable[..., VisionOpenCLIPPromptScore]
PATHS: dict[str, tuple[Build, dict[str, Any], Callable[[], AbstractContextManager[Any]]]] = {
    "ours": (VisionOpenCLIPPromptScore, {}, nullcontext),
    "ours, last half": (VisionOpenCLIPPromptScore, {"stages": 2}, _last_half),
    "residual": (Residual, {}, nullcontext),
    "residual, last half": (ResidualOfHalf, {}, nullcontext),
    "winclip": (VisionOpenCLIPPromptScore, {"recipe": "winclip"}, nullcontext),
    "clip-surgery": (VisionOpenCLIPPromptScore, {"recipe": "clip-surgery"}, nullcontext),
}


def sets_of(
    seed: int, names: Collection[str]
) -> Iterator[tuple[str, str, list, list | None, np.ndarray]]:
    """Kind, class name, images, masks, and which of them are defective."""
    photographs = {
        "solar cells": ("solar cell", solar_cells("mono", seed)),
        "textile": ("textile", textile("local", seed)),
    }
    for kind, (name, found) in photographs.items():
        if name not in names:
            continue
        chosen = [*range(PHOTOGRAPHS), *range(-PHOTOGRAPHS, 0)]
        yield kind, name, [found.test[n] for n in chosen], None, found.defective[chosen]
    for family in samples.HELD_OUT_FAMILIES:
        if family not in names:
            continue
        images, masks = images_of(family, seed)
        kind = "surfaces" if family in samples.SURFACES else "objects"
        yield kind, family, images, masks, np.array([mask.any() for mask in masks])


def measure(path: str, name: str, images: list, masks: list | None, bad: np.ndarray) -> np.ndarray:
    """AUROC by pixels, whole image, hottest patches and their mean; NaN where there is none."""
    build, settings, context = PATHS[path]
    detector = build(openclip_model_name="bundled", class_name=name, **settings)
    with context():
        scored = list(detector.score_iter(images, with_tokens=True))
    own = np.array([found.image for found in scored])
    pixels = np.nan
    if masks is not None:
        maps = np.stack([found.anomaly_map() for found in scored])
        pixels = roc_auc_score(np.stack(masks).ravel(), maps.ravel())
    if detector.recipe is not None:
        return np.array([pixels, np.nan, np.nan, roc_auc_score(bad, own)])
    scorer = detector._scorer(detector._learnt)
    whole = np.array([float(scorer.compare(found.tokens.pooled)) for found in scored])
    image = [roc_auc_score(bad, scores) for scores in (whole, 2 * own - whole, own)]
    return np.array([pixels, *image])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    names = ("solar cell", "textile", *samples.HELD_OUT_FAMILIES)
    parser.add_argument("--sets", nargs="+", default=names, choices=names)
    options = parser.parse_args()
    print("AUROC in percent: pixels / whole image, hottest patches, mean of both")
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for seed in range(options.seeds):
        for kind, name, *images in sets_of(seed, options.sets):
            for path in tqdm(PATHS, desc=f"{name}, seed {seed}", leave=False, disable=None):
                found.setdefault((kind, path), []).append(measure(path, name, *images))
    for (kind, path), rows in found.items():
        pixels, *image = 100 * np.mean(rows, axis=0)
        print(f"{kind:12} {path:20} {pixels:5.1f} / " + ", ".join(f"{one:4.1f}" for one in image))


if __name__ == "__main__":
    main()
