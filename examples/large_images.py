"""Small defects in large images: the whole image at once beside ``smallest_defect=``.

    python examples/large_images.py
    python examples/large_images.py --size 1536 2048 --smallest-defect 16

Generated leather with marks of 16 to 24 pixels. Both detectors are the same but for one argument;
the sheet shows an image, and the heat of each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image
from pyimgano.models import create_model
from sklearn.metrics import roc_auc_score

from pyimgano_openclip import overlay
from pyimgano_openclip.samples import make_pair, make_sample

WEIGHTS = "laion400m_e31"  # of a tower unless --pretrained names others
NORMAL, PAIRS = 4, 4  # images to learn from; images to score, without and with a mark
MARKS = ("contamination", "hole", "print error", "cut")
PRODUCT = 7


def photographs(size: tuple[int, int]) -> tuple[list, list]:
    """Normal images to learn from, and pairs of samples to score."""
    normal = [
        make_sample("leather", seed=seed, size=size, product=PRODUCT).image
        for seed in range(NORMAL)
    ]
    pairs = [
        make_pair(
            "leather",
            seed=100 + number,
            size=size,
            product=PRODUCT,
            defect=MARKS[number % len(MARKS)],
            defect_size=16 + 4 * (number % 3),
        )
        for number in range(PAIRS)
    ]
    return normal, pairs


def inspect(detector, pairs: list) -> tuple[str, list[np.ndarray]]:
    """Image and pixel AUROC in words, and the maps of the marked images."""
    samples = [sample for pair in pairs for sample in pair]
    start = time.perf_counter()
    scored = list(detector.score_iter([sample.image for sample in samples]))
    each = (time.perf_counter() - start) / len(samples)
    maps = [found.anomaly_map() for found in scored]
    images = roc_auc_score(
        [sample.defect is not None for sample in samples], [found.image for found in scored]
    )
    pixels = roc_auc_score(
        np.concatenate([sample.mask.ravel() for sample in samples]),
        np.concatenate([found.ravel() for found in maps]),
    )
    return f"image AUROC {images:.3f}, pixel AUROC {pixels:.3f}, {each:.2f} s an image", maps[1::2]


def main(arguments: list[str] | None = None) -> None:
    """Fit and score with and without the argument, and draw both maps side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", nargs=2, type=int, default=(384, 512), help="height and width")
    parser.add_argument("--smallest-defect", type=float, default=16, help="in pixels")
    parser.add_argument("--tower", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", default=WEIGHTS, help="an open_clip tag, or a weights file")
    parser.add_argument("--out", type=Path, default=Path("large-images-output"))
    options = parser.parse_args(arguments)

    normal, pairs = photographs(tuple(options.size))
    shown = [pair[1].image for pair in pairs]
    columns = [[Image.fromarray(image) for image in shown]]
    for smallest in (None, options.smallest_defect):
        detector = create_model(
            "vision_openclip_patchknn",
            openclip_model_name=options.tower,
            openclip_pretrained=options.pretrained,
            smallest_defect=smallest,
            jitter=0,  # moved copies would take five times as long to fit
        ).fit(normal)
        said, maps = inspect(detector, pairs)
        print(f"smallest_defect={smallest}: {said}")
        print(f"    {detector.tower_facts().get('resolution', 'the whole image at once')}")
        columns.append(
            [
                overlay(image, found, detector.region_threshold())
                for image, found in zip(shown, maps, strict=True)
            ]
        )
    height, width = options.size
    sheet = Image.new("RGB", (len(columns) * width, len(shown) * height))
    for column, pictures in enumerate(columns):
        for row, picture in enumerate(pictures):
            sheet.paste(picture, (column * width, row * height))
    options.out.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out / "side-by-side.png")
    print(f"sheet: {options.out / 'side-by-side.png'}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # the message names the file or the argument
        raise SystemExit(str(error)) from None
