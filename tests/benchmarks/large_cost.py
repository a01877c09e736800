"""What large images cost: time by the number of windows, and memory at 20 megapixels.

    python tests/benchmarks/large_cost.py
    python tests/benchmarks/large_cost.py --skip-memory

The time is that of scoring one image after another of the same texture, as many pixels as fill N
and 4 N windows; both sizes in turn, the fastest of each counts. The memory is the peak of a process
that fits 20-megapixel images one by one, with their moved copies, and scores one.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.samples import make_sample

SMALL, LARGE = (600, 600), (1248, 1248)  # pixels: windows of 96, 72 apart, at 8 pixels a patch
FACTORY = (3648, 5472)
ROUNDS = 3


def fitted(size: tuple[int, int], count: int, **settings: object) -> VisionOpenCLIPPatchKNN:
    train = [make_sample("carpet", seed=seed, size=size).image for seed in range(count)]
    made = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", batch_size=8, **settings)
    return made.fit(train)


def times() -> None:
    """Seconds an image at both sizes, and by which the larger takes longer."""
    detectors = {
        size: fitted(size, 2, smallest_defect=12, jitter=0, max_patches=1000)
        for size in (SMALL, LARGE)
    }
    fastest = dict.fromkeys(detectors, float("inf"))
    for seed in range(ROUNDS):
        for size, detector in detectors.items():
            image = make_sample("carpet", seed=100 + seed, size=size).image
            start = time.perf_counter()
            detector.decision_function([image])
            fastest[size] = min(fastest[size], time.perf_counter() - start)
    windows = {
        size: len(made._embedder.canvases.windows(made.canvas_)) for size, made in detectors.items()
    }
    for size, seconds in fastest.items():
        print(f"{size[0]} x {size[1]}: {windows[size]} windows, {seconds:.2f} s an image")
    print(
        f"{windows[LARGE] / windows[SMALL]:.2f} times the windows, "
        f"{fastest[LARGE] / fastest[SMALL]:.2f} times the time"
    )


def make(folder: Path) -> None:
    """Write 20-megapixel images; to make them takes more memory than to look at them."""
    for seed in range(3):
        image = make_sample("carpet", seed=seed, size=FACTORY).image
        Image.fromarray(image).save(folder / f"{seed}.png", compress_level=1)


def memory(smallest_defect: float) -> None:
    """Peak resident memory of fitting two images and scoring the third."""
    with TemporaryDirectory() as folder:
        subprocess.run([sys.executable, __file__, "--make", folder], check=True)
        *train, last = sorted(Path(folder).iterdir())
        detector = VisionOpenCLIPPatchKNN(
            openclip_model_name="bundled", smallest_defect=smallest_defect
        ).fit(train)
        detector.get_anomaly_map(last)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{FACTORY[0]} x {FACTORY[1]}, smallest_defect={smallest_defect}: {peak:.0f} MiB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smallest-defect", type=float, default=32.0)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make)
        return
    if not options.skip_memory:
        memory(options.smallest_defect)
    times()


if __name__ == "__main__":
    main()
