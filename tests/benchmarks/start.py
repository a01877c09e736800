"""What the plugin adds to the start of a program, and what the first score costs.

    python tests/benchmarks/start.py --rounds 15

Needs the package installed. Every figure comes from fresh interpreters, as wall and as CPU time,
the least and the median: on a busy machine the least CPU time is the one to believe. NumPy is
imported beforehand, for the host needs it anyway. The plugin is measured by itself, after the host:
the difference of two starts drowns in their spread. Constructing a detector includes importing
torch and open_clip, but loads no weights. The last line is the command ``score`` on one image with
the bundled tower and all it writes, without the import of torch and open_clip.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from command_line import photographs

from pyimgano_openclip import VisionOpenCLIPPatchKNN

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
assert not detector._embedder._model.is_loaded
for seed in (0, 1):
    image = numpy.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=numpy.uint8)
    detector.decision_function([image])
    take(){SHOW}"""
COMMAND = f"""{CLOCK}
import torch, open_clip, contextlib, io, sys
take()
from pyimgano_openclip.cli import main
sys.argv = ["pyimgano-openclip", "score", "{{folder}}/images", "--detector", "{{folder}}/detector"]
sys.argv += ["--out", "{{folder}}/out", "--overwrite", "--json"]
with contextlib.redirect_stdout(io.StringIO()):
    assert main() == 0
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
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        command = (COMMAND.format(folder=folder), "1", ("torch, open_clip", "command score"))
        measure([*PARTS.values(), command], options.rounds, result)
    print(f"The plugin may add {LIMIT} ms.")
    options.out.write_text(json.dumps(result, indent=1))


def prepare(folder: Path) -> None:
    """A saved detector, and one image to score."""
    every = photographs(folder / "normal", 11, 1024)
    (folder / "images").mkdir()
    every.pop().rename(folder / "images" / "new.png")
    detector = VisionOpenCLIPPatchKNN(openclip_model_name="bundled").fit(every)
    detector.save_checkpoint(folder / "detector")


def measure(parts: list, rounds: int, result: dict[str, dict[str, list[float]]]) -> None:
    """Print the times of all parts, and put them into the result."""
    for code, autoload, steps in parts:
        times = np.array([python(code, autoload) for _ in range(rounds)], dtype=float)
        for step, found in zip(steps, times.reshape(-1, len(steps), 2).swapaxes(0, 1), strict=True):
            (wall, cpu), (usual_wall, usual_cpu) = found.min(axis=0), np.median(found, axis=0)
            print(f"{step:24}{wall:12.1f}{usual_wall:8.1f}{cpu:12.1f}{usual_cpu:8.1f}")
            result[step] = {"wall_ms": found[:, 0].tolist(), "cpu_ms": found[:, 1].tolist()}


if __name__ == "__main__":
    main()
