"""How many names of defects are shown at which lead, and how many of them are right.

    python tests/benchmarks/names.py

Generated defects, the bundled model. Told by the whole image, as the detector does, and, to
compare, by the mean of the patches under the hottest region. Lists of 2, 4 and 8 names, the right
one and others at random, and of all. The lead is chosen on the families that the model was trained
on and checked, with other seeds, on the held-out ones. Only defects count on which the hottest
region lies.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pyimgano_openclip import VisionOpenCLIPPromptScore, samples
from pyimgano_openclip.maps.names import leading
from pyimgano_openclip.prompts.scorer import TEMPERATURE

SIZE = (192, 192)  # pixels
LISTS = (2, 4, 8, None)  # names; None for all
LEADS = (0.3, 0.4, 0.5, 0.6)
DRAWS = 3  # lists of names for each defect


class Found(NamedTuple):
    """A defect on which the hottest region lies.

    Attributes:
        truth: Index of its name.
        whole: Logits of the names by the whole image, shape (K,).
        patches: The same by the mean of the patches under the region.
    """

    truth: int
    whole: np.ndarray
    patches: np.ndarray


def found_in(family: str, seed: int, count: int, tower: dict) -> Iterator[Found]:
    names = samples.defects_of(family)
    detector = VisionOpenCLIPPromptScore(class_name=family, defects=list(names), **tower)
    detector.choose_canvas([np.zeros((*SIZE, 3), np.uint8)])
    for index in range(count * len(names)):
        truth = index % len(names)
        sample = samples.make_sample(
            family, seed=10_000 * seed + index, product=index, size=SIZE, defect=names[truth]
        )
        (scored,) = detector.score_iter([sample.image], with_tokens=True)
        half = float(scored.anomaly_map().max()) / 2
        for region in detector.explain(scored, threshold=half, limit=1):
            left, top, right, bottom = region.box
            if sample.mask[top:bottom, left:right].any():
                scorer = detector._scorer(detector._learnt)
                vectors = np.stack([*scorer.text.defects.values()])
                token = _under(scored.tokens, region.box).mean(axis=0)
                yield Found(truth, scorer.names_of(scored.tokens), vectors @ token / TEMPERATURE)


def _under(patches, box) -> np.ndarray:
    """Tokens (P, D) of the patches that overlap a box."""
    (rows, cols), (height, width) = patches.grid, patches.size
    down = slice(box.top * rows // height, -(-box.bottom * rows // height))
    right = slice(box.left * cols // width, -(-box.right * cols // width))
    return patches.tokens[down, right].reshape(-1, patches.tokens.shape[-1])


def leads(found: list[Found], by: str, count: int | None, draw: np.random.Generator) -> np.ndarray:
    """For each defect and each list of so many names, the lead and whether the name is right."""
    rows = []
    for one in found:
        logits = getattr(one, by)
        others = np.delete(np.arange(len(logits)), one.truth)
        for _ in range(1 if count is None else DRAWS):
            chosen = others if count is None else draw.choice(others, count - 1, replace=False)
            best, _, lead = leading(logits[[one.truth, *chosen]])
            rows.append((lead, best == 0))
    return np.array(rows)


def show(found: list[Found]) -> None:
    print("  told by   names" + "".join(f"{f'lead {lead}':>16}" for lead in LEADS))
    for by in ("whole", "patches"):
        for count in LISTS:
            told = leads(found, by, count, np.random.default_rng(0))
            cells = []
            for lead in LEADS:
                shown = told[told[:, 0] >= lead]
                right = f"{shown[:, 1].mean():4.0%}" if len(shown) else " -"
                cells.append(f"{right} of {len(shown) / len(told):5.1%}")
            print(f"  {by:10}{count or 'all':>5}" + "".join(f"{cell:>16}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=2, help="of each defect and family")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--pretrained", help="of the model: a tag or a file")
    options = parser.parse_args()
    tower = {"openclip_model_name": options.model, "openclip_pretrained": options.pretrained}
    known = [f for f in (*samples.SURFACES, *samples.OBJECTS) if f not in samples.HELD_OUT_FAMILIES]
    parts = {
        "families of the training": (known, 0, 1),
        "held-out families": (samples.HELD_OUT_FAMILIES, 500, 3),
    }
    for part, (families, first, times) in parts.items():
        found = [
            one
            for family in tqdm(families, desc=part, leave=False, disable=None)
            for seed in range(first, first + options.seeds)
            for one in found_in(family, seed, times * options.images, tower)
        ]
        print(f"{part}: {len(found)} defects; right of the shown names, of how many defects")
        show(found)


if __name__ == "__main__":
    main()
