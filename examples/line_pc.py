"""Scores images on a machine without torch, by a detector that was exported to ONNX.

    python examples/line_pc.py part.png --detector screw.onnx

prints one line of JSON an image: score, label, hot regions. It needs onnxruntime, NumPy, Pillow and
this package, installed with ``pip install --no-deps``. Programs in C# or C++ that run the file
themselves resize images as :func:`resize` does; to check them,

    python examples/line_pc.py --kit kit/

makes, on a machine with torch, a detector of leather on the tiny bundled model (kit/leather.onnx),
a test image (kit/part.png), and what must come out (kit/expected.json): the resized pixels' SHA-256
and first row, the score, the label and the scores of the patches.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from pyimgano_openclip.runtime import OnnxDetector

PART = Path(__file__).parent / "pictures" / "line-pc.png"
BITS = 22  # of the fraction in fixed-point weights


def bicubic(x: float) -> float:
    """Weight of a pixel at a distance; a = -0.5, two pixels wide."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


def bilinear(x: float) -> float:
    """Weight of a pixel at a distance; one pixel wide."""
    return max(0.0, 1 - abs(x))


FILTERS = {"bicubic": (bicubic, 2), "bilinear": (bilinear, 1)}


def resize(
    pixels: np.ndarray, canvas: tuple[int, int], name: str = "bicubic", *, rows_first: bool = False
) -> np.ndarray:
    """Resize as Pillow does, to the last bit: one axis after the other, 8 bits in between.

    Args:
        pixels: RGB, uint8, shape (H, W, 3).
        canvas: (height, width) of the result.
        name: The file's ``resize_filter``.
        rows_first: Whether the height comes first, as for some shapes since Pillow 13; the two
            differ by one level in some pixels.
    """
    if rows_first:
        turned = resize(pixels.transpose(1, 0, 2), canvas[::-1], name)
        return turned.transpose(1, 0, 2)
    across = resize_rows(pixels.transpose(1, 0, 2), canvas[1], name).transpose(1, 0, 2)
    return resize_rows(across, canvas[0], name)


def resize_rows(pixels: np.ndarray, count: int, name: str) -> np.ndarray:
    """Resize the first axis; the filter is widened where the image shrinks."""
    weigh, reach = FILTERS[name]
    scale = len(pixels) / count
    wide = max(scale, 1.0)
    rows = []
    for place in range(count):
        centre = (place + 0.5) * scale
        first = max(0, int(centre - reach * wide + 0.5))
        last = min(len(pixels), int(centre + reach * wide + 0.5))
        weights = [weigh((row - centre + 0.5) / wide) for row in range(first, last)]
        total = sum(weights)
        # Halves are rounded away from zero.
        fixed = [
            int(math.copysign(0.5, weight) + weight / total * (1 << BITS)) for weight in weights
        ]
        mixed = np.tensordot(fixed, pixels[first:last].astype(np.int64), axes=1)
        rows.append((mixed + (1 << (BITS - 1))) >> BITS)
    return np.clip(rows, 0, 255).astype(np.uint8)


def line_about(path: Path, detector: OnnxDetector) -> dict:
    """What is told about one image."""
    (scored,) = detector.score_iter([path])
    if scored.error is not None:  # what was not inspected does not pass
        return {"image": path.name, "score": None, "label": 1, "error": scored.error}
    regions = [{"box": found.box, "peak": found.peak} for found in detector.explain(path)]
    label = int(scored.image > detector.threshold_)
    return {"image": path.name, "score": scored.image, "label": label, "regions": regions}


def make_kit(folder: Path) -> None:
    """Fit, export, and write what a program of one's own must compute from the test image."""
    # Only this part needs torch, open_clip and pyimgano.
    from pyimgano_openclip import VisionOpenCLIPPatchKNN, export_onnx
    from pyimgano_openclip.samples import make_sample

    normal = [make_sample("leather", seed=seed, size=(120, 160)).image for seed in range(16)]
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="bundled", device="cpu", precision="float32"
    )
    export_onnx(detector.fit(normal), folder / "leather.onnx")
    shutil.copy(PART, folder / "part.png")
    Image.open(PART).save(folder / "part.ppm")  # for line_pc.cpp
    exported = OnnxDetector(folder / "leather.onnx")
    pixels = resize(np.asarray(Image.open(PART)), exported.canvas_, exported.facts.resize_filter)
    (scored,) = exported.score_iter([PART])
    expected = {
        "canvas": exported.canvas_,
        "sha256_of_pixels": hashlib.sha256(pixels.tobytes()).hexdigest(),
        "first_row": pixels[0].tolist(),
        "score": scored.image,
        "label": int(scored.image > exported.threshold_),
        "patch_scores": scored.patches.tolist(),
    }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description="Score images without torch.")
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--detector", type=Path, help="file written by pyimgano-openclip export")
    parser.add_argument("--kit", type=Path, metavar="DIR", help="make a kit to check programs by")
    options = parser.parse_args(arguments)
    if options.kit is not None:
        make_kit(options.kit)
    if options.images and options.detector is None:
        parser.error("images need --detector FILE.onnx")
    detector = OnnxDetector(options.detector, on_error="nan") if options.images else None
    for path in options.images:
        print(json.dumps(line_about(path, detector)))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # the message names the file or the argument
        raise SystemExit(str(error)) from None
