"""What patch-kNN's defaults buy, all compared together, by the number of training images.

    python tests/benchmarks/joint.py --images 1 5 10 --seeds 10 --results few.jsonl
    python tests/benchmarks/joint.py --images 50 --seeds 4 --results fifty.jsonl

Image AUROC in percent on crops in place / on the same crops moved by up to 2 % of the side and 1.5
degrees: the default, then what changes if one choice is another, with a star if that is more than
two standard errors over seeds. Bundled tower; each image is encoded once, at three depths, and all
choices follow from these tokens. The first half of the sets chooses, the second one reports. What
is in the file of results is not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir

import numpy as np
import torch
from movement import SHIFT, TURN, piece, whole_images
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import OpenCLIPPatchEmbedder
from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.enrolment import COPIES
from pyimgano_openclip.bank.memory_bank import MemoryBank
from pyimgano_openclip.bank.origins import StoredImage
from pyimgano_openclip.encoder.features import Projection
from pyimgano_openclip.images.views import View, patches_of_original, planned, seen, views_of
from pyimgano_openclip.maps.scores import HOTTEST

CHOOSING = ("carpet", "cork", "gear", "screw", "elpv mono", "brick")
REPORTING = ("circuit board", "elpv poly", "panels", "retina", "cell", "hubble_deep_field")
DEPTHS, WINDOWS = (0.25, 0.5, 0.75), (1, 3)
GRID = (12, 12)
AT_ONCE = 8  # copies
PROJECTIONS = {length: Projection(length) for length in (384, 256)}
PASSES = (View(), View(0, 1 / 36, 1 / 36), View(0, -1 / 36, -1 / 36))


@dataclass(frozen=True)
class Tokens:
    """How tokens are made of those of all depths and neighbourhoods."""

    depths: tuple[float, ...] = (0.5, 0.75)
    windows: tuple[int, ...] = (1, 3)
    length: int = 384

    def of(self, parts: np.ndarray) -> np.ndarray:
        """Tokens (N, patches, D) of parts (N, patches, depths, windows, D)."""
        depths = [DEPTHS.index(depth) for depth in self.depths]
        windows = [WINDOWS.index(window) for window in self.windows]
        some = parts[:, :, depths][:, :, :, windows].astype(np.float32)
        tokens = torch.from_numpy(unit(some.reshape(-1, some[0, 0].size)))
        shorter = unit(PROJECTIONS[self.length](tokens).numpy())
        return shorter.reshape(*parts.shape[:2], -1)


@dataclass(frozen=True)
class Bank:
    """What is stored: moved copies, so many of them, and so many rows."""

    tokens: Tokens = Tokens()
    views: tuple[View, ...] = views_of(1, 0.02)
    copies: int = COPIES
    rows: int = 5_000

    def plan(self, count: int) -> list[tuple[int, View]]:
        """The copies of so many images."""
        return [(image, self.views[v]) for image, v in planned(self.views, count, self.copies)]


@dataclass(frozen=True)
class Choice:
    """One choice of the defaults."""

    bank: Bank = Bank()
    neighbours: int = 1
    hottest: int = HOTTEST  # patches that the image score averages
    passes: int = 1  # with 3, the mean over the image and two copies moved by a third of a patch


DEFAULT = "the defaults"
TURNED = View(TURN, 0, 1e-9)  # like a moved copy, not of all images
PLAIN = Bank(views=views_of(1, 0))
CHOICES = {
    DEFAULT: Choice(),
    "jitter=0": Choice(PLAIN),
    "jitter=0.03": Choice(Bank(views=views_of(1, 0.03))),
    "a copy turned by 1.5 degrees as well": Choice(
        Bank(views=(*views_of(1, 0.02), TURNED), copies=COPIES * 5 // 4)
    ),
    "two moved passes in a score, no jitter": Choice(PLAIN, passes=3),
    "two moved passes, and jitter": Choice(passes=3),
    "50 copies": Choice(Bank(copies=50)),
    "200 copies": Choice(Bank(copies=200)),
    "depths 0.25 0.5 0.75": Choice(Bank(Tokens(depths=DEPTHS))),
    "depth 0.75": Choice(Bank(Tokens(depths=(0.75,)))),
    "neighbourhood 1": Choice(Bank(Tokens(windows=(1,)))),
    "neighbourhood 3": Choice(Bank(Tokens(windows=(3,)))),
    "dimension=256": Choice(Bank(Tokens(length=256))),
    "n_neighbors=3": Choice(neighbours=3),
    "the hottest patch alone": Choice(hottest=1),
    "the 4 hottest": Choice(hottest=4),
    "the 8 hottest": Choice(hottest=8),
    "max_patches=3,000": Choice(Bank(rows=3_000)),
    "max_patches=10,000": Choice(Bank(rows=10_000)),
    "max_patches=20,000": Choice(Bank(rows=20_000)),
}


class Measured:
    """A set with its tokens, each image and copy encoded once.

    Args:
        embedder: Of all depths and neighbourhoods, not projected.
        images: Normal images to fit with, normal and defective ones to test with, with a margin.
        seed: Of the moves.
    """

    def __init__(
        self, embedder: OpenCLIPPatchEmbedder, images: tuple[list, ...], seed: int
    ) -> None:
        train, self._normal, bad = images
        self._embedder, self._train = embedder, [piece(image) for image in train]
        self._test, draw = [*self._normal, *bad], np.random.default_rng(100 + seed)
        self._moves = [
            (*draw.uniform(-SHIFT, SHIFT, 2), draw.uniform(-TURN, TURN)) for _ in self._test
        ]
        self._copies: dict[tuple[int, View], np.ndarray] = {}
        self._passes: dict[View, np.ndarray] = {}
        self._nearest: dict[tuple[View, Tokens], dict[tuple[int, View], np.ndarray]] = {}
        self._tokens: dict[tuple[View, Tokens], np.ndarray] = {}
        self._banks: dict[tuple, MemoryBank] = {}
        self._distances: dict[tuple, np.ndarray] = {}

    @cached_property
    def _shown(self) -> list[np.ndarray]:
        """Images to test with in place, then the same moved."""
        placed = [piece(image) for image in self._test]
        moved = [piece(image, *move) for image, move in zip(self._test, self._moves, strict=True)]
        return placed + moved

    def _encoded(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Shape (N, patches, depths, windows, D), parts of unit length."""
        found = np.stack([tokens for tokens, _, _ in self._embedder.embed_batch(images)])
        parts = found.reshape(*found.shape[:2], len(DEPTHS), len(WINDOWS), -1)
        return parts.astype(np.float16)

    def _stored(self, made: Tokens, plan: list[tuple[int, View]]) -> list[np.ndarray]:
        """Tokens of copies, of each shape (patches, D)."""
        new = [copy for copy in plan if copy not in self._copies]
        if new:
            tokens = self._encoded([seen(self._train[image], view) for image, view in new])
            self._copies.update(zip(new, tokens, strict=True))
        tokens = made.of(np.stack([self._copies[copy] for copy in plan]))
        size = self._train[0].shape[:2]
        places = [patches_of_original(GRID, size, view) for _, view in plan]
        return [of_copy[inside] for of_copy, inside in zip(tokens, places, strict=True)]

    def _bank(self, made: Bank, count: int) -> MemoryBank:
        """A bank of so many images and their copies, filled as a detector fills it."""
        plan, bank = made.plan(count), MemoryBank("torch", limit=made.rows)
        image = StoredImage(GRID, self._train[0].shape[:2])
        for (_, view), tokens in zip(plan, self._stored(made.tokens, plan), strict=True):
            bank.add(image, tokens, made.views.index(view))
        bank.thin(made.rows)
        return bank

    def _away(self, made: Tokens, plan: list[tuple[int, View]], view: View) -> np.ndarray:
        """Distances to the nearest of all patches of copies, each product computed once."""
        known, asked = self._nearest.setdefault((view, made), {}), self._asked(view, made)
        new = [copy for copy in plan if copy not in known]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]
            stored = self._stored(made, some)
            product = torch.from_numpy(asked) @ torch.from_numpy(np.concatenate(stored)).T
            each = product.split([len(tokens) for tokens in stored], dim=1)
            nearest = [part.amax(dim=1).numpy() for part in each]
            known.update(zip(some, nearest, strict=True))
        return 1 - np.max([known[copy] for copy in plan], axis=0)

    def _asked(self, view: View, tokens: Tokens) -> np.ndarray:
        """Tokens of one pass of the images to test with, shape (N * patches, D)."""
        if (view, tokens) not in self._tokens:
            if view not in self._passes:
                self._passes[view] = self._encoded([seen(image, view) for image in self._shown])
            found = tokens.of(self._passes[view])
            self._tokens[view, tokens] = found.reshape(-1, found.shape[-1])
        return self._tokens[view, tokens]

    def distances(self, choice: Choice, count: int) -> np.ndarray:
        """Of the patches of all images to test with, shape (N, patches)."""
        made, plan = choice.bank, choice.bank.plan(count)
        rows = min(made.rows, len(plan) * GRID[0] * GRID[1])
        key = (made.tokens, tuple(plan), rows, choice.neighbours, choice.passes)
        if key not in self._distances:  # choices that come to the same are measured once
            passes = PASSES[: choice.passes]
            if rows < made.rows and choice.neighbours == 1:  # all are kept
                found = [self._away(made.tokens, plan, view) for view in passes]
            else:
                bank, many = self._banks.get(key[:3]), choice.neighbours
                if bank is None:
                    bank = self._banks[key[:3]] = self._bank(made, count)
                found = [
                    bank.nearest_distance(self._asked(view, made.tokens), many) for view in passes
                ]
            self._distances[key] = np.mean(found, axis=0).reshape(len(self._shown), -1)
        return self._distances[key]

    def auroc(self, choice: Choice, count: int) -> list[float]:
        """In place and moved."""
        truth = np.arange(len(self._test)) >= len(self._normal)
        hottest = np.sort(self.distances(choice, count), axis=1)[:, -choice.hottest :].mean(axis=1)
        return [100 * roc_auc_score(truth, scores) for scores in np.split(hottest, 2)]


def measure(options: argparse.Namespace, known: set) -> Iterator[dict]:
    """AUROC of each choice, seed by seed."""
    embedder = OpenCLIPPatchEmbedder(
        "bundled", None, layers=DEPTHS, neighbourhoods=WINDOWS, dimension=None
    )
    for seed in range(options.seeds):
        for name in options.sets:
            wanted = [
                (count, what)
                for count in options.images
                for what in dict.fromkeys([DEFAULT, *(options.only or CHOICES)])
                if (count, name, seed, what) not in known
            ]
            if not wanted:
                continue
            images = whole_images(name, seed, max(options.images), options.test)
            measured = Measured(embedder, images, seed)
            for count, what in wanted:
                found = measured.auroc(CHOICES[what], count)
                yield {"count": count, "set": name, "seed": seed, "choice": what, "auroc": found}


def told(found: list[dict], counts: list[int]) -> None:
    """Print a table: the default, then by how much the others are better or worse."""
    rows = {
        (row["count"], row["choice"], row["set"], row["seed"]): np.array(row["auroc"])
        for row in found
    }
    for what in CHOICES:
        cells = [
            cell(rows, count, what, half) for count in counts for half in (CHOOSING, REPORTING)
        ]
        if any(cells):
            print("|", " | ".join([what, *cells]), "|", flush=True)


def cell(rows: dict, count: int, what: str, half: tuple[str, ...]) -> str:
    """Mean over sets; with a star what is more than two standard errors away from the default."""
    by_set: dict[str, list] = {}
    for (number, choice, name, seed), auroc in rows.items():
        if (number, choice) == (count, what) and name in half:
            usual = 0 if what == DEFAULT else rows[count, DEFAULT, name, seed]
            by_set.setdefault(name, []).append(auroc - usual)
    if not by_set:
        return ""
    mean = np.mean([np.mean(each, axis=0) for each in by_set.values()], axis=0)
    if what == DEFAULT:
        return f"{mean[0]:.1f} / {mean[1]:.1f}"
    squares = [np.var(each, axis=0, ddof=1) / len(each) for each in by_set.values() if each[1:]]
    error = np.sqrt(np.sum(squares, axis=0)) / len(squares) if squares else np.full(2, np.inf)
    return " / ".join(
        f"{m:+.1f}{'*' if abs(m) > 2 * e else ''}" for m, e in zip(mean, error, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--test", type=int, default=20, help="images of each kind")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="+", default=[*CHOOSING, *REPORTING])
    parser.add_argument("--only", nargs="*", choices=CHOICES)
    parser.add_argument(
        "--results", type=Path, default=Path(gettempdir(), "joint.jsonl"), help="added to"
    )
    options = parser.parse_args()
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    found = [json.loads(line) for line in lines]
    known = {(row["count"], row["set"], row["seed"], row["choice"]) for row in found}
    with options.results.open("a") as file:
        for row in measure(options, known):
            print(json.dumps(row), file=file, flush=True)
            found.append(row)
    heads = (f"{count}: {half}" for count in options.images for half in ("choosing", "reporting"))
    print("| |", " | ".join(heads), "|")
    told(found, options.images)


if __name__ == "__main__":
    main()
