"""What thresholds promise, and what they keep: simulated through fit(), and on solar cells.

    python tests/benchmarks/promises.py simulated --images 30 60 150
    python tests/benchmarks/promises.py cells
    python tests/benchmarks/promises.py groups

``simulated``: images of known distribution by custom embedders; in how many of 200 fits with
``confidence=0.95`` at most ``contamination`` of all images are flagged, and how many are flagged on
average. ``cells``: the same with solar cells, fitted on random ones and tested with the others.
``groups``: 150 cells to fit with, by what is known of them: in the order of their modules, at
random, and 30 cells of which there are five shots each, moved and lit otherwise, at random.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence

import numpy as np
from image_sets import _cells, intact_cells

from pyimgano_openclip import OpenCLIPPatchEmbedder, VisionOpenCLIPPatchKNN
from pyimgano_openclip.bank.relatives import INDEPENDENT
from pyimgano_openclip.maps.scores import HOTTEST

DRAWS, SCORED = 200, 20_000
ASKED = ((30, 0.1), (60, 0.05), (150, 0.02))  # images, contamination
PATCHES, LENGTH = 4, 12


def cloud(number: int) -> np.ndarray:
    """Patches around a point that is drawn."""
    draw = np.random.default_rng(number)
    found = draw.normal(size=LENGTH) * 0.5 + draw.normal(size=(PATCHES, LENGTH))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def angle(number: int) -> np.ndarray:
    """One patch, whose direction in a plane is drawn: the hardest case."""
    turned = np.arctan(np.random.default_rng(number).normal())
    return np.array([[np.cos(turned), np.sin(turned)]])


class Drawn:
    """Image number i has the patches that a function draws."""

    def __init__(self, draw: Callable[[int], np.ndarray]) -> None:
        self.draw = draw

    def embed(self, number: int):
        tokens = self.draw(number)
        return tokens, (1, len(tokens)), (8, 8 * len(tokens))


def rate(detector: VisionOpenCLIPPatchKNN, tests: np.ndarray) -> float:
    """Share of images of shape (N, P, D) above the threshold by their patches."""
    rows = detector.memory_bank_.tokens
    distance = 1 - (tests.reshape(-1, tests.shape[-1]) @ rows.T).max(axis=1)
    return float((distance.reshape(len(tests), -1).mean(axis=1) > detector.threshold_).mean())


def simulated(images: Sequence[int]) -> None:
    heads = ("images", "copies", "asked", "kept by", "on average", "counted")
    print(f"{'':10}" + "".join(f"{head:>11}" for head in heads))
    for draw in (cloud, angle):
        tests = np.stack([draw(10**7 + number) for number in range(SCORED)])
        for n, contamination in ASKED:
            if n not in images:
                continue
            for copies in (0, n // 2):
                rates, counts = [], []
                for start in range(0, DRAWS * n, n):
                    given = [*range(start, start + n), *range(start, start + copies)]
                    detector = VisionOpenCLIPPatchKNN(
                        embedder=Drawn(draw), contamination=contamination, confidence=0.95
                    ).fit(given)
                    rates.append(rate(detector, tests))
                    counts.append(detector.promise().count)
                kept = np.mean(np.array(rates) <= contamination)
                print(
                    f"{draw.__name__:10}{n:11}{copies:11}{contamination:11.2f}{kept:11.1%}"
                    f"{np.mean(rates):11.2%}{np.mean(counts):11.1f}",
                    flush=True,
                )


class Remembered:
    """Gives the tokens of image number i, encoded once."""

    def __init__(self, images: list[np.ndarray]) -> None:
        self.images, self.embedder = images, OpenCLIPPatchEmbedder("bundled", None)
        self.found = [self.embedder.embed(image) for image in images]

    def embed(self, number: int):
        return self.found[number]

    def add_shots(self, numbers: list[int], each: int = 5) -> list[int]:
        """Numbers of as many images, which are several shots of the first of them."""
        draw, first = np.random.default_rng(0), len(self.found)
        for number in numbers[: len(numbers) // each]:
            for _ in range(each):
                moved = np.roll(self.images[number], draw.integers(-2, 3, 2), (0, 1))
                noise = draw.normal(0, 2, moved.shape)
                shot = np.clip(moved * draw.uniform(0.9, 1.1) + noise, 0, 255)
                self.found.append(self.embedder.embed(shot.astype(np.uint8)))
        return list(range(first, len(self.found)))


def cells(sizes: Sequence[int], draws: int) -> None:
    print(f"{'':10}{'images':>7}{'asked':>7}{'kept by':>9}{'on average':>11}{'unlike':>8}")
    for kind in ("mono", "poly"):
        embedder = Remembered(intact_cells(kind, 0)[:450])
        for n, contamination in (asked for asked in ASKED if asked[0] in sizes):
            rates, unlike = [], []
            for draw in range(draws):
                order = np.random.default_rng(draw).permutation(450).tolist()
                detector = VisionOpenCLIPPatchKNN(
                    embedder=embedder, contamination=contamination, confidence=0.95
                ).fit(order[:n])
                found = list(detector.score_iter(order[n : n + 150]))
                rates.append(np.mean([one.image > detector.threshold_ for one in found]))
                unlike.append(np.mean([one.unlike is not None for one in found]))
            kept = np.mean(np.array(rates) <= contamination)
            print(
                f"{kind:10}{n:7}{contamination:7.2f}{kept:9.1%}{np.mean(rates):11.2%}"
                f"{np.mean(unlike):8.2%}",
                flush=True,
            )


def groups(count: int = 150, tested: int = 300) -> None:
    """Cells by module order; the next ones by name are tested."""
    images, probability, kinds = _cells()
    intact = np.flatnonzero((kinds == "mono") & (probability == 0))[: count + tested]
    embedder = Remembered([np.stack([images[number]] * 3, axis=-1) for number in intact])
    print(f"{'order':10}{'as':>14}{'false alarms':>14}   asked 10 %")
    for order in ("by name", "random", "shots"):
        numbers = np.arange(count + tested)
        if order != "by name":
            numbers = np.random.default_rng(0).permutation(numbers)
        train, test = numbers[:count].tolist(), numbers[count:].tolist()
        if order == "shots":
            train = np.random.default_rng(1).permutation(embedder.add_shots(train)).tolist()
        for how in ("noticed", "independent"):
            detector = VisionOpenCLIPPatchKNN(embedder=embedder, contamination=0.1)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                detector.fit(train)
            if how == "independent":
                scores = _leaving_one_out(detector)
                threshold = float(np.quantile(scores, 0.9, method="weibull"))
            else:
                threshold = detector.threshold_
                how = "dependent" if detector._learnt.relatives != INDEPENDENT else "unnoticed"
            share = (detector.decision_function(test) > threshold).mean()
            print(f"{order:10}{how:>14}{share:14.1%}", flush=True)


def _leaving_one_out(detector: VisionOpenCLIPPatchKNN) -> np.ndarray:
    bank = detector.memory_bank_
    scores = []
    for number in range(len(bank.images)):
        tokens = bank.tokens_of(number)
        if not len(tokens):  # thinned
            continue
        distance = bank.nearest_distance(tokens, leave_out=[number])
        scores.append(np.sort(distance)[-HOTTEST:].mean())
    return np.array(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["simulated", "cells", "groups"])
    parser.add_argument("--images", type=int, nargs="+", default=[30, 60, 150])
    parser.add_argument("--draws", type=int, default=DRAWS, help="of solar cells")
    options = parser.parse_args()
    if options.part == "simulated":
        simulated(options.images)
    elif options.part == "cells":
        cells(options.images, options.draws)
    else:
        groups()


if __name__ == "__main__":
    main()
