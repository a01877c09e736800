"""Draw heat maps of four products beside what the detector learnt from: a picture of the README.

    python examples/heat_maps.py --out examples/pictures/heat-maps.jpg

Patch-kNN with the bundled model, fitted on 16 normal images of each product, offline. The images
are generated; the model has never seen these products.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from pyimgano.models import create_model

from pyimgano_openclip import overlay
from pyimgano_openclip.samples import make_sample

# Product, seed of the defective image, its defect.
SHOWN = (
    ("leather", 60, "scratch"),
    ("tile", 76, "crack"),
    ("cork", 64, "stain"),
    ("capsule", 75, "crack"),
)
NORMAL = 16  # images to fit with
SIZE = (240, 320)  # (height, width) of an image
TILE = (156, 208)  # the same in the picture
GAP, STRIP = 4, 22  # pixels between tiles; of a strip with text
QUALITY = 88  # of JPEG


def tiles(product: str, seed: int, defect: str) -> list[tuple[Image.Image, str]]:
    """A normal image, a defective one, and its heat map, each with what to write on it."""
    good = [make_sample(product, seed=i, size=SIZE).image for i in range(NORMAL)]
    detector = create_model(
        "vision_openclip_patchknn",
        openclip_model_name="bundled",
        force_image_size=192,
        contamination=0.05,
    )
    detector.fit(good)
    normal = make_sample(product, seed=50, size=SIZE).image
    bad = make_sample(product, seed=seed, size=SIZE, defect=defect).image
    usual, score = detector.decision_function([normal, bad])
    heat = detector.get_anomaly_map(bad)
    drawn = overlay(bad, heat, detector.region_threshold(), high=float(heat.max()))
    print(
        f"{product:8} threshold {detector.threshold_:.3f}, normal {usual:.3f}, {defect} {score:.3f}"
    )
    return [
        (Image.fromarray(normal), f"{product}, normal: {usual:.3f}"),
        (Image.fromarray(bad), f"{defect}: {score:.3f}"),
        (drawn, f"threshold {detector.threshold_:.3f}"),
    ]


def label(tile: Image.Image, text: str) -> Image.Image:
    """A tile with a strip of text along its lower edge."""
    height, width = TILE
    small = tile.resize((width, height), Image.Resampling.LANCZOS).convert("RGBA")
    strip = Image.new("RGBA", (width, STRIP), (0, 0, 0, 150))
    try:
        font = ImageFont.load_default(size=13)
    except TypeError:  # before Pillow 10.1
        font = ImageFont.load_default()
    ImageDraw.Draw(strip).text((8, 3), text, fill="white", font=font)
    small.alpha_composite(strip, (0, height - STRIP))
    return small.convert("RGB")


def main(arguments: list[str] | None = None) -> None:
    """Fit, score and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("heat-maps.jpg"))
    options = parser.parse_args(arguments)
    height, width = TILE
    columns = [tiles(*shown) for shown in SHOWN]
    across, down = len(columns) * (width + GAP) - GAP, 3 * (height + GAP) - GAP
    sheet = Image.new("RGB", (across, down), "white")
    for col, column in enumerate(columns):
        for row, (tile, text) in enumerate(column):
            sheet.paste(label(tile, text), (col * (width + GAP), row * (height + GAP)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, quality=QUALITY, optimize=True)
    print(f"{options.out}: {options.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
