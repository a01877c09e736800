"""How time and memory grow with the number of images that ``score_iter`` is given.

    python tests/benchmarks/growth.py --images 10000

Every image is a file of its own. Time must be linear: milliseconds an image stay the same; memory
must be flat. Each detector runs once, in a process of its own; memory is the resident set after so
many images, and its peak. It prints a table with bars and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

DETECTORS = {"patchknn": VisionOpenCLIPPatchKNN, "promptscore": VisionOpenCLIPPromptScore}
FIRST = 100  # images after which figures are taken for the first time
STEPS = (1, 2, 5)  # and how they go on within each power of ten
DISTINCT = 50  # pictures; the other files are links to them
SIDE = 192  # pixels
BAR = 40  # characters of the longest bar


def files(folder: Path, count: int) -> Iterator[Path]:
    """As many files as asked for, made when they are needed."""
    for index in range(count):
        path = folder / f"{index:06d}.png"
        if index < DISTINCT:
            pixels = np.random.default_rng(index).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.hardlink_to(folder / f"{index % DISTINCT:06d}.png")
        yield path


def checkpoints(count: int) -> set[int]:
    scales = (FIRST * 10**power for power in range(len(str(count))))
    return {scale * step for scale in scales for step in STEPS if scale * step < count} | {0, count}


def resident() -> float:
    """Memory of this process in MiB, as it is now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure(name: str, count: int) -> list[dict[str, float]]:
    """Seconds, memory and peak after some numbers of images."""
    detector = DETECTORS[name](openclip_model_name="bundled", openclip_pretrained=None)
    taken, found = checkpoints(count), []
    with tempfile.TemporaryDirectory() as folder:
        detector.fit(list(files(Path(folder), DISTINCT)))
        images = Path(folder, "images")
        images.mkdir()
        wall, cpu = time.perf_counter(), time.process_time()
        scores = chain([None], detector.score_iter(files(images, count)))
        for number, _ in enumerate(scores):
            if number in taken:
                found.append(
                    {
                        "images": number,
                        "seconds": time.perf_counter() - wall,
                        "cpu_seconds": time.process_time() - cpu,
                        "resident_mib": resident(),
                        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                        "open_files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
                    }
                )
    return found


def table(found: list[dict[str, float]]) -> str:
    lines = [f"{'images':>8}{'seconds':>10}{'CPU ms each':>13}{'MiB':>8}{'peak':>8}{'files':>7}"]
    each = [1000 * row["cpu_seconds"] / max(1, row["images"]) for row in found]
    for row, milliseconds in zip(found, each, strict=True):
        numbers = f"{row['images']:8d}{row['seconds']:10.1f}{milliseconds:13.2f}"
        memory = f"{row['resident_mib']:8.0f}{row['peak_mib']:8.0f}"
        lines.append(f"{numbers}{memory}{row['open_files']:7d}")
    bars = {"CPU ms each": each, "MiB": [row["resident_mib"] for row in found]}
    for title, values in bars.items():
        lines.append(f"\n{title}")
        for row, value in zip(found, values, strict=True):
            lines.append(f"{row['images']:8d} {'#' * round(BAR * value / max(values))} {value:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("growth.json"))
    parser.add_argument("--one", choices=DETECTORS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.images)))
        return
    results = {}
    for name in DETECTORS:
        command = [sys.executable, __file__, "--one", name, "--images", str(options.images)]
        environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
        results[name] = json.loads(done.stdout)
        print(f"\n{name}, bundled model, files of {SIDE} x {SIDE} pixels\n{table(results[name])}")
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
