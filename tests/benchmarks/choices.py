"""What patch-kNN's choice of depths and neighbourhoods buys, on one tower.

    python tests/benchmarks/choices.py --seeds 1

AUROC in percent: of images for solar cells and cloth, of images and of pixels for the generated
products. The projection makes all searches cost the same; the deepest layer decides how much of the
tower is run.
"""

from __future__ import annotations

import argparse

import numpy as np
from image_sets import SETS
from quality import evaluate

from pyimgano_openclip import VisionOpenCLIPPatchKNN

CHOICES: list[tuple[tuple[float, ...], tuple[int, ...]]] = [
    ((0.5, 0.75), (1, 3)),
    ((0.5, 0.75), (1,)),
    ((0.5, 0.75), (3,)),
    ((0.5, 0.75), (1, 3, 5)),
    ((0.75,), (1, 3)),
    ((0.25, 0.5, 0.75), (1, 3)),
    ((0.25, 0.5, 0.75, 1.0), (1, 3)),
    ((1.0,), (1,)),
]
REAL = ("elpv mono", "elpv poly", "textile local", "textile global")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--pretrained")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    print(f"{'depths':24}{'windows':10}" + "".join(f"{name:>15}" for name in (*REAL, "products")))
    for layers, neighbourhoods in CHOICES:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in SETS}
        for name, make in SETS.items():
            for seed in range(options.seeds):
                detector = VisionOpenCLIPPatchKNN(
                    openclip_model_name=options.model,
                    openclip_pretrained=options.pretrained,
                    layers=layers,
                    neighbourhoods=neighbourhoods,
                )
                found[name].append(evaluate(detector, make(seed)))
        products = np.mean([found[name] for name in SETS if name not in REAL], axis=(0, 1))
        cells = [f"{np.mean(found[name], axis=0)[0]:15.1f}" for name in REAL]
        names = (" ".join(map(str, layers)), " ".join(map(str, neighbourhoods)))
        print(f"{names[0]:24}{names[1]:10}{''.join(cells)}{products[0]:8.1f} / {products[1]:.1f}")


if __name__ == "__main__":
    main()
