"""What `fit` and a score take on one core without bfloat16, as in older computers of a line.

    python tests/benchmarks/old_machine.py --towers bundled ViT-B-16-plus-240

All libraries are told to use AVX2 at most, torch one thread, and the detectors float32 throughout,
the search as well. Pictures of 512 x 512 pixels as in speed.py, random weights but for the bundled
tower; processor time an image.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from time import process_time

for name, value in {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}.items():
    os.environ[name] = value  # before anything imports torch or NumPy

from speed import photographs  # noqa: E402

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore  # noqa: E402
from pyimgano_openclip.encoder import hardware  # noqa: E402

SIZE = (512, 512)  # pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--towers", nargs="+", default=["bundled", "ViT-B-16-plus-240"])
    parser.add_argument("--train", type=int, default=30)
    parser.add_argument("--test", type=int, default=15)
    options = parser.parse_args()
    hardware.computes_bfloat16 = lambda _: False
    with tempfile.TemporaryDirectory() as folder:
        images = photographs(Path(folder), options.train + options.test, SIZE)
        train, test = images[: options.train], images[options.train :]
        for tower in options.towers:
            for kind in (VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore):
                words = {"class_name": "part"} if kind is VisionOpenCLIPPromptScore else {}
                weights = {"openclip_model_name": tower, "openclip_pretrained": None}
                detector = kind(**weights, **words, precision="float32")
                kind(**weights, **words, precision="float32").fit(train[:2])  # warms up
                start = process_time()
                detector.fit(train)
                fitted = process_time()
                detector.decision_function(test)
                scored = process_time()
                each = (fitted - start) / len(train), (scored - fitted) / len(test)
                print(f"{tower:20}{kind.__name__:28}", end="")
                print(f"fit {1000 * each[0]:7.1f} ms, score {1000 * each[1]:7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
