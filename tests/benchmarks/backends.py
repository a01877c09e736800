"""Whether another runtime would compute the image tower faster than torch does.

    pip install onnx onnxscript onnxruntime openvino
    python tests/benchmarks/backends.py --tower ViT-B-16-plus-240 --rounds 5

Each runtime gets the same batch of noise and the same random weights, and takes turns with the
others in one process; milliseconds an image of its fastest round, and the least cosine between its
class tokens and those of torch in float32. What is not installed is left out. The detectors compute
with torch alone: another runtime would have to be 1.3 times as fast as torch in the best precision
that it has, and would have to give the tokens between the blocks as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from torch import nn

BATCH = 8  # images
Run = Callable[[torch.Tensor], torch.Tensor]


def in_torch(visual: nn.Module, dtype: torch.dtype, *, compiled: bool = False) -> Run:
    cast = visual.to(dtype)
    model = torch.compile(cast) if compiled else cast
    return lambda pixels: model(pixels.to(dtype)).float()


def exported(visual: nn.Module, pixels: torch.Tensor, folder: str) -> Path:
    path = Path(folder, "tower.onnx")
    if not path.exists():
        torch.onnx.export(visual, (pixels,), path, input_names=["pixels"], verbose=False)
    return path


def in_onnxruntime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: torch.from_numpy(session.run(None, {"pixels": pixels.numpy()})[0])


def in_openvino(path: Path, precision: str) -> Run:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    return lambda pixels: torch.from_numpy(compiled(pixels.numpy())[0].copy())


def tower(name: str) -> nn.Module:
    """A new image tower, with the same random weights each time."""
    torch.manual_seed(0)
    return open_clip.create_model(name, pretrained=None).visual.eval().requires_grad_(False)


def contestants(name: str, pixels: torch.Tensor, folder: str) -> dict[str, Run]:
    made: dict[str, Callable[[], Run]] = {
        "torch, float32": lambda: in_torch(tower(name), torch.float32),
        "torch, bfloat16": lambda: in_torch(tower(name), torch.bfloat16),
        "torch, bfloat16, compiled": lambda: in_torch(tower(name), torch.bfloat16, compiled=True),
        "ONNX Runtime, float32": lambda: in_onnxruntime(exported(tower(name), pixels, folder)),
        "OpenVINO, float32": lambda: in_openvino(exported(tower(name), pixels, folder), "f32"),
        "OpenVINO, bfloat16": lambda: in_openvino(exported(tower(name), pixels, folder), "bf16"),
    }
    runs = {}
    for title, make in made.items():
        try:
            runs[title] = make()
        except ImportError as error:
            print(f"{title}: not measured ({error})")
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tower", default="ViT-B-16-plus-240")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("backends.json"))
    options = parser.parse_args()
    size = open_clip.get_model_config(options.tower)["vision_cfg"]["image_size"]
    pixels = torch.rand(BATCH, 3, size, size, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        with torch.inference_mode(False):  # an export does not work within it
            runs = contestants(options.tower, pixels, folder)
        tokens = {title: run(pixels) for title, run in runs.items()}  # this warms them up
        times: dict[str, list[float]] = {title: [] for title in runs}
        for _ in range(options.rounds):
            for title, run in runs.items():
                start = time.perf_counter()
                run(pixels)
                times[title].append(1000 * (time.perf_counter() - start) / BATCH)
    plain = tokens["torch, float32"]
    result = {}
    for title, found in times.items():
        cosine = nn.functional.cosine_similarity(tokens[title], plain).min().item()
        print(f"{title:28}{min(found):8.0f} ms an image, cosine {cosine:.4f}")
        result[title] = {"milliseconds": found, "cosine": cosine}
    options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
