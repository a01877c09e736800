"""What the plugin adds to the start of a program, and what the first score costs.

    python tests/benchmarks/start.py --rounds 15

Needs the package installed. Every figure comes from fresh interpreters, as wall and as CPU time,
the least and the median: on a busy machine the least CPU time is the one to believe. NumPy is
imported beforehand, for the host needs it anyway. The plugin is measured by itself, after the host:
the difference of two starts drowns in their spread. Constructing a detector includes importing
torch and open_clip, but loads no weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

NAME = "vision_openclip_promptscore"
CLOCK = """
import time, numpy
times = []
def take():
    times.append((time.perf_counter(), time.process_time()))
take()
"""
SHOW = "\nprint(*(1000 * numpy.diff(times, axis=0)).ravel())"
ADDED = f"""{CLOCK}
import pyimgano.models
take()
from pyimgano_openclip.plugin import register
register()
take(){SHOW}"""
SCORED = f"""{CLOCK}
from pyimgano.models import create_model
take()
detector = create_model("{NAME}", openclip_model_name="bundled", openclip_pretrained=None)
take()
assert detector._embedder._visual is None
for seed in (0, 1):
    image = numpy.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=numpy.uint8)
    detector.decision_function([image])
    take(){SHOW}"""
LOADED = f"import pyimgano.models as m; print(m.MODEL_REGISTRY.get('{NAME}').__module__)"
PARTS = {  # code, whether the plugin loads by itself, what the code times
    "start": (ADDED, "0", ("import pyimgano.models", "the plugin adds")),
    "score": (SCORED, "1", ("import with the plugin", "construct", "first score", "second score")),
}
LIMIT = 20  # milliseconds that the plugin may add


def python(code: str, autoload: str) -> list[str]:
    environment = {**os.environ, "PYIMGANO_OPENCLIP_AUTOLOAD": autoload}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("start.json"))
    options = parser.parse_args()
    (module,) = python(LOADED, "1")
    if not module.startswith("pyimgano_openclip"):
        sys.exit(f"{NAME} is {module}; is the package installed?")
    result = {}
    print(f"{'milliseconds':24}{'wall: least':>12}{'median':>8}{'CPU: least':>12}{'median':>8}")
    for code, autoload, steps in PARTS.values():
        times = np.array([python(code, autoload) for _ in range(options.rounds)], dtype=float)
        for step, found in zip(steps, times.reshape(-1, len(steps), 2).swapaxes(0, 1), strict=True):
            (wall, cpu), (usual_wall, usual_cpu) = found.min(axis=0), np.median(found, axis=0)
            print(f"{step:24}{wall:12.1f}{usual_wall:8.1f}{cpu:12.1f}{usual_cpu:8.1f}")
            result[step] = {"wall_ms": found[:, 0].tolist(), "cpu_ms": found[:, 1].tolist()}
    print(f"The plugin may add {LIMIT} ms.")
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
