"""What the detectors are worth on photographs of your own: quality, promises, suspects, drift.

    python tests/benchmarks/photographs.py tiles/ cracks/ --smallest-defect 20

Each folder has images of good parts in ``good``, of defective ones in ``bad``, perhaps masks of
these in ``masks`` (PNG files of the same name), and perhaps ``groups.csv``, rows of the name of a
good image and the part that it shows. Bundled tower, mean over seeds, each of which draws other
images; quality as AUROC in percent. What is measured:

- unlabelled pools of 60 good and 15 defective images;
- patch-kNN with 50 good images, and 60 other good and 60 defective ones to score: also false alarms
  with ``contamination=0.1``, defective images above the threshold, what is refused as unlike the
  training images, and as a share of the best F1 of pixels that any one threshold reaches, that of
  pixels above the region threshold, and of those that ``explain()`` calls hot;
- of three defective images among 30 the share named by ``suspects()``, and good ones named;
- in how many of 100 orders drift is told of good images held out;
- 150 images of whole parts in random order: false alarms on other parts.
"""

from __future__ import annotations

import argparse
import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from drift import alarms
from PIL import Image
from regions import best_f1, f1
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import VisionOpenCLIPMutual, VisionOpenCLIPPatchKNN
from pyimgano_openclip.maps.regions import hot_pixels

POOL = 60, 15  # good and defective images
FITTED, SCORED = 50, 60  # images to fit with, and to score of each kind
PLANTED, AMONG = 3, 30
SHOTS = 150  # images of whole parts
EVERY = 4  # pixels, of those that are compared
ASKED = 0.1


class Photographs:
    """The images of a folder, in an order that a seed draws."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, np.random.default_rng(seed)
        self.good, self.bad = self._drawn("good"), self._drawn("bad")

    def _drawn(self, kind: str) -> list[Path]:
        paths = sorted(self.folder.joinpath(kind).iterdir())
        if not paths:
            raise SystemExit(f"{self.folder / kind} holds no images.")
        return [paths[index] for index in self.draw.permutation(len(paths))]

    def pixels(self, maps: Iterable[np.ndarray], paths: Sequence[Path]) -> Any:
        """Values of maps and whether they are defective, every fourth pixel; None if unknown."""
        if not self.folder.joinpath("masks").is_dir():
            return None
        values, truth = [], []
        for found, path in zip(maps, paths, strict=True):
            values.append(found.ravel()[::EVERY])
            mask = self.folder / "masks" / f"{path.stem}.png"
            known = np.asarray(Image.open(mask).convert("L")) if mask.exists() else found * 0
            truth.append(known.ravel()[::EVERY] > 127)
        return np.concatenate(values), np.concatenate(truth)

    def parts(self) -> list[list[Path]] | None:
        """The good images of each part, parts in random order."""
        file, found = self.folder / "groups.csv", dict[str, list[Path]]()
        if not file.exists():
            return None
        with file.open(newline="") as rows:
            for name, part, *_ in csv.reader(rows):
                found.setdefault(part, []).append(self.folder / "good" / name)
        every = list(found.values())
        return [every[index] for index in self.draw.permutation(len(every))]


def patchknn(paths: Sequence[Path], **settings: Any) -> VisionOpenCLIPPatchKNN:
    return VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", contamination=ASKED, **settings
    ).fit(paths)


def auroc(truth: np.ndarray, values: np.ndarray) -> float:
    return 100 * float(roc_auc_score(truth, values))


def pool(images: Photographs) -> dict[str, float]:
    good, bad = POOL
    paths = images.good[:good] + images.bad[:bad]
    detector = VisionOpenCLIPMutual(openclip_model_name="bundled").fit(paths)
    found = {"image": auroc(np.arange(len(paths)) >= good, detector.decision_scores_)}
    pixels = images.pixels(detector.iter_anomaly_maps(paths), paths)
    return found if pixels is None else {**found, "pixel": auroc(pixels[1], pixels[0])}


def few_shot(images: Photographs, **settings: Any) -> dict[str, float]:
    detector = patchknn(images.good[:FITTED], **settings)
    normal = images.good[FITTED : FITTED + SCORED]
    paths = normal + images.bad[:SCORED]
    scored = list(detector.score_iter(paths))
    bad = np.arange(len(paths)) >= len(normal)
    above = np.array([one.image > detector.threshold_ for one in scored])
    refused = np.array([one.unlike is not None for one in scored])
    found = {
        "image": auroc(bad, np.array([one.image for one in scored])),
        "false alarms": 100 * above[~bad].mean(),
        "found": 100 * above[bad].mean(),
        "refused good": 100 * refused[~bad].mean(),
        "refused bad": 100 * refused[bad].mean(),
    }
    threshold = detector.region_threshold()
    pixels = images.pixels((one.anomaly_map() for one in scored), paths)
    hot = images.pixels((hot_pixels(one.anomaly_map(), threshold) for one in scored), paths)
    if pixels is None:
        return found
    share = 100 / best_f1(*pixels)
    return {
        **found,
        "pixel": auroc(pixels[1], pixels[0]),
        "F1 above the threshold": share * f1(*pixels, threshold),
        "F1 of explain()": share * f1(*hot, 0),
    }


def suspects(images: Photographs) -> dict[str, float]:
    planted = images.bad[:PLANTED]
    detector = patchknn([*planted, *images.good[: AMONG - PLANTED]])
    named = [one.image for one in detector.suspects()]
    right = sum(image < PLANTED for image in named)
    return {"named": 100 * right / PLANTED, "good ones": len(named) - right}


def drift(images: Photographs) -> dict[str, float]:
    detector = patchknn(images.good[:FITTED])
    return {"orders": alarms(detector, list(detector.score_iter(images.good[FITTED:])))}


def shots(images: Photographs) -> dict[str, float]:
    parts = images.parts()
    if parts is None:
        return {}
    train: list[Path] = []
    while len(train) < SHOTS:
        train += parts.pop()
    detector = patchknn([train[index] for index in images.draw.permutation(len(train))])
    others = [path for part in parts for path in part]
    other = [others[index] for index in images.draw.permutation(len(others))[: 2 * SHOTS]]
    return {"false alarms": 100 * float(np.mean(detector.predict(other)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--smallest-defect", type=int, help="patch-kNN with windows as well")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    kinds = {"pool": pool, "patch-kNN": few_shot, "suspects": suspects, "drift": drift}
    if options.smallest_defect:
        kinds["windows"] = lambda images: few_shot(images, smallest_defect=options.smallest_defect)
    for folder in options.folders:
        for kind, measure in {**kinds, "shots": shots}.items():
            each = [measure(Photographs(folder, seed)) for seed in range(options.seeds)]
            told = [f"{name} {np.mean([one[name] for one in each]):.1f}" for name in each[0]]
            if told:
                print(f"{folder.name:12}{kind:12}" + ", ".join(told), flush=True)


if __name__ == "__main__":
    main()
