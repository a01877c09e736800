"""What the plugin adds to the start of a program, and what the first score costs.

    python tests/benchmarks/start.py --rounds 15

Needs the package installed. Fresh interpreters take turns; medians, of wall and of CPU time: the
latter is the steadier one where the machine is busy. NumPy is imported beforehand, for the host
needs it anyway. Then: construct a detector, score an image, score another one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

IMPORT = """
import time, numpy
wall, cpu = time.perf_counter(), time.process_time()
import pyimgano.models
print(time.perf_counter() - wall, time.process_time() - cpu)
print(pyimgano.models.MODEL_REGISTRY.get("{name}").__module__)
"""
SCORE = """
import time, numpy
from pyimgano.models import create_model
times = [time.process_time()]
detector = create_model("{name}", openclip_model_name="bundled", openclip_pretrained=None)
times.append(time.process_time())
assert detector._embedder._visual is None
for seed in (0, 1):
    image = numpy.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=numpy.uint8)
    detector.decision_function([image])
    times.append(time.process_time())
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
    times: dict[str, list[list[float]]] = {side: [] for side in autoload}  # wall, CPU
    for _ in range(options.rounds + 1):  # the first warms up
        for side, switch in autoload.items():
            *seconds, module = python(IMPORT, PYIMGANO_OPENCLIP_AUTOLOAD=switch)
            times[side].append([1000 * float(part) for part in seconds])
            if module.startswith("pyimgano_openclip") != (side == WITH_PLUGIN):
                sys.exit(f"{side}: {NAME} is {module}; is the package installed?")
    alone, with_plugin = (np.array(found[1:]) for found in times.values())
    for side, found in ((ALONE, alone), (WITH_PLUGIN, with_plugin)):
        wall, cpu = np.median(found, axis=0)
        print(f"import pyimgano.models, {side}: {wall:.1f} ms, CPU {cpu:.1f} ms")
    wall, cpu = np.median(with_plugin - alone, axis=0)
    print(f"the plugin adds {wall:.1f} ms, CPU {cpu:.1f} ms; the limit is {LIMIT} ms")
    steps = ("construct", "first score", "second score")
    found = [[1000 * float(part) for part in python(SCORE)] for _ in range(options.rounds)]
    medians = dict(zip(steps, np.median(found, axis=0).tolist(), strict=True))
    print("CPU time:", ", ".join(f"{step} {ms:.1f} ms" for step, ms in medians.items()))
    result = {"import": times, "added_wall_ms": wall, "added_cpu_ms": cpu, "steps": medians}
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
