"""Time per image of an exported detector beside the detector itself, in one run.

`python tests/benchmarks/exported.py` fits patch-kNN with random weights, exports it, and times in
turn: the detector in float32, its file with ONNX Runtime, and with OpenVINO if that is installed.
"""

import argparse
import importlib.util
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.export.onnx_file import export_onnx
from pyimgano_openclip.runtime import OnnxDetector


def noise(count, size, generator):
    return [generator.integers(0, 256, (*size, 3), np.uint8) for _ in range(count)]


def openvino_network(path, threads):
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(str(path), "CPU", settings)
    return lambda images: model(np.stack(images))


def contestants(detector, path, batch, threads):
    runtime = OnnxDetector(path, batch_size=batch, threads=threads)
    found = {"ours, torch": detector.decision_function, "ONNX Runtime": runtime.decision_function}
    if importlib.util.find_spec("openvino"):
        found["OpenVINO"] = openvino_network(path, threads)
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B-16-plus-240")
    parser.add_argument("--normal", type=int, default=90, help="images to fit (20,000 patches)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], dest="batches")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    generator, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name=options.model,
        openclip_pretrained=None,
        device="cpu",
        precision="float32",
        batch_size=max(options.batches),
    )
    detector.fit(noise(options.normal, (240, 240), generator))
    done = export_onnx(detector, folder / "exported.onnx")
    print(f"exported: {done.size / 1e6:.0f} MB in {done.seconds:.0f} s; {detector}")
    scorers = contestants(detector, done.path, max(options.batches), options.threads)
    for batch in options.batches:
        times = {name: [] for name in scorers}
        for number in range(options.rounds + 1):
            images = noise(batch, detector.canvas_, generator)
            for name, score in scorers.items():
                start = time.perf_counter()
                score(images)
                if number:  # the first warms up
                    times[name].append((time.perf_counter() - start) / batch)
        tell(batch, times)


def tell(batch, times):
    for name, took in times.items():
        own = zip(took, times["ours, torch"], strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in own)
        print(f"batch {batch}, {name}: {1e3 * min(took):.0f} ms, x {ratio:.2f}")


if __name__ == "__main__":
    main()
