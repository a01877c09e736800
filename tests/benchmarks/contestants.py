"""Who takes part in ``speed.py``, each in a process of its own that waits for its turn.

    python tests/benchmarks/contestants.py "bare tower, auto" --train A.png B.png --test C.png

It warms up, says ``{"ready": ...}``, and does the work once for every line that it reads.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

BATCHES = (1, 8)  # images; the bare tower takes the better of them
BATCH = 8  # images, for anomalib

Paths = list[Path]
Work = Callable[[Paths, Paths], int]  # does it on train and test images; how many it has worked on


def bare(tower: str, resize: str, precision: str, images: Paths) -> Work:
    """The image tower alone, on tensors of the size at which ours reads the images."""
    import open_clip
    import torch

    from pyimgano_openclip import OpenCLIPPatchEmbedder

    reader = OpenCLIPPatchEmbedder(tower, None, precision=precision, resize=resize)
    canvas, dtype, device = reader.choose_canvas(images), reader.dtype, reader.device
    del reader
    model = open_clip.create_model(tower, pretrained=None, force_image_size=canvas)
    visual = model.visual.eval().to(device, dtype)
    del model

    def run(count: int, batch: int) -> float:
        pixels = torch.zeros(batch, 3, *canvas, dtype=dtype, device=device)
        before = time.process_time()
        with torch.inference_mode():
            for start in range(0, count, batch):
                visual(pixels[: count - start])
            if device.type == "cuda":
                torch.cuda.synchronize()
        return (time.process_time() - before) / count

    run(1, 1)
    best = min(BATCHES, key=lambda batch: run(max(BATCHES), batch))

    def work(train: Paths, test: Paths) -> int:
        run(len(train) + len(test), best)
        return len(train) + len(test)

    return work


def detector(build: Callable[[], object]) -> Work:
    """Fit, score, map: what the host's pipelines do."""

    def work(train: Paths, test: Paths) -> int:
        found = build()
        found.fit([str(path) for path in train])
        found.decision_function([str(path) for path in test])
        found.predict_anomaly_map([str(path) for path in test])
        return len(train) + len(test)

    return work


def ours(name: str, tower: str, resize: str, precision: str) -> Work:
    from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

    classes = {"patchknn": VisionOpenCLIPPatchKNN, "promptscore": VisionOpenCLIPPromptScore}

    def build():
        return classes[name](
            openclip_model_name=tower,
            openclip_pretrained=None,
            precision=precision,
            resize=resize,
        )

    kept = build()._embedder  # one model for the warm-up and the measurement, as in a service

    def again():
        found = build()
        found._embedder = kept
        return found

    return detector(again)


def hosts(name: str, tower: str) -> Work:
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


def anomalib_winclip() -> Work:
    """anomalib's WinCLIP, zero-shot, on its own fixed tower: it has nothing to fit.

    For speed only: with open_clip >= 3 its windows attend to each other, so that its scores are not
    WinCLIP's. ``recipe="winclip"`` is proved against the formulas and stands for its quality. This
    module needs nothing else of ours then, so it runs in an environment with open_clip 2.24 too.
    """
    import torch
    from anomalib.models.image.winclip import torch_model

    torch_model.PRETRAINED = None  # random weights, as all others
    model = torch_model.WinClipModel().eval()
    model.setup("object")
    side = model.clip.visual.image_size[0]

    def work(_train: Paths, test: Paths) -> int:
        for start in range(0, len(test), BATCH):
            images = [
                np.asarray(Image.open(path).convert("RGB").resize((side, side)))
                for path in test[start : start + BATCH]
            ]
            with torch.inference_mode():
                model(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255)
        return len(test)

    return work


BARE = "bare tower, float32"
CONTESTANTS: dict[str, Callable[[argparse.Namespace], Work]] = {
    BARE: lambda o: bare(o.tower, o.resize, "float32", o.train),
    "bare tower, auto": lambda o: bare(o.tower, o.resize, "auto", o.train),
    "patchknn, float32": lambda o: ours("patchknn", o.tower, o.resize, "float32"),
    "promptscore, float32": lambda o: ours("promptscore", o.tower, o.resize, "float32"),
    "patchknn, auto": lambda o: ours("patchknn", o.tower, o.resize, "auto"),
    "promptscore, auto": lambda o: ours("promptscore", o.tower, o.resize, "auto"),
    "host's patchknn": lambda o: hosts("patchknn", o.tower),
    "host's promptscore": lambda o: hosts("promptscore", o.tower),
    "anomalib's WinCLIP": lambda _: anomalib_winclip(),
}


def measure(work: Work, train: Paths, test: Paths) -> dict[str, float]:
    """Milliseconds of wall and of CPU time an image, and the peak memory of the process so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    images = work(train, test)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall_ms": 1000 * wall / images, "cpu_ms": 1000 * cpu / images, "peak_mib": peak}


def profile(work: Work, train: Paths, test: Paths) -> None:
    """Where the time goes: by operation of torch, and by function of Python."""
    import cProfile
    import pstats

    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as trace

    with trace(activities=[ProfilerActivity.CPU]) as traced:
        work(train, test)
    print(traced.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))
    with cProfile.Profile() as profiled:
        work(train, test)
    pstats.Stats(profiled).sort_stats("tottime").print_stats(15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=CONTESTANTS)
    parser.add_argument("--tower", default="ViT-B-16-plus-240")
    parser.add_argument("--resize", default="keep", choices=["keep", "squash"])
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # what the libraries print is no answer
    work = CONTESTANTS[options.name](options)
    work(options.train[:2], options.test[:1])
    if options.profile:
        sys.stdout = answers
        profile(work, options.train, options.test)
        return
    print(json.dumps({"ready": os.getpid()}), file=answers, flush=True)
    for _ in sys.stdin:
        answer = measure(work, options.train, options.test)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
