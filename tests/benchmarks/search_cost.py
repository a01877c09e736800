"""What the search in a full memory bank costs, as a share of the tower's own time.

    python tests/benchmarks/search_cost.py --tower ViT-B-16-plus-240 --rows 20000

Times are per image of the tower's own size, the fastest of several rounds; tower and search take
turns. The tower runs to the end; the default features need three quarters of it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from pyimgano_openclip import OpenCLIPPatchEmbedder
from pyimgano_openclip.embedding import unit
from pyimgano_openclip.memory_bank import MemoryBank
from pyimgano_openclip.origins import StoredImage
from pyimgano_openclip.towers import Request

BATCH = 8  # images


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def full_bank(rows: int, width: int, row_type: str, device: str) -> MemoryBank:
    bank = MemoryBank("torch", device, row_type=row_type)
    tokens = unit(np.random.default_rng(0).standard_normal((rows, width), dtype=np.float32))
    bank.add(StoredImage((1, rows), (8, 8 * rows)), tokens)
    return bank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tower", default="ViT-B-16-plus-240")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    embedder = OpenCLIPPatchEmbedder(options.tower, None)
    tower = embedder._tower
    (height, width), (high, wide) = tower.native_size, tower.patch_size
    patches = (height // high) * (width // wide)
    dtype = next(tower.visual.parameters()).dtype
    pixels = torch.zeros(BATCH, 3, height, width, device=embedder.device, dtype=dtype)

    def run_tower() -> None:
        with torch.inference_mode():
            tower(pixels, Request(layers=(1.0,))).features[0].sum().item()

    banks = {
        (size, kind): full_bank(options.rows, size, kind, str(embedder.device))
        for size in (256, 384, 512, 1024)
        for kind in ("float32", "float16")
    }
    generator = np.random.default_rng(1)
    queries = {size: unit(generator.random((patches, size), dtype=np.float32)) for size, _ in banks}
    times: dict[object, list[float]] = {"tower": [], **{key: [] for key in banks}}
    for _ in range(options.rounds + 1):  # the first warms up
        times["tower"].append(seconds(run_tower) / BATCH)
        for key, bank in banks.items():
            times[key].append(seconds(lambda b=bank, q=queries[key[0]]: b.nearest_distance(q)))
    best = {key: 1000 * min(found[1:]) for key, found in times.items()}
    print(f"{options.tower}: {patches} patches, tower {best['tower']:.0f} ms an image")
    for (size, kind), found in ((key, best[key]) for key in banks):
        share = 100 * found / best["tower"]
        print(f"  {options.rows} rows of {size:5} {kind}: {found:6.1f} ms, {share:5.1f} %")


if __name__ == "__main__":
    main()
