"""What the search costs: of the tower's time, of a plain matrix product, and thinning a bank.

    python tests/benchmarks/search_cost.py tower --tower ViT-B-16-plus-240 --rows 20000
    python tests/benchmarks/search_cost.py product --rows 10000 100000 1000000 --widths 384 512 896
    python tests/benchmarks/search_cost.py thinning --rows 50000 100000 200000

``tower``: the search of one image in a full bank, as a share of the whole tower's time; the default
features need three quarters of it. ``product``: nearest rows against ``queries @ rows.T`` of the
same sizes in float32, which finds nothing. ``thinning``: greedy k-center for a tenth of the rows,
whose time grows with rows times kept. All sides take turns; of each the fastest round counts, by
CPU time with ``--cpu-time`` for a machine that is busy with other work.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from pyimgano_openclip import OpenCLIPPatchEmbedder
from pyimgano_openclip.bank.coreset import k_center
from pyimgano_openclip.bank.search import build_search
from pyimgano_openclip.encoder.tokens import PRECISIONS, unit
from pyimgano_openclip.encoder.towers import Request

BATCH = 8  # images
BLOCK = 100_000  # rows made at once
HALF_FROM = 1_000_000  # rows from which on a bank is float16
CLUSTERS = 200  # of the tokens that are thinned: real ones are no uniform noise

Table = list[dict[str, object]]


def fastest(
    works: Mapping[str, Callable[[], object]], options: argparse.Namespace
) -> dict[str, float]:
    """Seconds of the fastest round; the sides take turns, the first round warms up."""
    clock = time.process_time if options.cpu_time else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(options.rounds + 1):
        for name, work in works.items():
            start = clock()
            work()
            times[name].append(clock() - start)
    return {name: min(found[1:]) for name, found in times.items()}


def tokens(rows: int, width: int, kind: str = "float32") -> np.ndarray:
    """Random tokens of unit length."""
    made = np.empty((rows, width), dtype=kind)
    for start in range(0, rows, BLOCK):
        part = np.random.default_rng(start).standard_normal(
            (min(BLOCK, rows - start), width), dtype=np.float32
        )
        made[start : start + BLOCK] = unit(part)
    return made


def against_tower(options: argparse.Namespace) -> Table:
    reader = OpenCLIPPatchEmbedder(options.tower, None, precision=options.precision)
    tower = reader.tower
    (height, width), (high, wide) = tower.native_size, tower.patch_size
    patches = (height // high) * (width // wide)
    dtype = next(tower.visual.parameters()).dtype
    pixels = torch.zeros(BATCH, 3, height, width, device=reader.device, dtype=dtype)

    def run_tower() -> None:
        with torch.inference_mode():
            tower(pixels, Request(layers=(1.0,))).features[0].sum().item()

    works: dict[str, Callable[[], object]] = {"tower": run_tower}
    for size in options.widths:
        queries = tokens(patches, size)
        for rows in options.rows:
            search = build_search("torch", tokens(rows, size), str(reader.device))
            works[f"{rows} x {size}"] = lambda s=search, q=queries: s(q, 1, [])
    found = fastest(works, options)
    whole = found.pop("tower") / BATCH
    print(
        f"{options.tower}, {options.precision}: {patches} patches, {1000 * whole:.0f} ms an image"
    )
    table: Table = []
    for name, seconds in found.items():
        share = 100 * seconds / whole
        print(f"  {name:14} {1000 * seconds:8.1f} ms {share:6.1f} % of the tower")
        table.append({"bank": name, "milliseconds": 1000 * seconds, "percent": share})
    return table


def against_product(options: argparse.Namespace) -> Table:
    table: Table = []
    print(f"{options.queries} queries; milliseconds, and the product's time over the search's")
    for rows in options.rows:
        kind = "float16" if rows >= HALF_FROM else "float32"
        for width in options.widths:
            stored, queries = tokens(rows, width, kind), tokens(options.queries, width)
            search = build_search("torch", stored, "cpu")
            asked, plain = torch.from_numpy(queries), torch.from_numpy(stored).float()
            result = torch.empty(options.queries, rows)
            found = fastest(
                {
                    "product": lambda a=asked, b=plain, c=result: torch.mm(a, b.T, out=c),
                    "search": lambda s=search, q=queries: s(q, 1, []),
                },
                options,
            )
            product, searched = found["product"], found["search"]
            name = f"{rows} x {width} {kind}"
            print(f"  {name:24}{1e3 * product:9.1f}{1e3 * searched:9.1f}{product / searched:7.2f}")
            table.append({"bank": name, **found})
    return table


def thinning(options: argparse.Namespace) -> Table:
    table: Table = []
    for rows in options.rows:
        generator = np.random.default_rng(0)
        centers = generator.standard_normal((CLUSTERS, 128), dtype=np.float32)
        points = centers[generator.integers(CLUSTERS, size=rows)]
        points += generator.standard_normal(points.shape, dtype=np.float32) / 2
        seconds = fastest({"k": lambda p=points: k_center(p, len(p) // 10, 0)}, options)["k"]
        pairs = rows * (rows // 10)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"  {rows // 10} of {rows}: {seconds:7.1f} s, "
            f"{1e9 * seconds / pairs:.2f} ns a pair, peak {peak:.0f} MiB"
        )
        table.append({"rows": rows, "seconds": seconds, "pairs": pairs, "peak_mib": peak})
    return table


PARTS = {"tower": against_tower, "product": against_product, "thinning": thinning}
ROWS = {"tower": [20_000], "product": [10_000, 100_000], "thinning": [50_000, 100_000]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--tower", default="ViT-B-16-plus-240")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--rows", type=int, nargs="+", help="of the bank")
    parser.add_argument("--widths", type=int, nargs="+", default=[384], help="of a token")
    parser.add_argument("--queries", type=int, default=225, help="patches that are looked up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--out", type=Path, help="a JSON file; default search_cost_PART.json")
    options = parser.parse_args()
    options.rows = options.rows or ROWS[options.part]
    table = PARTS[options.part](options)
    out = options.out or Path(f"search_cost_{options.part}.json")
    out.write_text(json.dumps({"threads": torch.get_num_threads(), "found": table}, indent=1))


if __name__ == "__main__":
    main()
