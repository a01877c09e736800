"""Near copies: how far frames of one scene are apart, and different images.

    python tests/benchmarks/copies.py [--families leather cork ...]

For each set: of different images the least difference of reliefs in grey levels and the highest
correlation; of frames of one scene (noise of 2 and 5 grey levels, a JPEG of quality 75, 5 %
brighter, moved by a pixel) the largest difference, the least correlation, and the share that is
told as near copies by tokens alone and by both.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
from image_sets import solar_cells
from PIL import Image

from pyimgano_openclip import OpenCLIPPatchEmbedder
from pyimgano_openclip.bank.copies import SURELY, SURFACE, near_copies, sketch_of
from pyimgano_openclip.images.unreadable import or_raise
from pyimgano_openclip.samples import FAMILIES, make_sample

EACH, SHOWN, SIZE = 40, 6, (200, 200)
Frame = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def noisy(levels: float) -> Frame:
    return lambda image, draw: as_image(image + draw.normal(0, levels, image.shape))


def as_image(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).round().astype(np.uint8)


def saved(image: np.ndarray, _: object) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file).convert("RGB"))


FRAMES: dict[str, Frame] = {
    "noise 2": noisy(2),
    "noise 5": noisy(5),
    "jpeg": saved,
    "brighter": lambda image, _: as_image(image * 1.05),
    "moved": lambda image, _: np.roll(image, (1, 1), axis=(0, 1)),
}


def images_of(name: str) -> list[np.ndarray]:
    if name.startswith("elpv"):
        cells = solar_cells(name.removeprefix("elpv "), 0)
        return cells.train + cells.test
    return [make_sample(name, seed=seed, size=SIZE).image for seed in range(EACH)]


def apart(some: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Differences and correlations of reliefs, each with each."""
    product = some @ others.T
    a, b = np.square(some).sum(axis=1)[:, None], np.square(others).sum(axis=1)
    alike = product / np.sqrt(a * b)
    return np.sqrt(np.maximum(0, 1 - alike**2) * np.minimum(a, b)), alike


def told(known: np.ndarray, frames: np.ndarray) -> tuple[float, float]:
    """The share of frames told as copies, by tokens alone and by both."""
    sketches, shares = np.concatenate([known, frames]), []
    grids = [(1, 1)] * len(sketches)
    by_tokens = sketches.copy()
    by_tokens[:, SURFACE] = 0
    for some in (by_tokens, sketches):
        near = near_copies(some, grids, SURELY)
        found = [number in near[len(known) + number] for number in range(len(frames))]
        shares.append(float(np.mean(found)))
    return shares[0], shares[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--families", nargs="*", default=["elpv mono", "elpv poly", *FAMILIES])
    options = parser.parse_args()
    embedder, draw = OpenCLIPPatchEmbedder("bundled", device="cpu"), np.random.default_rng(0)
    for name in options.families:
        images = images_of(name)
        canvas = embedder.choose_canvas(images)

        def seen(some: list, canvas: object = canvas) -> tuple[np.ndarray, np.ndarray]:
            """Reliefs and sketches."""
            every = list(or_raise(embedder.outcomes(some, canvas)))
            flat = [patches.relief.ravel() for patches in every]
            return np.array(flat, np.float64), np.array([sketch_of(patches) for patches in every])

        known, sketches = seen(images)
        differ, alike = (m[np.triu_indices(len(images), 1)] for m in apart(known, known))
        row = f"{name:14} {differ.min():5.2f} {alike.max():6.3f}"
        for kind, frame in FRAMES.items():
            frames = [frame(image, draw) for image in images[:SHOWN]]
            shown, more = seen(frames)
            differ, alike = apart(shown, known[:SHOWN])
            by_tokens, by_both = told(sketches, more)
            row += f" | {kind} {differ.diagonal().max():.2f} {alike.diagonal().min():.2f}"
            row += f" {by_tokens:.0%} {by_both:.0%}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
