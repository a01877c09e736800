"""Runs of the command ``score`` on a few small images, without torch."""

import json
import os
from pathlib import Path

from PIL import Image

from pyimgano_openclip.cli.images import search_images
from pyimgano_openclip.cli.score import score_folder
from pyimgano_openclip.images.reading import read_pixels

from helpers.detectors import patchknn
from helpers.embedders import ColourEmbedder, red_image, red_images


class RecordingEmbedder(ColourEmbedder):
    """Reads files, remembers which, and is interrupted where a test wants it."""

    def __init__(self, *, stops_at: int | None = None) -> None:
        super().__init__(rows=4, cols=6)
        self.seen: list[str] = []
        self.stops_at = stops_at

    def embed(self, image):
        if self.stops_at is not None and len(self.seen) >= self.stops_at:
            raise KeyboardInterrupt
        if isinstance(image, (str, Path)):
            self.seen.append(Path(image).name)
            image = read_pixels(image)
        return super().embed(image)


def find_images(places, **more):
    """The images in some places, without what else was found there."""
    return search_images(places, **more).images


def fitted_detector(on_error="raise", roi=None, **arguments):
    """Patch-kNN that flags images with a green square; the arguments are the embedder's."""
    found = patchknn(embedder=RecordingEmbedder(**arguments), on_error=on_error, roi=roi)
    found.fit(red_images(10, 30, 45, first=20))
    found.threshold_ = 3 * found.decision_scores_.max()
    return found


def scored(folder: Path, out: Path, fitted=None, **more):
    """Score the images of a folder as the command does."""
    with score_folder(fitted or fitted_detector(), find_images([folder]), out, **more) as done:
        return done


def lines_of(out: Path) -> list[dict]:
    """The lines that a run has written so far."""
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


def leather(folder: Path, count: int, size=(48, 64), first: int = 0) -> Path:
    """A new folder with so many images, those of another ``first`` with other pixels."""
    folder.mkdir()
    for number in range(count):
        image = red_image(*size, seed=first + number)
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return folder


def lock(monkeypatch, folder: Path) -> None:
    """Let nobody list a folder, not even root."""
    scandir = os.scandir

    def refuse(place="."):
        if Path(os.fspath(place)) == folder:
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr("os.scandir", refuse)
