"""What `fit` of patch-kNN adds to reading and encoding the images.

    OMP_NUM_THREADS=1 python tests/benchmarks/fit_cost.py --images 213 --side 1024
    OMP_NUM_THREADS=1 python tests/benchmarks/fit_cost.py --images 250 1000 --side 300
    OMP_NUM_THREADS=1 python tests/benchmarks/fit_cost.py --images 1000 --side 300 \
        --force-image-size 120 --beside ViT-B-16-plus-240

Bundled tower, PNG files of solar cells; processor time of one process, in turns with reading and
encoding alone. ``--force-image-size 120`` gives as many patches as ViT-B-16-plus-240 has, and
``--beside`` what the ratio would be with that tower (random weights), of which 16 images are
encoded: what `fit` adds stays the same, and its moved copies are encoded as well.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import process_time

from command_line import photographs

from pyimgano_openclip import OpenCLIPPatchEmbedder, VisionOpenCLIPPatchKNN
from pyimgano_openclip.bank.enrolment import COPIES

FEW = 16  # images of which the time of a large tower is taken


def encoding(embedder: OpenCLIPPatchEmbedder, paths: list[Path]) -> float:
    """Seconds to read and encode images."""
    start = process_time()
    for _ in embedder.stream(paths, embedder.choose_canvas(paths)):
        pass
    return process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[213])
    parser.add_argument("--side", type=int, default=1024, help="pixels")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--force-image-size", type=int)
    parser.add_argument("--max-patches", type=int, nargs="+", default=[5_000, 10_000])
    parser.add_argument("--jitter", type=float, nargs="+", default=[0.02, 0])
    parser.add_argument("--beside", help="name of an open_clip model")
    options = parser.parse_args()
    settings = {"openclip_model_name": "bundled", "force_image_size": options.force_image_size}
    with tempfile.TemporaryDirectory() as name:
        paths = photographs(Path(name) / "images", max(options.images), options.side)
        beside = 0.0
        if options.beside:
            tower = OpenCLIPPatchEmbedder(options.beside, None)
            encoding(tower, paths[:2])
            beside = min(encoding(tower, paths[:FEW]) for _ in range(3)) / FEW
        for count in options.images:
            for jitter in options.jitter:
                for most in options.max_patches:
                    alone, whole = [], []
                    for _ in range(options.rounds):
                        detector = VisionOpenCLIPPatchKNN(
                            **settings, jitter=jitter, max_patches=most
                        )
                        encoding(detector._embedder, paths[:8])
                        alone.append(encoding(detector._embedder, paths[:count]) / count)
                        start = process_time()
                        detector.fit(paths[:count])
                        whole.append((process_time() - start) / count)
                    line = f"{count:6} images, jitter {jitter:<5} max_patches {most:6}:"
                    line += f" {1000 * min(alone):6.1f} ms alone, {1000 * min(whole):6.1f} fit"
                    line += f", ratio {min(whole) / min(alone):.2f}"
                    if beside:
                        copies = (COPIES if jitter else 0) / count
                        added = min(whole) - min(alone)
                        ratio = ((1 + copies) * beside + added) / beside
                        line += f"; {options.beside} {1000 * beside:.0f} ms, ratio {ratio:.2f}"
                    print(line, flush=True)


if __name__ == "__main__":
    main()
