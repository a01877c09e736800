"""Few-shot: learn from a folder of normal images, save that, score new images with the file.

    python examples/few_shot.py
    python examples/few_shot.py --normal good/ --images new/ --out screw/ \
        --tower ViT-B-16-plus-240 --pretrained laion400m_e31

Without folders it photographs generated tiles. The default tower is the tiny bundled one, which
runs anywhere and has seen generated images only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from pyimgano.models import create_model

from pyimgano_openclip import load_detector, read_pixels
from pyimgano_openclip.images.formats import file_suffixes
from pyimgano_openclip.samples import make_sample

WEIGHTS = "laion400m_e31"  # of a tower unless --pretrained names others
NORMAL, INTACT = 20, 4  # generated images to learn from, and normal ones among those to score
UNREADABLE = 3  # exit status if an image cannot be read, as of 'score'
DEFECTS = ("hole", "cut", "stain", "scratch")
TILE = 240  # pixels; side of a patch in the picture that compares two


def photograph(folder: Path) -> tuple[Path, Path]:
    """Tiles to learn from and tiles to score, the same pictures each time."""
    shots = [(f"normal/{seed:02}.png", seed, None) for seed in range(NORMAL)]
    shots += [(f"new/intact-{seed}.png", 50 + seed, None) for seed in range(INTACT)]
    shots += [(f"new/{defect}.png", 60 + seed, defect) for seed, defect in enumerate(DEFECTS)]
    for name, seed, defect in shots:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sample = make_sample("tile", seed=seed, size=(240, 320), defect=defect)
        Image.fromarray(sample.image).save(folder / name)
    return folder / "normal", folder / "new"


def images_in(folder: Path) -> list[Path]:
    """The image files of a folder, by name, without those of its subfolders."""
    if not folder.is_dir():
        raise SystemExit(f"{folder} is no folder.")
    files = [path for path in folder.rglob("*") if path.suffix.lower() in file_suffixes()]
    found = sorted(path for path in files if path.parent == folder)
    if len(found) < len(files):
        print(f"images in subfolders of {folder}, left out: {len(files) - len(found)}")
    if not found:
        raise SystemExit(f"{folder} itself holds no images.")
    return found


def compare(detector, path: Path, file: Path) -> str:
    """Put the hottest patch of an image beside the normal patch that is most like it."""
    (match,) = detector.nearest(path, count=1)
    picture = Image.new("RGB", (2 * TILE, TILE))
    for column, (source, box) in enumerate(((path, match.box), (match.path, match.training_box))):
        patch = Image.fromarray(read_pixels(source)).crop(box)
        picture.paste(patch.resize((TILE, TILE), Image.Resampling.NEAREST), (column * TILE, 0))
    picture.save(file)
    return f"x {match.box.left}, y {match.box.top} is {match.distance:.3f} from {match.path}"


def main(arguments: list[str] | None = None) -> int:
    """Fit, save, load, score, and show what was compared; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--normal", type=Path, help="a folder of normal images to learn from")
    parser.add_argument("--images", type=Path, help="a folder of images to score")
    parser.add_argument("--contamination", type=float, default=0.05, help="accepted false alarms")
    parser.add_argument("--tower", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", default=WEIGHTS, help="an open_clip tag, or a weights file")
    parser.add_argument("--out", type=Path, default=Path("few-shot-output"))
    options = parser.parse_args(arguments)
    if (options.normal is None) != (options.images is None):
        parser.error("--normal and --images go together")

    normal, new = options.normal, options.images
    if normal is None:
        normal, new = photograph(options.out)
    normal, paths = images_in(normal), images_in(new)
    detector = create_model(
        "vision_openclip_patchknn",
        contamination=options.contamination,
        openclip_model_name=options.tower,
        openclip_pretrained=options.pretrained,
    )
    detector.fit(normal)
    checkpoint = detector.save_checkpoint(options.out / "detector.safetensors")
    print(f"threshold {detector.threshold_:.4f} from {len(detector.decision_scores_)} images")

    # From here on, as on another day: the file alone says which detector, tower and threshold.
    detector = load_detector(checkpoint, on_error="nan")  # which an unreadable image scores
    scores = detector.decision_function(paths)
    shares = detector.score_percentile(scores)
    for path, score, share in zip(paths, scores, shares, strict=True):
        if np.isnan(score):  # a warning says why
            print(f"{path.name:20} unreadable, so it does not pass")
            continue
        label = "DEFECT" if score > detector.threshold_ else "ok"
        print(f"{path.name:20} {score:.4f}  {label:8}above {share:.0%} of the normal images")
    if not np.isnan(scores).all():
        hottest = paths[np.nanargmax(scores)]
        print(f"{hottest.name}: {compare(detector, hottest, options.out / 'nearest.png')}")
    print(f"detector: {checkpoint}")
    return UNREADABLE if np.isnan(scores).any() else 0


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (OSError, ValueError) as error:  # the message names the file or the argument
        raise SystemExit(str(error)) from None
