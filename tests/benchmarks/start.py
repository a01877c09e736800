"""What the plugin adds to the start of a program, and what the first score costs.

    python tests/benchmarks/start.py --rounds 15

Needs the package installed. Fresh interpreters take turns; medians. NumPy is imported beforehand,
for the host needs it anyway. Then: construct a detector, score an image, score another one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

IMPORT = """
import time, numpy
start = time.perf_counter()
import pyimgano.models
print(time.perf_counter() - start, pyimgano.models.MODEL_REGISTRY.get("{name}").__module__)
"""
SCORE = """
import time, numpy
from pyimgano.models import create_model
times = [time.perf_counter()]
detector = create_model("{name}", openclip_model_name="bundled", openclip_pretrained=None)
times.append(time.perf_counter())
assert detector._embedder._visual is None
for seed in (0, 1):
    image = numpy.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=numpy.uint8)
    detector.decision_function([image])
    times.append(time.perf_counter())
print(*numpy.diff(times))
"""
NAME = "vision_openclip_promptscore"
ALONE, WITH_PLUGIN = "host alone", "host with the plugin"
LIMIT = 20  # milliseconds that the plugin may add


def python(code: str, **environment: str) -> list[str]:
    command = [sys.executable, "-c", code.format(name=NAME)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("start.json"))
    options = parser.parse_args()
    autoload = {ALONE: "0", WITH_PLUGIN: "1"}
    times: dict[str, list[float]] = {side: [] for side in autoload}
    for _ in range(options.rounds + 1):  # the first warms up
        for side, switch in autoload.items():
            seconds, module = python(IMPORT, PYIMGANO_OPENCLIP_AUTOLOAD=switch)
            times[side].append(1000 * float(seconds))
            if module.startswith("pyimgano_openclip") != (side == WITH_PLUGIN):
                sys.exit(f"{side}: {NAME} is {module}; is the package installed?")
    added = [a - b for a, b in zip(times[WITH_PLUGIN][1:], times[ALONE][1:], strict=True)]
    for side, found in times.items():
        print(f"import pyimgano.models, {side}: {statistics.median(found[1:]):.1f} ms")
    print(f"the plugin adds {statistics.median(added):.1f} ms; the limit is {LIMIT} ms")
    steps = ("construct", "first score", "second score")
    found = [[1000 * float(part) for part in python(SCORE)] for _ in range(options.rounds)]
    medians = [statistics.median(step) for step in zip(*found, strict=True)]
    print(", ".join(f"{step} {ms:.1f} ms" for step, ms in zip(steps, medians, strict=True)))
    scores = dict(zip(steps, medians, strict=True))
    options.out.write_text(json.dumps({"import": times, "added": added, **scores}, indent=1))


if __name__ == "__main__":
    main()
