"""Zero-shot: scores, maps and named defects from words alone.

    python examples/zero_shot.py
    python examples/zero_shot.py parts/ --class-name screw --defects scratch "bent tip" \
        --tower ViT-B-16-plus-240 --pretrained laion400m_e31

Without a folder it photographs generated leather. The default tower is the tiny bundled one, which
runs anywhere and has seen generated images only: real photographs need --tower and --pretrained.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from PIL import Image
from pyimgano.models import create_model

from pyimgano_openclip import overlay
from pyimgano_openclip.images.formats import file_suffixes
from pyimgano_openclip.samples import make_sample

WEIGHTS = "laion400m_e31"  # of a tower unless --pretrained names others
DEFECTS = ("hole", "cut", "stain", "scratch")
UNREADABLE = 3  # exit status if an image cannot be read, as of 'score'
NEUTRAL = 0.5  # the score where the texts of intact and of damaged objects are equally close


def photograph(folder: Path) -> Path:
    """Leather without and with defects, the same pictures each time."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, defect in enumerate([None, None, *DEFECTS]):
        sample = make_sample("leather", seed=seed, size=(240, 320), defect=defect)
        Image.fromarray(sample.image).save(folder / f"{seed}-{defect or 'intact'}.png")
    return folder


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


def build(options: argparse.Namespace):
    """The detector with the words to look for."""
    own_words = {"normal_states": options.normal, "anomalous_states": options.anomalous}
    return create_model(
        "vision_openclip_promptscore",
        class_name=options.class_name or ("object" if options.images else "leather"),
        defects=options.defects,
        on_error="nan",  # which an unreadable image scores
        openclip_model_name=options.tower,
        openclip_pretrained=options.pretrained,
        **{name: phrases for name, phrases in own_words.items() if phrases},
    )


def hottest_region(detector, path: Path) -> str:
    """Where an image is hottest, and the named defect that this resembles, if one leads clearly."""
    regions = detector.explain(path, limit=1)
    if not regions:
        return ""
    left, top, right, bottom = regions[0].box
    name = regions[0].defect
    named = "damage" if name is None else f"{name} ({regions[0].probability:.0%})"
    return f"{named} at x {left}-{right}, y {top}-{bottom}"


def main(arguments: list[str] | None = None) -> int:
    """Score a folder and write a table, maps and overlays; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", type=Path, help="a folder of images")
    parser.add_argument("--class-name", help="what the images show: screw")
    parser.add_argument("--defects", nargs="+", default=DEFECTS, help="damage to tell apart")
    parser.add_argument("--normal", nargs="+", help="own words for intact: 'flawless {}'")
    parser.add_argument("--anomalous", nargs="+", help="own words for damaged: '{} with rust'")
    parser.add_argument("--tower", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", default=WEIGHTS, help="an open_clip tag, or a weights file")
    parser.add_argument("--out", type=Path, default=Path("zero-shot-output"))
    options = parser.parse_args(arguments)

    paths = images_in(options.images or photograph(options.out / "images"))
    detector, status = build(options), 0
    for kind in ("maps", "overlays"):
        (options.out / kind).mkdir(parents=True, exist_ok=True)
    with (options.out / "scores.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["image", "score", "label", "hottest"])
        for path, scored in zip(paths, detector.score_iter(paths), strict=True):
            if scored.error is not None:  # what was not inspected does not pass
                table.writerow([path.name, "nan", 1, "unreadable"])
                print(f"{path.name:20} {scored.error}")
                status = UNREADABLE
                continue
            anomaly_map = scored.anomaly_map()  # (H, W) of the image, float32
            Image.fromarray(anomaly_map).save(options.out / "maps" / f"{path.name}.tif")
            picture = overlay(path, anomaly_map, threshold=NEUTRAL)
            picture.save(options.out / "overlays" / f"{path.name}.png")
            label = int(scored.image > NEUTRAL)
            hottest = hottest_region(detector, path) if label else ""
            table.writerow([path.name, f"{scored.image:.6f}", label, hottest])
            print(f"{path.name:20} {scored.image:.3f}  {'DEFECT' if label else 'ok':8}{hottest}")
    print(f"scores, maps and overlays: {options.out}")
    return status


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except (OSError, ValueError) as error:  # the message names the file or the argument
        raise SystemExit(str(error)) from None
