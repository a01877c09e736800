"""What the weights are worth, measured through the detectors as a user would call them.

Every figure is an AUROC in percent, once per evaluation seed, beside the same network with random
weights. A seed decides the products, the pictures and the random weights.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.encoder.weights import find_source, load_model
from pyimgano_openclip.samples import HELD_OUT_FAMILIES, OBJECTS, Sample, defects_of, make_sample

from . import network
from .captions import Vocabulary
from .data import TRAINING_FAMILIES

Figures = dict[str, list[float]]
NORMAL_FROM = 500  # seeds of normal test pictures, after those of the bank and of the defects


@dataclass(frozen=True)
class Scale:
    """How much to measure.

    Attributes:
        seeds: Evaluation seeds.
        families: Families to measure, none of them in training.
        seen: Objects that were in training, to be measured on other products: what families that
            training has not seen could reach at best. One product each.
        products: Products of a family, zero-shot.
        photographs: Real photographs of each kind; 0 leaves the real data out.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    families: tuple[str, ...] = HELD_OUT_FAMILIES
    seen: tuple[str, ...] = tuple(family for family in TRAINING_FAMILIES if family in OBJECTS)
    products: int = 2
    photographs: int = 150


def measure(folder: Path, scale: Scale, device: str) -> Figures:
    """Figures of the weights in `folder`, one number per seed."""
    figures: Figures = {}
    for seed in scale.seeds:
        _append(figures, _figures(folder, seed, scale, device))
    return figures


def measure_random(scale: Scale, device: str) -> Figures:
    """Figures of the same network with random weights, others for each seed."""
    figures: Figures = {}
    vocabulary = Vocabulary()
    for seed in scale.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            state = network.build(vocabulary, 1000 + seed).state_dict()
            network.save(Path(scratch), state, vocabulary)
            _append(figures, _figures(Path(scratch), seed, scale, device))
    return figures


def _append(figures: Figures, found: dict[str, float]) -> None:
    for name, value in found.items():
        figures.setdefault(name, []).append(100 * value)


def _figures(folder: Path, seed: int, scale: Scale, device: str) -> dict[str, float]:
    found = _zero_shot(folder, seed, scale, device)
    for shots in (4, 16):
        found |= _few_shot(folder, seed, scale, device, shots)
    if scale.photographs and find_spec("elpv_dataset"):
        found |= _solar_cells(folder, seed, scale.photographs, device)
    if scale.photographs and find_spec("conformal_clip_data"):
        found |= _textile(folder, seed, scale.photographs, device)
    return found


def _zero_shot(folder: Path, seed: int, scale: Scale, device: str) -> dict[str, float]:
    detector = VisionOpenCLIPPromptScore(openclip_model_name=f"local-dir:{folder}", device=device)
    scores = {}
    products = dict.fromkeys(scale.families, scale.products) | dict.fromkeys(scale.seen, 1)
    for family, count in products.items():
        places = range(10 * seed, 10 * seed + count)
        samples = [sample for product in places for sample in _shots(family, product)]
        scores[family] = _both(detector.set_class_name(family), samples)
    kinds = {
        "all": scale.families,
        "surfaces": [family for family in scale.families if family not in OBJECTS],
        "objects": [family for family in scale.families if family in OBJECTS],
        "objects seen in training": scale.seen,
    }
    found = {}
    for kind, families in kinds.items():
        chosen = [scores[family] for family in families]
        for side, name in enumerate(("image", "pixel")):
            found[f"zero-shot {kind} {name}"] = float(np.mean([pair[side] for pair in chosen]))
    return found


def _few_shot(folder: Path, seed: int, scale: Scale, device: str, shots: int) -> dict[str, float]:
    scores = []
    for family in scale.families:
        product = 100 + seed
        detector = VisionOpenCLIPPatchKNN(openclip_model_name=f"local-dir:{folder}", device=device)
        detector.fit([make_sample(family, seed=s, product=product).image for s in range(shots)])
        scores.append(_both(detector, _shots(family, product)))
    image, pixel = np.mean(scores, axis=0)
    return {f"{shots}-shot image": float(image), f"{shots}-shot pixel": float(pixel)}


def _shots(family: str, product: int) -> list[Sample]:
    """One picture of a product with each defect it can have, and as many without."""
    defects = defects_of(family)
    normal = [
        make_sample(family, seed=NORMAL_FROM + s, product=product) for s in range(len(defects))
    ]
    damaged = [
        make_sample(family, seed=100 + number, product=product, defect=defect)
        for number, defect in enumerate(defects)
    ]
    return normal + damaged


Detector = VisionOpenCLIPPatchKNN | VisionOpenCLIPPromptScore


def _both(detector: Detector, samples: list[Sample]) -> tuple[float, float]:
    """AUROC of images and of pixels."""
    images = [sample.image for sample in samples]
    masks = np.stack([sample.mask for sample in samples])
    defective = masks.any(axis=(1, 2))
    image = roc_auc_score(defective, detector.decision_function(images))
    pixel = roc_auc_score(masks.ravel(), detector.predict_anomaly_map(images).ravel())
    return float(image), float(pixel)


def _solar_cells(folder: Path, seed: int, count: int, device: str) -> dict[str, float]:
    """Real cells that experts call certainly intact or certainly defective."""
    from elpv_dataset.utils import load_dataset

    images, probability, kind = load_dataset()
    rng = np.random.default_rng(seed)
    chosen = {}
    for name, value in (("intact", 0), ("defective", 1)):
        where = rng.permutation(np.flatnonzero((kind == "mono") & (probability == value)))
        chosen[name] = [np.repeat(images[i][..., None], 3, -1) for i in where[: count + 50]]
    bank, intact, defective = (
        chosen["intact"][:50],
        chosen["intact"][50:],
        chosen["defective"][:count],
    )
    neighbours = VisionOpenCLIPPatchKNN(openclip_model_name=f"local-dir:{folder}", device=device)
    prompts = VisionOpenCLIPPromptScore(
        openclip_model_name=f"local-dir:{folder}", class_name="solar cell", device=device
    )
    return {
        "solar cells, 50 normal": _images(neighbours.fit(bank), intact, defective),
        "solar cells, zero-shot": _images(prompts, intact, defective),
    }


def _textile(folder: Path, seed: int, count: int, device: str) -> dict[str, float]:
    """Simulated weaving defects on textile photographs."""
    import conformal_clip_data as data

    rng = np.random.default_rng(seed)

    def draw(directory: Path, count: int) -> list[Path]:
        paths = sorted(Path(directory).glob("*.jpg"))
        return [paths[i] for i in rng.permutation(len(paths))[:count]]

    nominal = draw(data.nominal_dir(), count + 16)
    prompts = VisionOpenCLIPPromptScore(
        openclip_model_name=f"local-dir:{folder}", class_name="textile", device=device
    )
    neighbours = VisionOpenCLIPPatchKNN(openclip_model_name=f"local-dir:{folder}", device=device)
    neighbours.fit(nominal[:16])
    found = {}
    for name, directory in (("local", data.local_dir()), ("global", data.global_dir())):
        damaged = draw(directory, count)
        found[f"textile {name}, zero-shot"] = _images(prompts, nominal[16:], damaged)
        found[f"textile {name}, 16 normal"] = _images(neighbours, nominal[16:], damaged)
    return found


Pictures = list[NDArray[np.uint8]] | list[Path]


def _images(detector: Detector, intact: Pictures, defective: Pictures) -> float:
    scores = detector.decision_function([*intact, *defective])
    return float(roc_auc_score([0] * len(intact) + [1] * len(defective), scores))


def seconds(folder: Path) -> tuple[float, float]:
    """Seconds to load the model, and to score one picture of a batch, on one CPU core."""
    name = f"local-dir:{folder}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        detector = VisionOpenCLIPPromptScore(openclip_model_name=name, device="cpu")
        detector.decision_function([make_sample("leather", seed=0).image])
        loading = [_timed(lambda: load_model(find_source(name, None))) for _ in range(5)]
        scoring = []
        for start in range(100, 260, 32):  # other pictures each time: scores are kept
            pictures = [make_sample("leather", seed=start + i).image for i in range(32)]
            scoring.append(_timed(lambda p=pictures: detector.decision_function(p)) / len(pictures))
    finally:
        torch.set_num_threads(threads)
    return min(loading), min(scoring)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
