"""What patch-kNN is worth beside the host's own, on the same tower and the same weights.

    python tests/benchmarks/quality.py --seeds 2
    python tests/benchmarks/quality.py --photographs --seeds 3
    python tests/benchmarks/quality.py --layers 0.25 0.5 0.75 --neighbourhoods 1

Image AUROC, and pixel AUROC where masks are known: ours, the host's, and the difference in points,
mean over seeds. A seed draws other images, or another product.
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from image_sets import PHOTOGRAPHS, SETS, VARIANTS, ImageSet
from pyimgano.models import openclip_backend
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.encoder import weights

warnings.filterwarnings("ignore", category=DeprecationWarning, module="pyimgano")

KNOWN = {**SETS, **VARIANTS, **PHOTOGRAPHS}


def host_embedder(model_name: str, pretrained: str | None) -> object:
    """The host's embedder on the same weights, set up as its own loader would."""
    import open_clip

    source = weights.find_source(model_name, pretrained)
    _, _, preprocess = open_clip.create_model_and_transforms(source.name)
    model = weights.load_model(source)
    embedder = openclip_backend.OpenCLIPViTPatchEmbedder(model=model, preprocess=preprocess)
    embedder._device_t = "cpu"
    return embedder


def evaluate(detector, images: ImageSet) -> tuple[float, float]:
    """Image and pixel AUROC in percent; the second is NaN without masks."""
    detector.fit(images.train)
    found = 100 * roc_auc_score(images.defective, detector.decision_function(images.test))
    if images.masks is None:
        return found, float("nan")
    maps = [detector.get_anomaly_map(image) for image in images.test]
    return found, 100 * roc_auc_score(np.stack(images.masks).ravel(), np.stack(maps).ravel())


def print_row(name: str, results: np.ndarray) -> None:
    """One line: ours, host, difference; image AUROC, then pixel AUROC."""
    cells = []
    for ours, host in results.T:
        known = np.isfinite(ours)
        cells.append(f"{ours:7.1f}{host:7.1f}{ours - host:+7.1f}" if known else f"{'-':>7}" * 3)
    print(f"{name:24}{cells[0]}   {cells[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--pretrained")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sets", nargs="+", choices=KNOWN, default=[*SETS, *VARIANTS])
    parser.add_argument(
        "--photographs",
        dest="sets",
        action="store_const",
        const=[*PHOTOGRAPHS],
        help="sets of real photographs with painted damage; needs scikit-image",
    )
    parser.add_argument("--layers", nargs="+", type=float)
    parser.add_argument("--neighbourhoods", nargs="+", type=int)
    parser.add_argument("--topk", type=float)
    options = parser.parse_args()
    chosen = {
        "layers": options.layers,
        "neighbourhoods": options.neighbourhoods,
        "aggregation_topk": options.topk,
    }
    settings = {name: value for name, value in chosen.items() if value is not None}
    embedder = host_embedder(options.model, options.pretrained)
    print(f"{'':24}{'image AUROC':>21}   {'pixel AUROC':>21}")
    print(f"{'':24}" + "   ".join([f"{'ours':>7}{'host':>7}{'':>7}"] * 2))
    rows = []
    for name in options.sets:
        by_seed = []
        for seed in tqdm(range(options.seeds), desc=name, leave=False):
            images = KNOWN[name](seed)
            ours = VisionOpenCLIPPatchKNN(
                openclip_model_name=options.model,
                openclip_pretrained=options.pretrained,
                **settings,
            )
            host = openclip_backend.VisionOpenCLIPPatchKNN(embedder=embedder)
            by_seed.append([evaluate(ours, images), evaluate(host, images)])
        rows.append(np.mean(by_seed, axis=0))
        print_row(name, rows[-1])
    masked = [row for row in rows if np.isfinite(row).all()]
    mean = np.mean(rows, axis=0)
    mean[:, 1] = np.mean(masked, axis=0)[:, 1] if masked else np.nan
    print_row("mean", mean)


if __name__ == "__main__":
    main()
