"""Both detectors on real photographs: solar cells, or folders of your own.

    python examples/quickstart.py
    python examples/quickstart.py --images path/to/mvtec/screw --class-name screw \
        --model ViT-B-16-plus-240 --pretrained laion400m_e31

Without --images it takes electroluminescence photographs of monocrystalline solar cells from the
package elpv-dataset (CC BY-NC-SA 4.0): 50 normal cells to fit, 100 other normal and 100 defective
cells to score. With --images it takes a folder in the layout of MVTec AD: train/good, test/good,
and test/NAME for every kind of defect.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pyimgano.models import create_model
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from pyimgano_openclip.frame import read_pixels
from pyimgano_openclip.pictures import overlay

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
FEW_SHOT, ZERO_SHOT = "vision_openclip_patchknn", "vision_openclip_promptscore"
WHY_CHANCE = """
Zero-shot compares images with words, so its model must have seen such photographs with such words.
The bundled one is tiny and has seen generated images only: on real photographs such as solar cells,
expect an AUROC near 0.5, which is chance. Choose a real model with --model and --pretrained."""
SHOWN = 8  # images of each kind on the contact sheet
TILE = 160  # pixels


@dataclass
class Images:
    """Normal images to fit with; images to score, with 1 for each defective one."""

    train: list
    test: list
    defective: np.ndarray


def solar_cells(n_train: int, n_test: int) -> Images:
    """Monocrystalline cells that experts call certainly intact or certainly defective."""
    from elpv_dataset.utils import load_dataset

    images, probability, kind = load_dataset()
    cells = np.stack([images] * 3, axis=-1)[kind == "mono"]
    probability = probability[kind == "mono"]
    shuffled = np.random.default_rng(0).permutation(len(cells))
    intact = [cells[i] for i in shuffled if probability[i] == 0][: n_train + n_test]
    defective = [cells[i] for i in shuffled if probability[i] == 1][:n_test]
    test = intact[n_train:] + defective
    return Images(intact[:n_train], test, np.arange(len(test)) >= len(test) - len(defective))


def own_folders(root: Path) -> Images:
    """A folder with train/good, test/good and test/NAME for every kind of defect."""

    def files(folder: Path) -> list[Path]:
        return sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)

    train, test = files(root / "train" / "good"), files(root / "test")
    if not train or not test:
        raise SystemExit(f"{root} needs images in train/good and in test; see --help.")
    return Images(train, test, np.array([path.parent.name != "good" for path in test]))


def score(detector, items: list, batch: int = 16) -> np.ndarray:
    """Image scores with a progress bar."""
    scores: list[float] = []
    with tqdm(total=len(items), unit="image", desc="scoring") as bar:
        for start in range(0, len(items), batch):
            scores.extend(detector.decision_function(items[start : start + batch]))
            bar.update(len(scores) - bar.n)
    return np.array(scores)


def report(name: str, detector, images: Images, scores: np.ndarray) -> None:
    """Print what the scores are worth."""
    flagged = scores > detector.threshold_
    print(f"{name}: threshold {detector.threshold_:.4f}")
    if 0 < images.defective.sum() < len(scores):
        print(f"  image AUROC        {roc_auc_score(images.defective, scores):.3f}")
        print(f"  false-alarm rate   {flagged[~images.defective].mean():.2f}", end="")
        print(f"  (contamination {detector.contamination:.2f})")
    if images.defective.any():
        print(f"  defects found      {flagged[images.defective].mean():.2f}")


def draw(detector, images: Images, scores: np.ndarray, folder: Path) -> None:
    """Write overlays and a contact sheet, defective images first."""
    folder.mkdir(parents=True, exist_ok=True)
    order = sorted(range(len(scores)), key=lambda i: (not images.defective[i], -scores[i]))
    hottest = [i for i in order if images.defective[i]][:SHOWN]
    usual = [i for i in order if not images.defective[i]][:SHOWN]
    maps = {i: detector.get_anomaly_map(images.test[i]) for i in hottest + usual}
    values = np.concatenate([found.ravel() for found in maps.values()])
    low, high = np.quantile(values, [0.5, 0.999])
    sheet = Image.new("RGB", (SHOWN * TILE, 4 * TILE), "white")
    for row, group in ((0, hottest), (2, usual)):
        for col, i in enumerate(group):
            pixels = read_pixels(images.test[i])
            picture = overlay(pixels, maps[i], low=float(low), high=float(high))
            picture.save(folder / f"{'defect' if images.defective[i] else 'normal'}-{col}.png")
            for step, shown in enumerate((Image.fromarray(pixels), picture)):
                sheet.paste(shown.resize((TILE, TILE)), (col * TILE, (row + step) * TILE))
    sheet.save(folder / "contact-sheet.png")
    print(f"  pictures           {folder / 'contact-sheet.png'}")


def main(arguments: list[str] | None = None) -> None:
    """Fit, score, print and draw with both detectors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="your own folder in the layout of MVTec AD")
    parser.add_argument("--class-name", default="solar cell", help="what the images show")
    parser.add_argument("--model", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", help="its weights: a tag of open_clip or a file")
    parser.add_argument("--train", type=int, default=50, help="solar cells to fit with")
    parser.add_argument("--test", type=int, default=100, help="solar cells of each kind to score")
    parser.add_argument("--out", type=Path, default=Path("quickstart-output"))
    options = parser.parse_args(arguments)
    images = (
        own_folders(options.images) if options.images else solar_cells(options.train, options.test)
    )
    for name, words in ((FEW_SHOT, {}), (ZERO_SHOT, {"class_name": options.class_name})):
        if name == ZERO_SHOT and options.model == "bundled":
            print(WHY_CHANCE)
        detector = create_model(
            name,
            openclip_model_name=options.model,
            openclip_pretrained=options.pretrained,
            **words,
        )
        detector.fit(images.train)
        scores = score(detector, images.test)
        report(name, detector, images, scores)
        draw(detector, images, scores, options.out / name)


if __name__ == "__main__":
    main()
