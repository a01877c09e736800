"""How long the detectors take, measured against the bare tower and against the alternatives.

    python tests/benchmarks/speed.py --towers ViT-B-16-plus-240 --sizes 512x512 768x1024 --rounds 5
    python tests/benchmarks/speed.py --profile "promptscore, float32"

Every contestant gets the same work: fit on N photographs, score M others, give their maps. Each is
a process of its own that has its model loaded and warm; they take turns, and a ratio is taken
within a round, so that a machine that slows down slows all. Where it is shared with other work, the
ratio of CPU time is the steadier one. The bare tower is ``model.visual(batch)``, once an image, on
the same grid of patches, decoding not counted: nothing can be faster that runs the whole tower.
Host and anomalib see a square of every image: of oblong ones they read fewer patches (``--resize
squash`` lets ours do so too). Weights are random, for time does not depend on them. It prints
tables and writes JSON. It runs on the CPU; on a GPU it was never run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from contestants import BARE, CONTESTANTS
from PIL import Image

# What the ratio of CPU time must not exceed: contestant, in terms of, at most.
TARGETS = (
    ("patchknn, float32", BARE, 1 / 0.90),
    ("promptscore, float32", BARE, 1 / 0.80),
    ("patchknn, auto", "host's patchknn", 1 / 4.5),
    ("promptscore, auto", "host's promptscore", 1 / 2.5),
    ("promptscore, auto", "anomalib's WinCLIP", 1 / 12),
)

Rounds = list[dict[str, float]]


def photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Noisy PNG files of (height, width) that cost as much to decode as photographs do."""
    height, width = size
    paths = []
    for index in range(count):
        generator = np.random.default_rng(index)
        coarse = generator.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        noisy = np.asarray(image) + generator.normal(0, 4, (height, width, 3))
        paths.append(folder / f"{height}x{width}-{index:05d}.png")
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(paths[-1])
    return paths


class Runner:
    """A contestant in its process."""

    def __init__(self, name: str, tower: str, resize: str, train: list, test: list) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in end()
        self._process = subprocess.Popen(
            command(name, tower, resize, train, test),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # Threads that wait must not count as work.
            env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
        )
        self._answer()

    def turn(self) -> dict[str, float]:
        """Do the work once."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            reason = self._errors.read().strip().splitlines() or ["no reason given"]
            self.end()
            raise RuntimeError(reason[-1])
        return json.loads(line)


def command(name: str, tower: str, resize: str, train: list, test: list) -> list[object]:
    script = Path(__file__).with_name("contestants.py")
    settings = ["--tower", tower, "--resize", resize, "--train", *train, "--test", *test]
    return [sys.executable, script, name, *settings]


def compare(tower: str, images: list[Path], options: argparse.Namespace) -> dict[str, Rounds]:
    """Let all contestants take turns."""
    train, test = images[: options.train], images[options.train :]
    runners = {}
    for name in options.contestants:
        try:
            runners[name] = Runner(name, tower, options.resize, train, test)
        except RuntimeError as error:
            print(f"{name}: not measured ({error})", file=sys.stderr)
    results: dict[str, Rounds] = {name: [] for name in runners}
    for _ in range(options.rounds):
        for name, runner in runners.items():
            results[name].append(runner.turn())
    for runner in runners.values():
        runner.end()
    return results


def ratio(some: Rounds, others: Rounds, key: str = "cpu_ms") -> float:
    """Median over the rounds of the ratios within a round."""
    return statistics.median(a[key] / b[key] for a, b in zip(some, others, strict=True))


def table(results: dict[str, Rounds]) -> str:
    heads = f"{'ms an image':>12}{'of bare':>9}{'CPU ms':>9}{'of bare':>9}{'peak MiB':>10}"
    lines = [f"{'':24}{heads}"]
    for name, rounds in results.items():
        wall, cpu = (ratio(rounds, results[BARE], key) for key in ("wall_ms", "cpu_ms"))
        each, busy = (
            statistics.median(found[key] for found in rounds) for key in ("wall_ms", "cpu_ms")
        )
        peak = max(found["peak_mib"] for found in rounds)
        lines.append(f"{name:24}{each:12.0f}{wall:9.2f}{busy:9.0f}{cpu:9.2f}{peak:10.0f}")
    for name, base, most in TARGETS:
        if name in results and base in results:
            found = ratio(results[name], results[base])
            verdict = "reached" if found <= most else "missed"
            lines.append(f"{name} / {base}: {found:.3f}, target {most:.3f}, {verdict}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--towers", nargs="+", default=["ViT-B-16-plus-240"])
    parser.add_argument("--sizes", nargs="+", default=["512x512"], help="height x width")
    parser.add_argument("--resize", default="keep", choices=["keep", "squash"])
    parser.add_argument("--train", type=int, default=8, help="images to fit with")
    parser.add_argument("--test", type=int, default=8, help="images to score and map")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--profile", choices=CONTESTANTS, help="say where its time goes instead")
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    options = parser.parse_args()
    found = []
    for text in options.sizes:
        height, width = map(int, text.split("x"))
        for tower in options.towers:
            with tempfile.TemporaryDirectory() as folder:
                count = options.train + options.test
                images = photographs(Path(folder), count, (height, width))
                print(
                    f"\n{tower}, {text}, {options.resize}: fit {options.train}, "
                    f"score and map {options.test}"
                )
                if options.profile:
                    train, test = images[: options.train], images[options.train :]
                    asked = command(options.profile, tower, options.resize, train, test)
                    subprocess.run([*asked, "--profile"], check=True)
                    continue
                results = compare(tower, images, options)
            print(table(results), flush=True)
            found.append({"tower": tower, "size": [height, width], "results": results})
            settings = {name: getattr(options, name) for name in ("resize", "train", "test")}
            machine = {"processor": platform.processor(), "cores": os.cpu_count()}
            options.out.write_text(json.dumps({**settings, **machine, "runs": found}, indent=1))


if __name__ == "__main__":
    main()
