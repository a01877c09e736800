"""pyimgano's own way: pyimgano-train by a configuration, pyimgano-infer by what it exports.

    python examples/pyimgano_train.py
    python examples/pyimgano_train.py --root mvtec_ad/ --category screw --out run/

Without --root it photographs generated tiles in the layout of MVTec AD. The configuration is
pyimgano_train.json beside this file; for a real tower, change "model_kwargs" in it to
{"openclip_model_name": "ViT-B-16-plus-240", "openclip_pretrained": "laion400m_e31"}. The two
commands are printed as they would be typed.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from pyimgano import infer_cli, train_cli

from pyimgano_openclip import load_detector
from pyimgano_openclip.samples import make_sample

CONFIG = Path(__file__).with_suffix(".json")
SIZE = (240, 320)  # (height, width) of generated images
NORMAL, INTACT = 24, 3  # images to learn from; normal ones among those to score
DEFECTS = ("hole", "cut", "stain")


def photograph(root: Path) -> None:
    """Tiles and masks in the layout of MVTec AD, the same pictures each time."""
    shots = [(f"train/good/{seed:02}.png", seed, None) for seed in range(NORMAL)]
    shots += [(f"test/good/{seed:02}.png", 50 + seed, None) for seed in range(INTACT)]
    shots += [(f"test/{defect}/00.png", 60 + i, defect) for i, defect in enumerate(DEFECTS)]
    for name, seed, defect in shots:
        sample = make_sample("tile", seed=seed, size=SIZE, defect=defect)
        save(root / name, sample.image)
        if defect:
            save(root / "ground_truth" / defect / "00_mask.png", sample.mask)


def save(file: Path, pixels) -> None:
    """Write a picture, with the folders above it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def run(command: Callable, name: str, *arguments: object) -> None:
    """Run a command of pyimgano in this process, and show how it would be typed."""
    words = [str(argument) for argument in arguments]
    print(f"$ {shlex.join([name, *words])}")
    if command(words):
        raise SystemExit(f"{name} failed.")


def main(arguments: list[str] | None = None) -> None:
    """Train, then score with what was exported."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="a folder in the layout of MVTec AD")
    parser.add_argument("--category", default="tile", help="the folder in it")
    parser.add_argument("--out", type=Path, default=Path("pyimgano-train-output"))
    options = parser.parse_args(arguments)

    root = options.root or options.out / "parts"
    if options.root is None:
        photograph(root / options.category)
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    config["dataset"] |= {"root": str(root), "category": options.category}
    config["output"] = {"output_dir": str(options.out / "run")}
    file = options.out / "config.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(config, indent=2), encoding="utf-8")
    run(train_cli.main, "pyimgano-train", "--config", file, "--export-infer-config")

    exported = options.out / "run" / "artifacts" / "infer_config.json"
    saved = options.out / "run" / "checkpoints" / options.category / "model.pt"
    print(f"threshold of {saved}: {load_detector(saved).threshold_:.4f}, by the images it learnt")
    theirs = json.loads(exported.read_text(encoding="utf-8"))["threshold"]
    print(f"threshold of pyimgano-infer: {theirs:.4f}, by the normal images that were held out")
    lines = options.out / "scores.jsonl"
    new = ("--input", root / options.category / "test", "--save-jsonl", lines)
    run(infer_cli.main, "pyimgano-infer", "--infer-config", exported, *new)
    for line in lines.read_text(encoding="utf-8").splitlines():
        found = json.loads(line)
        print(f"{found['score']:.4f}  {'DEFECT' if found['label'] else 'ok':8}{found['input']}")


if __name__ == "__main__":
    main()
