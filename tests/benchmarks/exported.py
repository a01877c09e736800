"""Time per image of an exported detector beside the detector itself, in one run.

`python tests/benchmarks/exported.py` fits patch-kNN with random weights, exports it, and times in
turn: the detector in float32, its file with ONNX Runtime, and with OpenVINO if that is installed.
`--int8` asks instead what dynamic quantisation of the file does: it exports patch-kNN on the
bundled model, fitted on 16 images of leather, and compares both files on 100 normal and 100
damaged ones.
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
from pyimgano_openclip.samples import make_sample

EACH = 100  # normal images, and damaged ones


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
    if importlib.util.find_spec("openvino") and runtime.facts.second_canvas is None:
        found["OpenVINO"] = openvino_network(path, threads)
    return found


def compare_int8(folder):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    normal = [make_sample("leather", seed=seed, size=(120, 160)).image for seed in range(16)]
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", device="cpu", precision="float32"
    )
    done = export_onnx(detector.fit(normal), folder / "float32.onnx")
    small = folder / "int8.onnx"
    quantize_dynamic(done.path, small, weight_type=QuantType.QInt8)
    found = [[*OnnxDetector(path, threads=1).score_iter(leather())] for path in (done.path, small)]
    scores = np.array([[scored.image for scored in one] for one in found])
    pairs = zip(*found, strict=True)
    maps = [np.abs(own.anomaly_map() - other.anomaly_map()).max() for own, other in pairs]
    flagged = scores > detector.threshold_
    print(f"{done.size / 1e6:.1f} MB; in int8 {small.stat().st_size / 1e6:.1f} MB")
    print(f"threshold {detector.threshold_:.4f}; patch scores of float32: ", end="")
    values = np.concatenate([scored.patches.ravel() for scored in found[0][:EACH]])
    print(f"median {np.median(values):.4f} in normal images")
    for name, apart in (("scores", np.abs(np.subtract(*scores))), ("maps", np.array(maps))):
        print(f"{name} differ by {np.median(apart):.4f} (median), {apart.max():.4f} (most)")
    print(f"labels that differ: {(flagged[0] != flagged[1]).sum()} of {flagged.shape[1]}")
    print(
        f"false alarms, defects found: {tell_labels(flagged[0])}; in int8 {tell_labels(flagged[1])}"
    )


def tell_labels(flagged):
    return f"{flagged[:EACH].sum()}, {flagged[EACH:].sum()}"


def leather():
    """As many normal images as damaged ones, none of which was learnt."""
    kinds = [None] * EACH + [("hole", "cut", "stain", "scratch")[n % 4] for n in range(EACH)]
    for number, kind in enumerate(kinds):
        yield make_sample("leather", seed=100 + number, size=(120, 160), defect=kind).image


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B-16-plus-240")
    parser.add_argument("--normal", type=int, default=90, help="images to fit (20,000 patches)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], dest="batches")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", type=int, default=240, help="of the images to fit, in pixels")
    parser.add_argument("--smallest-defect", type=float, help="in pixels of these images")
    parser.add_argument("--int8", action="store_true", help="compare quantised with float32")
    options = parser.parse_args(arguments)
    if options.int8:
        compare_int8(Path(tempfile.mkdtemp()))
        return
    torch.set_num_threads(options.threads)
    generator, folder = np.random.default_rng(0), Path(tempfile.mkdtemp())
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name=options.model,
        openclip_pretrained=None,
        device="cpu",
        precision="float32",
        batch_size=max(options.batches),
        smallest_defect=options.smallest_defect,
    )
    detector.fit(noise(options.normal, (options.side, options.side), generator))
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
