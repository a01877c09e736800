"""The command ``demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from ..detector import OpenCLIPDetector
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from ..samples import make_sample
from .answer import Answer
from .images import find_images
from .reporting import write_report
from .results import REPORT
from .score import score_folder, section_of, summary

FAMILY = "leather"  # never seen by the bundled model in training
SIZE = (240, 320)
NORMAL, INTACT = 24, 8  # images to fit with; normal images among those to score
DEFECTS = ("scratch", "hole", "stain", "cut", "crack", "contamination", "dent", "thread")


def run(options: argparse.Namespace) -> Answer:
    """Fit and score both detectors on generated images."""
    images = options.out / "images"
    _photograph(images)
    normal = [source.path for source in find_images([images / "normal"])]
    test = find_images([images / "test"])
    common = {"openclip_model_name": "bundled", "device": options.device}
    detectors: dict[str, OpenCLIPDetector] = {
        "Few-shot: patch-kNN": VisionOpenCLIPPatchKNN(contamination=0.05, **common).fit(normal),
        "Zero-shot: prompts": VisionOpenCLIPPromptScore(
            class_name=FAMILY, defects=list(DEFECTS), **common
        ),
    }
    runs = {
        title: score_folder(
            detector, test, options.out / title.split(":")[0].lower(), overwrite=True
        )
        for title, detector in detectors.items()
    }
    report = options.out / REPORT
    sections = [section_of(title, done) for title, done in runs.items()]
    write_report(report, "pyimgano-openclip demo", sections, [r.results for r in runs.values()])
    facts = {title: summary(done) for title, done in runs.items()}
    lines = [f"{len(normal)} normal images to learn from, {len(test)} to score: {images}"]
    for title, found in facts.items():
        hits = sum(
            record["label"] == (not record["image"].startswith("intact"))
            for record in runs[title].tally.records
        )
        lines.append(f"{title:20} {found['anomalous']} anomalous, {hits} of {len(test)} right")
    lines.append(f"report: {report}")
    return Answer("\n".join(lines), {"detectors": facts, "report": str(report)})


def _photograph(folder: Path) -> None:
    """Write the images; they are the same every time."""
    for kind in ("normal", "test"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    shots: list[tuple[str, int, str | None]]
    shots = [(f"normal/{seed:02}.png", seed, None) for seed in range(NORMAL)]
    shots += [(f"test/intact-{seed:02}.png", 50 + seed, None) for seed in range(INTACT)]
    shots += [(f"test/{name}.png", 100 + seed, name) for seed, name in enumerate(DEFECTS)]
    for name, seed, defect in shots:
        if not (folder / name).is_file():
            sample = make_sample(FAMILY, seed=seed, size=SIZE, defect=defect)
            Image.fromarray(sample.image).save(folder / name)
