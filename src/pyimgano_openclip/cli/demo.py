"""The command ``demo``."""

from __future__ import annotations

import argparse
import io
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from ..detector.base import OpenCLIPDetector
from ..files.atomic import write_atomically
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from ..samples import make_sample
from .answer import Answer
from .images import ImageFile
from .outcome import section_of, summary
from .places import REPORT, check_new
from .reporting import write_report
from .score import score_folder

FAMILY = "leather"  # never seen by the bundled model in training
SIZE = (240, 320)
NORMAL, INTACT = 24, 8  # images to fit with; normal images among those to score
DEFECTS = ("scratch", "hole", "stain", "cut", "crack", "contamination", "dent", "thread")


def run(options: argparse.Namespace) -> Answer:
    """Fit and score patch-kNN and prompts on generated images."""
    check_new(options.out, "--out", overwrite=options.overwrite)
    images = options.out / "images"
    normal, test = _photograph(images)
    common = {"openclip_model_name": "bundled", "device": options.device}
    detectors: dict[str, OpenCLIPDetector] = {
        "Few-shot: patch-kNN": VisionOpenCLIPPatchKNN(contamination=0.05, **common).fit(normal),
        "Zero-shot: prompts": VisionOpenCLIPPromptScore(
            class_name=FAMILY, defects=list(DEFECTS), **common
        ),
    }
    report = options.out / REPORT
    with ExitStack() as stack:
        runs = {}
        for title, detector in detectors.items():
            out = options.out / title.split(":")[0].lower()
            folder = score_folder(detector, test, out, overwrite=options.overwrite)
            runs[title] = stack.enter_context(folder)
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
    return Answer(lines, {"detectors": facts, "report": str(report)})


def _photograph(folder: Path) -> tuple[list[Path], list[ImageFile]]:
    """Write the images, normal ones and those to score; they are the same every time."""
    normal = {f"{seed:02}.png": (seed, None) for seed in range(NORMAL)}
    test: dict[str, tuple[int, str | None]]
    test = {f"intact-{seed:02}.png": (50 + seed, None) for seed in range(INTACT)}
    test |= {f"{name}.png": (100 + seed, name) for seed, name in enumerate(DEFECTS)}
    for kind, shots in (("normal", normal), ("test", test)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for name, (seed, defect) in shots.items():
            sample = make_sample(FAMILY, seed=seed, size=SIZE, defect=defect)
            buffer = io.BytesIO()
            Image.fromarray(sample.image).save(buffer, "PNG")
            write_atomically(folder / kind / name, buffer.getvalue())
    found = [ImageFile(name, (folder / "test" / name).absolute()) for name in sorted(test)]
    return [folder / "normal" / name for name in normal], found
