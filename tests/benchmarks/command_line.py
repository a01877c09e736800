"""What the command line adds to the library: `score` with all its outputs beside scores and maps.

    OMP_NUM_THREADS=1 python tests/benchmarks/command_line.py --images 100

Bundled tower, patch-kNN fitted on 30 other images (solar cells, enlarged and with noise, PNG).
Both sides take turns in one process, each loads the detector from its file, and of each the fastest
round counts, so that imports do not. Processor time is the one to believe on a busy machine; wall
time tells how well the work is spread over the cores. ``--profile`` says where the time of the
command line goes.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
from image_sets import intact_cells
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, load_detector
from pyimgano_openclip.cli import main as command

TRAIN = 30  # images
NOISE = 3  # grey levels


def photographs(folder: Path, count: int, side: int) -> list[Path]:
    """Grey cells as RGB files of so many pixels; when all have been used, they are turned."""
    folder.mkdir()
    paths, cells = [], intact_cells("mono", 0) + intact_cells("poly", 0)
    for number in range(count):
        turned = np.rot90(cells[number % len(cells)], number // len(cells))
        cell = Image.fromarray(turned).resize((side, side), Image.BICUBIC)
        draw = np.random.default_rng(number)
        pixels = np.asarray(cell).astype(np.int16) + draw.integers(
            -NOISE, NOISE + 1, (side, side, 1)
        )
        paths.append(folder / f"{number:05d}.png")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = photographs(folder / "images", TRAIN + options.images, options.side)
        (folder / "normal").mkdir()
        normal = [path.rename(folder / "normal" / path.name) for path in every[:TRAIN]]
        paths, saved = every[TRAIN:], folder / "d"
        VisionOpenCLIPPatchKNN(openclip_model_name="bundled").fit(normal).save_checkpoint(saved)

        def library(_: str) -> None:
            for found in load_detector(saved).score_iter(paths):
                found.anomaly_map()

        def command_line(out: str) -> None:
            words = ["score", str(folder / "images"), "--detector", str(saved), "--json"]
            assert command([*words, "--out", str(folder / out)]) == 0

        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(command_line, "profiled")
            pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
            return
        works = {"library": library, "command line": command_line}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for number in range(options.rounds):
            for name, work in works.items():
                start = process_time(), perf_counter()
                work(str(number))
                taken = process_time() - start[0], perf_counter() - start[1]
                times[name].append(taken)
        for clock, kind in enumerate(("processor", "wall")):
            fastest = [min(taken[clock] for taken in found) for found in times.values()]
            share = fastest[0] / fastest[1]
            for name, seconds in zip(works, fastest, strict=True):
                print(
                    f"{name:14} {1000 * seconds / options.images:7.1f} ms of {kind} time an image"
                )
            print(f"the command line has {share:.2f} of the speed by {kind} time")


if __name__ == "__main__":
    main()
