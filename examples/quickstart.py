"""Photographs of solar cells, or a folder of your own, by the two detectors that need no words.

    python examples/quickstart.py
    python examples/quickstart.py --images photographs/
    python examples/quickstart.py --images path/to/mvtec/screw \
        --model ViT-B-16-plus-240 --pretrained laion400m_e31

Without --images it takes electroluminescence photographs of monocrystalline solar cells from the
package elpv-dataset (CC BY-NC-SA 4.0): 50 normal cells to fit, 100 other normal and 100 defective
cells to score. --images takes a folder in the layout of MVTec AD (train/good to fit, test/good and
test/NAME to score), of which the defective images or all of test may be missing, or any folder of
images, which are then compared with each other.

The default model is the tiny one inside the package, which has seen generated images only. Words
mean little to it on photographs, so nothing is asked in words here: see zero_shot.py.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pyimgano.models import create_model
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from pyimgano_openclip import overlay, read_pixels
from pyimgano_openclip.images.formats import file_suffixes

WEIGHTS = "laion400m_e31"  # of a tower unless --pretrained names others
FEW_SHOT, UNLABELLED = "vision_openclip_patchknn", "vision_openclip_mutual"
RARE = 4  # of an unlabelled folder most should be normal: one in so many defective ones is in it
SHOWN = 6  # images of each kind on the sheet
TILE, STRIP = 160, 20  # pixels: side of a picture, height of a line of text


@dataclass
class Images:
    """Images with their names; 1 for each defective one, or None if nobody has looked."""

    items: list
    names: list[str]
    defective: np.ndarray | None

    def __getitem__(self, chosen: np.ndarray) -> Images:
        """Those of some indices."""
        known = None if self.defective is None else self.defective[chosen]
        return Images([self.items[i] for i in chosen], [self.names[i] for i in chosen], known)


def solar_cells(n_train: int, n_test: int) -> tuple[list, Images]:
    """Monocrystalline cells that experts call certainly intact or certainly defective."""
    from elpv_dataset.utils import load_dataset

    images, probability, kind = load_dataset()
    shuffled = np.random.default_rng(0).permutation(np.flatnonzero(kind == "mono"))
    intact = [i for i in shuffled if probability[i] == 0][: n_train + n_test]
    test = intact[n_train:] + [i for i in shuffled if probability[i] == 1][:n_test]
    cells = [np.stack([images[i]] * 3, axis=-1) for i in test]
    train = [np.stack([images[i]] * 3, axis=-1) for i in intact[:n_train]]
    return train, Images(cells, [f"cell {i:04}" for i in test], probability[test] == 1)


def own_folder(root: Path) -> tuple[list, Images]:
    """Images to fit, if there are any, and to score; which are defective, if folders tell."""
    if not root.is_dir():
        raise SystemExit(f"{root} is no folder.")

    def files(folder: Path) -> list[Path]:
        return sorted(p for p in folder.rglob("*") if p.suffix.lower() in file_suffixes())

    train = files(root / "train" / "good")
    inside = root / "test" if train and (root / "test").is_dir() else root
    test = [path for path in files(inside) if path not in set(train)]
    if len(test) < 2:
        raise SystemExit(f"{root} needs at least two images to score; see --help.")
    names = [path.relative_to(inside).as_posix() for path in test]
    told = (inside / "good").is_dir()
    return train, Images(
        test, names, np.array([not name.startswith("good/") for name in names]) if told else None
    )


def score(detector, items: list, batch: int = 16) -> np.ndarray:
    """Image scores with a progress bar."""
    scores: list[float] = []
    with tqdm(total=len(items), unit="image", desc="scoring", disable=None) as bar:
        for start in range(0, len(items), batch):
            scores.extend(detector.decision_function(items[start : start + batch]))
            bar.update(len(scores) - bar.n)
    return np.array(scores)


def report(name: str, detector, images: Images, scores: np.ndarray) -> None:
    """Print what the scores are worth."""
    flagged = scores > detector.threshold_
    print(f"\n{name}: threshold {detector.threshold_:.4f}")
    print(f"  anomalous          {flagged.sum()} of {len(scores)} images")
    defective = images.defective
    if defective is None:
        for i in np.argsort(-scores)[:SHOWN]:
            print(f"  {scores[i]:.4f}             {images.names[i]}")
        return
    if 0 < defective.sum() < len(scores):
        print(f"  image AUROC        {roc_auc_score(defective, scores):.3f}")
    if not defective.all():
        print(f"  false-alarm rate   {flagged[~defective].mean():.2f}", end="")
        print(f"  (contamination {detector.contamination:.2f})" if name == FEW_SHOT else "")
    if defective.any():
        print(f"  defects found      {flagged[defective].mean():.2f}")


def kinds(images: Images, scores: np.ndarray, threshold: float) -> dict[str, np.ndarray]:
    """Indices of hits, misses and the rest, those that tell most first."""
    flagged, order = scores > threshold, np.argsort(-scores)
    if images.defective is None:
        found = {"anomalous": order[flagged[order]], "normal": order[~flagged[order]]}
    else:
        bad = images.defective
        found = {
            "defects found": order[(bad & flagged)[order]],
            "defects missed": order[(bad & ~flagged)[order]],
            "false alarms": order[(~bad & flagged)[order]],
            "passed": order[(~bad & ~flagged)[order]],
        }
    return {kind: indices for kind, indices in found.items() if len(indices)}


def draw(detector, images: Images, scores: np.ndarray, file: Path) -> None:
    """Write a sheet with images above their overlays, and the name and score of each."""
    rows = kinds(images, scores, detector.threshold_)
    shown = np.concatenate([indices[:SHOWN] for indices in rows.values()])
    maps = {i: detector.get_anomaly_map(images.items[i]) for i in shown}
    low, high = np.quantile(np.concatenate([m.ravel() for m in maps.values()]), [0.5, 0.999])
    high_row = 2 * TILE + 2 * STRIP
    sheet = Image.new("RGB", (SHOWN * TILE, len(rows) * high_row), "white")
    for row, (kind, indices) in enumerate(rows.items()):
        top = row * high_row
        write(sheet, 0, top, f"{kind}: {len(indices)} (threshold {detector.threshold_:.4f})")
        for col, i in enumerate(indices[:SHOWN]):
            pixels = read_pixels(images.items[i])
            heat = overlay(pixels, maps[i], low=float(low), high=float(high))
            for step, picture in enumerate((Image.fromarray(pixels), heat)):
                place = (col * TILE, top + STRIP + step * TILE)
                sheet.paste(picture.resize((TILE, TILE)), place)
            under = top + STRIP + 2 * TILE
            write(sheet, col * TILE, under, f"{images.names[i][-18:]}  {scores[i]:.4f}")
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)
    print(f"  pictures           {file}")


def write(sheet: Image.Image, left: int, top: int, text: str) -> None:
    """A line of text."""
    font = ImageFont.load_default()
    ImageDraw.Draw(sheet).text((left + 3, top + 4), text, fill="black", font=font)


def main(arguments: list[str] | None = None) -> None:
    """Fit, score, print and draw with both detectors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of your own")
    parser.add_argument("--model", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", default=WEIGHTS, help="an open_clip tag, or a weights file")
    parser.add_argument("--train", type=int, default=50, help="solar cells to fit with")
    parser.add_argument("--test", type=int, default=100, help="solar cells of each kind to score")
    parser.add_argument("--out", type=Path, default=Path("quickstart-output"))
    options = parser.parse_args(arguments)
    train, test = (
        own_folder(options.images) if options.images else solar_cells(options.train, options.test)
    )
    tower = {"openclip_model_name": options.model, "openclip_pretrained": options.pretrained}
    runs = []
    if train:
        runs.append((FEW_SHOT, create_model(FEW_SHOT, **tower).fit(train), test))
    defective = np.zeros(len(test.items), bool) if test.defective is None else test.defective
    rare = np.flatnonzero(~defective | (np.cumsum(defective) % RARE == 1))
    pool = test[rare]
    mutual = create_model(UNLABELLED, threshold_rule="outliers", **tower)
    runs.append((UNLABELLED, mutual.fit(pool.items), pool))
    for name, detector, images in runs:
        scores = score(detector, images.items)
        report(name, detector, images, scores)
        draw(detector, images, scores, options.out / f"{name}.png")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # the message names the file or the argument
        raise SystemExit(str(error)) from None
