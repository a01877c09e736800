"""What patch-kNN's defaults buy, all compared together, by the number of training images.

    python tests/benchmarks/joint.py --images 1 5 --seeds 5
    python tests/benchmarks/joint.py --images 50 --sets gear "elpv mono" --rows 20000 5000

Image AUROC in percent on crops in place / on the same crops moved by up to 2 % of the side and 1.5
degrees: the default, then what changes if one choice is another. Bundled tower, 20 normal and 20
defective images; each is encoded once, at three depths, and all choices follow from these tokens.
The first half of the sets chooses, the second one reports.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from image_sets import photograph, textile_images
from movement import SHIFT, TURN, piece, whole_images
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import OpenCLIPPatchEmbedder
from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.memory_bank import MemoryBank
from pyimgano_openclip.bank.origins import StoredImage
from pyimgano_openclip.encoder.features import Projection
from pyimgano_openclip.images.views import WAYS, View, patches_of_original, seen
from pyimgano_openclip.maps.scores import image_score

CHOOSING = ("carpet", "cork", "gear", "screw", "elpv mono", "brick")
REPORTING = ("elpv poly", "textile local", "gravel", "immunohistochemistry")
TEST = 20  # images of each kind
DEPTHS, WINDOWS = (0.25, 0.5, 0.75), (1, 3)
SCORES = {"hottest": ("max", None), "4": ("topk_mean", None)}


@dataclass(frozen=True)
class Choice:
    """One choice of the defaults; a moved copy is one of ``views``."""

    name: str
    depths: tuple[float, ...] = (0.5, 0.75)
    windows: tuple[int, ...] = (1, 3)
    length: int | None = 384
    views: tuple[View, ...] = (View(), *(View(0, 0.02 * y, 0.02 * x) for y, x in WAYS))
    rows: int | None = 10_000
    score: str = "4"
    shifted: bool = False  # mean over the image and two copies of it, moved by a third of a patch


DEFAULT = Choice("the default")
TURNED = (View(TURN), View(-TURN))
OTHERS = (
    Choice("jitter 0", views=(View(),)),
    Choice("jitter 0.03", views=(View(), *(View(0, 0.03 * y, 0.03 * x) for y, x in WAYS))),
    Choice("jitter 0.02, and turns of 1.5 degrees", views=(*DEFAULT.views, *TURNED)),
    Choice("jitter 0, two shifted passes", views=(View(),), shifted=True),
    Choice("two shifted passes as well", shifted=True),
    Choice("depths 0.25 0.5 0.75", depths=DEPTHS),
    Choice("depth 0.75", depths=(0.75,)),
    Choice("neighbourhood 1", windows=(1,)),
    Choice("dimension 256", length=256),
    Choice("hottest patch", score="hottest"),
)
PASSES = (View(0, 1 / 36, 1 / 36), View(0, -1 / 36, -1 / 36))


def images_of(name: str, seed: int, train: int) -> tuple[list, list, list]:
    """Normal images to fit with, normal and defective ones to test with, all with a margin."""
    if name == "textile local":
        nominal = textile_images("nominal", seed, train + TEST)
        return nominal[:train], nominal[train:], textile_images("local", seed, TEST)
    if name in ("brick", "grass", "gravel", "immunohistochemistry"):
        found = photograph(name, seed, "margin", train=train)
        return found.train, found.test[:TEST], found.test[-TEST:]
    return whole_images(name, seed, train, TEST)


class Encoded:
    """Tokens of images and of their copies, each encoded once at all depths."""

    def __init__(self) -> None:
        self.embedder = OpenCLIPPatchEmbedder(
            "bundled", None, layers=DEPTHS, neighbourhoods=WINDOWS, dimension=None
        )
        self.projections = {length: Projection(length) for length in (384, 256)}

    def __call__(self, images: list[np.ndarray]) -> np.ndarray:
        """Shape (N, patches, depths, windows, D), parts of unit length."""
        found = np.stack([tokens for tokens, _, _ in self.embedder.embed_batch(images)])
        parts = found.reshape(*found.shape[:2], len(DEPTHS), len(WINDOWS), -1)
        return parts.astype(np.float16)

    def chosen(self, parts: np.ndarray, choice: Choice) -> np.ndarray:
        """Tokens of shape (N, patches, D)."""
        depths = [DEPTHS.index(depth) for depth in choice.depths]
        windows = [WINDOWS.index(window) for window in choice.windows]
        some = parts[:, :, depths][:, :, :, windows].astype(np.float32)
        tokens = unit(some.reshape(-1, some[0, 0].size))
        if choice.length is not None:
            tokens = unit(self.projections[choice.length](torch.from_numpy(tokens)).numpy())
        return tokens.reshape(*parts.shape[:2], -1)


def bank_of(copies: dict[View, np.ndarray], size: tuple[int, int], choice: Choice) -> MemoryBank:
    """A bank of images and their copies, by view."""
    bank, grid = MemoryBank("torch", limit=choice.rows), (12, 12)
    for image in range(len(copies[View()])):
        for number, view in enumerate(choice.views):
            inside = patches_of_original(grid, size, view)
            stored = StoredImage(grid, size)
            bank.add(stored, copies[view][image][inside], number, inside)
    if choice.rows is not None:
        bank.thin(choice.rows)
    return bank


def auroc(distances: np.ndarray, score: str) -> float:
    """Of patch scores, shape (2 * TEST, patches)."""
    scores = [image_score(patches, *SCORES[score]) for patches in distances]
    return 100 * roc_auc_score(np.arange(2 * TEST) >= TEST, scores)


def measure(
    name: str, seed: int, counts: list[int], choices: list[Choice], encoded: Encoded
) -> Iterator[tuple[int, Choice, list[float]]]:
    """AUROC in place and moved, for each number of training images and each choice."""
    train, *test = images_of(name, seed, max(counts))
    draw, train = np.random.default_rng(100 + seed), [piece(image) for image in train]
    test = [image for kind in test for image in kind]
    moves = [(*draw.uniform(-SHIFT, SHIFT, 2), draw.uniform(-TURN, TURN)) for _ in test]
    placed = [piece(image) for image in test]
    moved = [piece(image, *move) for image, move in zip(test, moves, strict=True)]
    size = train[0].shape[:2]
    views = dict.fromkeys(view for choice in choices for view in choice.views)
    copies = {view: encoded([seen(image, view) for image in train]) for view in views}
    passes = (View(), *(PASSES if any(choice.shifted for choice in choices) else ()))
    shown = {view: encoded([seen(image, view) for image in (*placed, *moved)]) for view in passes}
    known: dict[Choice, np.ndarray] = {}
    for count in counts:
        known.clear()
        for choice in choices:
            key = replace(choice, name="", score="")
            if key not in known:
                bank = bank_of(
                    {v: encoded.chosen(copies[v][:count], choice) for v in choice.views},
                    size,
                    choice,
                )
                known[key] = np.mean(
                    [
                        searched(bank, encoded.chosen(shown[view], choice))
                        for view in (passes if choice.shifted else passes[:1])
                    ],
                    axis=0,
                )
            halves = np.split(known[key], 2)
            yield count, choice, [auroc(half, choice.score) for half in halves]


def searched(bank: MemoryBank, tokens: np.ndarray) -> np.ndarray:
    flat = tokens.reshape(-1, tokens.shape[-1])
    return bank.nearest_distance(flat).reshape(tokens.shape[:2])


def told(found: dict, count: int, choices: list[Choice], sets: list[str]) -> None:
    """Print a table: the default, then by how much the others are better or worse."""
    halves = [[name for name in half if name in sets] for half in (CHOOSING, REPORTING)]
    for choice in choices:
        cells = ""
        for half in filter(None, halves):
            here, usual = (
                np.mean([found[count, name, each.name] for name in half], axis=(0, 1))
                for each in (choice, DEFAULT)
            )
            if choice is DEFAULT:
                cells += f"{here[0]:8.1f} /{here[1]:6.1f}"
            else:
                cells += f"{here[0] - usual[0]:+8.1f} /{here[1] - usual[1]:+6.1f}"
        print(f"{choice.name:40}{cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="+", default=[*CHOOSING, *REPORTING])
    parser.add_argument("--rows", nargs="*", type=int, default=[], help="other limits of the bank")
    parser.add_argument("--only", nargs="*", help="names of the other choices")
    options = parser.parse_args()
    choices = [DEFAULT, *(c for c in OTHERS if options.only is None or c.name in options.only)]
    choices += [Choice(f"{rows:,} rows", rows=rows) for rows in options.rows]
    found, encoded = defaultdict(list), Encoded()
    for name in options.sets:
        for seed in range(options.seeds):
            for count, choice, both in measure(name, seed, options.images, choices, encoded):
                found[count, name, choice.name].append(both)
    for count in options.images:
        print(f"\n{count} training images, {options.seeds} seeds: choosing, reporting")
        told(found, count, choices, options.sets)


if __name__ == "__main__":
    main()
