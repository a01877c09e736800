"""How long the detectors take, measured against the bare tower and against the alternatives.

    python tests/benchmarks/speed.py --tower ViT-B-16-plus-240 --train 16 --test 16 --rounds 3

Every contestant gets the same work: fit on N photographs, score M others, give their maps. Each
runs in a process of its own, warmed up with one image, in turn, for several rounds; a ratio is
taken within a round, so that a machine that slows down slows all; where it is shared with other
work, the ratio of CPU time is the steadier one. The bare tower is
``model.visual(batch)``, once an image, decoding not counted: nothing can be faster. Weights are
random, for time does not depend on them. It prints a table and writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

BATCH = 8  # images; the time of an image does not depend on it on two cores


def photographs(folder: Path, count: int, side: int = 512) -> list[Path]:
    """Noisy PNG files that cost as much to decode as photographs do."""
    paths = []
    for index in range(count):
        generator = np.random.default_rng(index)
        coarse = generator.integers(0, 255, (side // 16, side // 16, 3), dtype=np.uint8)
        image = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))
        noisy = np.clip(image + generator.normal(0, 4, image.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{index:05d}.png")
        if not paths[-1].exists():
            Image.fromarray(noisy).save(paths[-1])
    return paths


def bare(tower: str, precision: str):
    """The image tower alone, over images that are already tensors."""
    import torch

    from pyimgano_openclip import OpenCLIPPatchEmbedder

    reader = OpenCLIPPatchEmbedder(tower, None, precision=precision)
    visual, (height, width) = reader.visual, reader._tower.native_size
    dtype = next(visual.parameters()).dtype

    def run(train, test):
        images = torch.randn(BATCH, 3, height, width).to(reader.device, dtype)
        with torch.inference_mode():
            for start in range(0, len(train) + len(test), BATCH):
                visual(images[: min(BATCH, len(train) + len(test) - start)])
            if reader.device.type == "cuda":
                torch.cuda.synchronize()

    return run


def detector(build):
    """Fit, score, map: what the host's pipelines do."""

    def run(train, test):
        found = build()
        found.fit([str(path) for path in train])
        found.decision_function([str(path) for path in test])
        found.predict_anomaly_map([str(path) for path in test])

    return run


def ours(name: str, tower: str, precision: str):
    from pyimgano.models import create_model

    def build():
        return create_model(
            name, openclip_model_name=tower, openclip_pretrained=None, precision=precision
        )

    kept = build()._embedder  # one model for the warm-up and the measurement, as in a service

    def again():
        found = build()
        found._embedder = kept
        return found

    return detector(again)


def hosts(name: str, tower: str):
    import open_clip
    from pyimgano.models import openclip_backend as backend

    model, _, preprocess = open_clip.create_model_and_transforms(tower, pretrained=None)
    embedder = backend.OpenCLIPViTPatchEmbedder(
        model_name=tower, model=model.eval(), preprocess=preprocess
    )
    embedder._device_t = "cpu"
    if name == "patchknn":
        return detector(lambda: backend.VisionOpenCLIPPatchKNN(embedder=embedder))
    encode = backend._encode_openclip_text_features
    prompts = backend.VisionOpenCLIPPromptScore._DEFAULT_TEXT_PROMPTS
    texts = {
        f"text_features_{side}": encode(
            open_clip=open_clip, model=model, device_t="cpu", prompts=prompts[side]
        )
        for side in ("normal", "anomaly")
    }
    return detector(lambda: backend.VisionOpenCLIPPromptScore(embedder=embedder, **texts))


def anomalib_winclip(_tower: str):
    """anomalib's WinCLIP, zero-shot, on its own fixed tower: only scores the test images."""
    import torch
    from anomalib.models.image.winclip.torch_model import WinClipModel

    model = WinClipModel()
    model.setup("object")

    def run(_train, test):
        for path in test:
            pixels = np.asarray(Image.open(path).convert("RGB").resize((240, 240)))
            with torch.inference_mode():
                model(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255)

    return run


CONTESTANTS = {
    "bare tower, float32": lambda tower: bare(tower, "float32"),
    "patchknn, float32": lambda tower: ours("vision_openclip_patchknn", tower, "float32"),
    "promptscore, float32": lambda tower: ours("vision_openclip_promptscore", tower, "float32"),
    "patchknn, auto": lambda tower: ours("vision_openclip_patchknn", tower, "auto"),
    "promptscore, auto": lambda tower: ours("vision_openclip_promptscore", tower, "auto"),
    "bare tower, auto": lambda tower: bare(tower, "auto"),
    "host's patchknn": lambda tower: hosts("patchknn", tower),
    "host's promptscore": lambda tower: hosts("promptscore", tower),
    "anomalib's WinCLIP": anomalib_winclip,
}


def measure(name: str, tower: str, train: list[Path], test: list[Path]) -> dict:
    """Seconds of the work after a warm-up, and the peak memory of the process."""
    run = CONTESTANTS[name](tower)
    run(train[:2], test[:1])
    before = os.times()
    start = time.perf_counter()
    run(train, test)
    wall = time.perf_counter() - start
    after = os.times()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu = after.user + after.system - before.user - before.system
    return {"seconds": wall, "cpu_seconds": cpu, "peak_mib": peak}


def compare(options: argparse.Namespace) -> dict:
    """Run all contestants in turn, several times."""
    results: dict[str, list[dict]] = {name: [] for name in options.contestants}
    for _ in range(options.rounds):
        for name in options.contestants:
            command = [sys.executable, __file__, "--one", name, "--folder", options.folder]
            for setting in ("tower", "train", "test"):
                command += [f"--{setting}", str(getattr(options, setting))]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                print(f"{name}: not measured ({reason})", file=sys.stderr)
                break
            results[name].append(json.loads(done.stdout.splitlines()[-1]))
    return {name: rounds for name, rounds in results.items() if rounds}


def table(results: dict, n_images: int) -> str:
    """Medians over the rounds; ratios are taken within a round."""
    base = results["bare tower, float32"]
    lines = [f"{'':24}{'ms an image':>12}{'of bare':>9}{'CPU of bare':>13}{'peak MiB':>10}"]
    for name, rounds in results.items():
        seconds = statistics.median(found["seconds"] for found in rounds)
        wall, cpu = (
            statistics.median(a[key] / b[key] for a, b in zip(rounds, base, strict=False))
            for key in ("seconds", "cpu_seconds")
        )
        peak = max(found["peak_mib"] for found in rounds)
        milliseconds = 1000 * seconds / n_images
        lines.append(f"{name:24}{milliseconds:12.0f}{wall:9.2f}{cpu:13.2f}{peak:10.0f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tower", default="ViT-B-16-plus-240")
    parser.add_argument("--train", type=int, default=16)
    parser.add_argument("--test", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contestants", nargs="+", default=list(CONTESTANTS), choices=CONTESTANTS)
    parser.add_argument("--out", type=Path, default=Path("speed.json"))
    parser.add_argument("--folder", help="where the photographs are kept; a temporary one if none")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options.folder = options.folder or folder
        images = photographs(Path(options.folder), options.train + options.test)
        train, test = images[: options.train], images[options.train :]
        if options.one:
            print(json.dumps(measure(options.one, options.tower, train, test)))
            return
        results = compare(options)
        print(f"{options.tower}: fit {options.train}, score {options.test}, maps {options.test}")
        print(table(results, options.train + options.test))
        settings = {name: getattr(options, name) for name in ("tower", "train", "test", "rounds")}
        options.out.write_text(json.dumps({**settings, "results": results}, indent=1))


if __name__ == "__main__":
    main()
