"""Reports of images that nobody scored."""

import io
import json
import re
from dataclasses import replace

import numpy as np
from PIL import Image

from pyimgano_openclip.maps.levels import Levels
from pyimgano_openclip.report.page import Finding, Neighbour, Section, render_report

LEVELS = Levels.of(0, 1, 0.5, highest=1)  # of the maps
DATE = "2026-11-26 09:30"


def encoded(picture: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def jpeg(colour=(90, 110, 130)) -> bytes:
    return encoded(Image.new("RGB", (48, 32), colour), "JPEG")


def hot_region(box, peak, defect=None, probability=None) -> dict:
    """A hot region as it is in a journal."""
    return {"box": list(box), "peak": peak, "defect": defect, "probability": probability}


def finding(name: str, score: float, **more) -> Finding:
    found = np.zeros((8, 12), np.float32)
    found[2:4, 5:8] = score
    return Finding(name=name, score=score, size=(320, 480), heat=LEVELS.picture(found), **more)


def section(count: int = 6, title: str = "Few-shot") -> Section:
    """Images with scores 0, 1/n, 2/n, ...; the best has a named defect and a neighbour."""
    usual = [finding(f"part-{n}.png", n / count) for n in range(count - 1)]
    hottest = finding(
        f"part-{count - 1}.png",
        (count - 1) / count,
        regions=[
            hot_region((40, 60, 120, 160), 0.9, "scratch", 0.75),
            hot_region((300, 10, 330, 30), 0.6),
        ],
        neighbours=[
            Neighbour(0.5, jpeg(), jpeg(), "good-3.png"),
            Neighbour(0.4, jpeg(), None, "gone.png"),
        ],
    )
    training = np.linspace(0, 0.4, 10)
    return Section(title, 0.55, [*usual, hottest], training, settings={"n_neighbors": 1})


def rendered(*sections: Section, title: str = "Screws") -> str:
    sections = [replace(part, levels=part.levels or LEVELS.values.tolist()) for part in sections]
    names = [found.name for part in sections for found in part.findings]
    return render_report(title, sections, dict.fromkeys(names, jpeg()), {"torch": "2.1"}, DATE)


def data_of(page: str) -> dict:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])
