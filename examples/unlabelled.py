"""Unlabelled: a folder of images and nothing else, the odd ones first.

    python examples/unlabelled.py
    python examples/unlabelled.py --images photographs/ --tower ViT-B-16-plus-240 \
        --pretrained laion400m_e31

Most of the images should be normal. Without a folder it photographs generated leather. The default
tower is the tiny bundled one, which runs anywhere and has seen generated images only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image
from pyimgano.models import create_model

from pyimgano_openclip.images.formats import file_suffixes
from pyimgano_openclip.samples import make_sample

WEIGHTS = "laion400m_e31"  # of a tower unless --pretrained names others
INTACT = 20  # generated images without a defect
DEFECTS = ("hole", "cut", "stain")


def photograph(folder: Path) -> Path:
    """Pieces of leather, three of them damaged, the same pictures each time."""
    folder.mkdir(parents=True, exist_ok=True)
    shots = [(f"{seed:02}.png", seed, None) for seed in range(INTACT)]
    shots += [(f"{defect}.png", 60 + seed, defect) for seed, defect in enumerate(DEFECTS)]
    for name, seed, defect in shots:
        sample = make_sample("leather", seed=seed, size=(240, 320), defect=defect)
        Image.fromarray(sample.image).save(folder / name)
    return folder


def main(arguments: list[str] | None = None) -> None:
    """Compare the images of a folder with each other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of images, most of them normal")
    parser.add_argument("--tower", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", default=WEIGHTS, help="an open_clip tag, or a weights file")
    parser.add_argument("--out", type=Path, default=Path("unlabelled-output"))
    options = parser.parse_args(arguments)

    folder = options.images or photograph(options.out / "images")
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder.")
    files = [path for path in folder.rglob("*") if path.suffix.lower() in file_suffixes()]
    paths = sorted(path for path in files if path.parent == folder)
    if len(paths) < len(files):
        print(f"images in subfolders of {folder}, left out: {len(files) - len(paths)}")
    if not paths:
        raise SystemExit(f"{folder} itself holds no images.")
    detector = create_model(
        "vision_openclip_mutual",
        threshold_rule="outliers",  # how many are bad is not known
        openclip_model_name=options.tower,
        openclip_pretrained=options.pretrained,
    )
    detector.fit(paths)
    for index in (-detector.decision_scores_).argsort().tolist():
        label = "odd" if detector.labels_[index] else ""
        print(f"{detector.decision_scores_[index]:.4f}  {paths[index].name:20}{label}")
    print(f"detector: {detector.save_checkpoint(options.out / 'pool.safetensors')}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # the message names the file or the argument
        raise SystemExit(str(error)) from None
