"""Patch-kNN and prompts on MVTec AD or VisA, measured by pyimgano's own pipeline.

    python examples/openclip_mvtec_visa.py mvtec path/to/mvtec_ad \
        --tower ViT-B-16-plus-240 --pretrained laion400m_e31
    python examples/openclip_mvtec_visa.py visa path/to/visa_pytorch/1cls --shots 4 \
        --tower ViT-B-16-plus-240 --pretrained laion400m_e31

    python examples/openclip_mvtec_visa.py mvtec path/to/mvtec_ad --recipe winclip \
        --tower ViT-B-16-plus-240 --pretrained laion400m_e31

Patch-kNN learns from all training images, or from --shots of them; prompts see none, and with
--shots a further row compares with words and images together. With --recipe only prompts are
measured, by that published method; its published figures, if there are any, are printed beside. Our
own method has none. --out keeps the
figures of every finished category: an interrupted run goes on there, and figures of other settings
are refused. MVTec AD is read as it comes, VisA as prepare_data.py of amazon-science/spot-diff
sorts it (--split-type 1cls).
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pyimgano.models import create_model
from pyimgano.pipelines.mvtec_visa import BenchmarkSplit, evaluate_split, load_benchmark_split
from tqdm import tqdm

from pyimgano_openclip import __version__, anomaly_map

WEIGHTS = "laion400m_e31"  # of a tower unless --pretrained names others
PROMPTS, PATCHES = "vision_openclip_promptscore", "vision_openclip_patchknn"
METRICS = ("image AUROC", "pixel AUROC", "AUPRO")
CATEGORIES = {"mvtec": 15, "visa": 12}  # in the whole data set
SPOKEN = {"pcb": "printed circuit board", "chewinggum": "chewing gum"}
# Options that the figures depend on.
SETTINGS = ("dataset", "shots", "seed", "tower", "pretrained", "image_size", "map_size", "recipe")
WIDTH = 52  # characters of a table's first column
# Of WinCLIP, in percent: means over all categories in the order of METRICS; None for no figure.
PUBLISHED = {
    "mvtec": {
        "WinCLIP zero-shot (Jeong et al., CVPR 2023)": (91.8, 85.1, 64.6),
        "WinCLIP+ 1-shot (Jeong et al., CVPR 2023)": (93.1, 95.2, None),
        "WinCLIP+ 4-shot (Jeong et al., CVPR 2023)": (95.2, 96.2, None),
    },
    "visa": {
        "WinCLIP zero-shot (Jeong et al., CVPR 2023)": (78.1, 79.6, 56.8),
        "WinCLIP+ 1-shot (Jeong et al., CVPR 2023)": (83.8, 96.4, None),
        "WinCLIP+ 4-shot (Jeong et al., CVPR 2023)": (87.3, 97.2, 87.6),
    },
}


@dataclass(frozen=True)
class Contestant:
    """A row of the table: a detector and the training images that it may see (0 for all)."""

    name: str
    model: str
    shots: int
    as_references: bool = False


class OnePass:
    """A detector as the pipeline uses it, but each image is scored once, whatever its size.

    The pipeline asks for scores and then for maps, of one size; where maps fail it leaves out the
    pixel figures in silence. Made together with the scores, they fail aloud.
    """

    def __init__(self, detector, side: int, **fitting: bool) -> None:
        self.detector, self.size, self.fitting = detector, (side, side), fitting

    def fit(self, paths: list[str]) -> OnePass:
        """Learn from normal images."""
        self.detector.fit(paths, **self.fitting)
        return self

    def decision_function(self, paths: list[str]) -> np.ndarray:
        """Image scores; the maps are kept, in the size of the masks."""
        scored = tqdm(self.detector.score_iter(paths), total=len(paths), leave=False, disable=None)
        found = [
            (image.image, anomaly_map(image.patches, self.size, smoothing=image.smoothing))
            for image in scored
        ]
        self.maps = np.stack([heat for _, heat in found])
        return np.array([score for score, _ in found])

    def predict_anomaly_map(self, _paths: list[str]) -> np.ndarray:
        """The maps of the images just scored, (N, side, side)."""
        return self.maps


class Figures:
    """Figures by contestant and category, in a JSON file that is replaced after each of them."""

    def __init__(self, path: Path, settings: dict) -> None:
        self.path, self.settings, self.found = path, settings, {}
        if not path.exists():
            return
        earlier = json.loads(path.read_text(encoding="utf-8"))
        changed = [name for name in settings if earlier["settings"].get(name) != settings[name]]
        if changed:
            told = (f"{name} was {earlier['settings'].get(name)!r}" for name in changed)
            raise SystemExit(f"{path} has figures of other settings: {', '.join(told)}. Use --out.")
        self.found = earlier["figures"]

    def add(self, name: str, category: str, measured: dict) -> None:
        """Keep what was measured; the file is whole at any moment."""
        self.found.setdefault(name, {})[category] = measured
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".part")
        content = {"settings": self.settings, "figures": self.found}
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        partial.replace(self.path)


def contestants(shots: int, recipe: str | None) -> list[Contestant]:
    """The rows of the table."""
    # The pipeline always fits. For prompts that sets a threshold, which no figure here looks at.
    zero_shot = Contestant("prompts, zero-shot", PROMPTS, shots=1)
    if recipe == "winclip" and shots:
        return [zero_shot, Contestant(f"WinCLIP+, {shots}-shot", PROMPTS, shots, True)]
    if recipe:
        return [zero_shot]
    if not shots:
        return [zero_shot, Contestant("patch-kNN, all normal images", PATCHES, shots=0)]
    return [
        zero_shot,
        Contestant(f"patch-kNN, {shots}-shot", PATCHES, shots),
        Contestant(f"prompts and images, {shots}-shot", PROMPTS, shots, as_references=True),
    ]


def build(contestant: Contestant, category: str, options: argparse.Namespace) -> OnePass:
    """A new detector; prompts get the category in words."""
    words = category.rstrip("0123456789").replace("_", " ")
    named = {"class_name": SPOKEN.get(words, words), "recipe": options.recipe}
    named = named if contestant.model == PROMPTS else {}
    detector = create_model(
        contestant.model,
        openclip_model_name=options.tower,
        openclip_pretrained=options.pretrained,
        force_image_size=options.image_size,
        device=options.device,
        **named,
    )
    fitting = {"use_as_references": True} if contestant.as_references else {}
    return OnePass(detector, options.map_size, **fitting)


def load_split(root: Path, category: str, options: argparse.Namespace) -> BenchmarkSplit:
    """Paths, labels and masks of a category, as the host reads them."""
    side = (options.map_size, options.map_size)
    split = load_benchmark_split(
        dataset=options.dataset, root=str(root), category=category, resize=side
    )
    bare = sum(not mask.any() for mask in split.test_masks[split.test_labels == 1])
    if bare:
        print(f"{category}: {bare} defective images have no mask; all their pixels count as normal")
    return split


def measure(
    contestant: Contestant, split: BenchmarkSplit, category: str, options: argparse.Namespace
) -> dict:
    """Fit, score, and the three figures in percent; None where one is undefined."""
    train = split.train_paths
    if contestant.shots:
        shuffled = np.random.default_rng(options.seed).permutation(len(train))
        train = [train[number] for number in shuffled[: contestant.shots]]
    start = time.perf_counter()
    detector = build(contestant, category, options)
    found = evaluate_split(detector, replace(split, train_paths=train))
    pixels = found["pixel_metrics"]
    values = (found["auroc"], pixels["pixel_auroc"], pixels["aupro"])
    figures = {
        metric: None if math.isnan(value) else 100 * value
        for metric, value in zip(METRICS, values, strict=True)
    }
    seconds = round(time.perf_counter() - start, 1)
    return {**figures, "train": len(train), "test": len(split.test_paths), "seconds": seconds}


def categories_in(options: argparse.Namespace) -> list[str]:
    """The categories to measure: those asked for, or all folders with training images."""
    found = sorted(folder.parent.name for folder in options.root.glob("*/train"))
    missing = sorted(set(options.categories or ()) - set(found))
    if missing or not found:
        raise SystemExit(
            f"{options.root} has no folder {missing[0] if missing else 'CATEGORY'}/train; "
            f"it has: {', '.join(found) or 'none'}."
        )
    return options.categories or found


@contextmanager
def readable(root: Path, category: str) -> Iterator[Path]:
    """The root, or links to its images: the host finds lower-case suffixes, VisA has .JPG."""
    images = [path for path in (root / category).rglob("*") if path.is_file()]
    if all(path.suffix == path.suffix.lower() for path in images):
        yield root
        return
    with tempfile.TemporaryDirectory() as links:
        for path in images:
            link = Path(links, path.relative_to(root)).with_suffix(path.suffix.lower())
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        yield Path(links)


def line(name: str, values: tuple[float | None, ...]) -> str:
    """A row of a table."""
    return name.ljust(WIDTH) + "".join(f"{'-' if v is None else f'{v:.1f}':>13}" for v in values)


def tables(dataset: str, found: dict[str, dict[str, dict]], recipe: str | None) -> Iterator[str]:
    """What was measured, by category and on average, and what is published of the recipe."""
    for name, rows in found.items():
        yield f"\n{name:{WIDTH}}" + "".join(f"{metric:>13}" for metric in METRICS)
        for category, row in sorted(rows.items()):
            yield line(f"  {category}", tuple(row[metric] for metric in METRICS))
        known = [[row[m] for row in rows.values() if row[m] is not None] for m in METRICS]
        means = tuple(float(np.mean(values)) if values else None for values in known)
        yield line(f"  mean of {len(rows)} of {CATEGORIES[dataset]} categories", means)
    if recipe != "winclip":
        return
    yield "\nPublished, with ViT-B-16-plus-240 and laion400m_e31, over all categories."
    yield "Targets to compare with; not measured here:"
    for name, values in PUBLISHED[dataset].items():
        yield line(f"  {name}", values)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is not measured yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", choices=CATEGORIES)
    parser.add_argument("root", type=Path, help="the folder that holds the categories")
    parser.add_argument("--categories", nargs="+", help="only these (default: all)")
    parser.add_argument("--shots", type=int, default=0, help="normal images; 0 for all of them")
    parser.add_argument("--seed", type=int, default=0, help="which images --shots takes")
    parser.add_argument("--tower", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", default=WEIGHTS, help="an open_clip tag, or a weights file")
    parser.add_argument("--image-size", type=int, help="the tower's input; 518 is slow and fine")
    parser.add_argument("--map-size", type=int, default=256, help="side of maps and masks compared")
    parser.add_argument("--recipe", choices=("winclip", "clip-surgery"), help="only this method")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="JSON file (default: DATASET-figures.json)")
    options = parser.parse_args(arguments)

    settings = {
        **{name: version(name) for name in ("pyimgano", "open_clip_torch")},
        "pyimgano-openclip": __version__,
        **{name: value for name, value in vars(options).items() if name in SETTINGS},
        "root": str(options.root.resolve()),
    }
    figures = Figures(options.out or Path(f"{options.dataset}-figures.json"), settings)
    for category in categories_in(options):
        todo = [
            contestant
            for contestant in contestants(options.shots, options.recipe)
            if category not in figures.found.get(contestant.name, {})
        ]
        if not todo:
            continue
        with readable(options.root, category) as root:
            split = load_split(root, category, options)
            for contestant in todo:
                measured = measure(contestant, split, category, options)
                figures.add(contestant.name, category, measured)
                print(line(f"{category}: {contestant.name}", tuple(measured[m] for m in METRICS)))
    print("\n".join(tables(options.dataset, figures.found, options.recipe)))
    if options.tower == "bundled":
        print("\nThe bundled model is for trying out; --tower and --pretrained name a real one.")


if __name__ == "__main__":
    main()
