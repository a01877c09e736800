"""Reads what a person has decided in a report and exported from it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .messages import listed

FORMAT = "pyimgano-openclip report"


@dataclass(frozen=True)
class Marked:
    """An image of a report.

    Attributes:
        path: Path of the image.
        label: 1 if its score is above the chosen threshold, else 0.
        truth: 1 if a person has said that it is anomalous, 0 if normal; None if nothing was said.
    """

    path: Path
    label: int
    truth: int | None


@dataclass(frozen=True)
class Marks:
    """What was decided in a report.

    Attributes:
        file: The exported file.
        folder: Folder of the images; a relative one is relative to that of the file.
        detector: Name of the saved detector's file; None if the report is not of one.
        digest: Of what scores depend on in that file; None if the report does not tell.
        threshold: The chosen threshold.
        images: The images, in the order of the report.
    """

    file: Path
    folder: Path
    detector: str | None
    digest: str | None
    threshold: float
    images: tuple[Marked, ...]

    def of_truth(self, truth: int) -> list[Path]:
        """The images that a person has said to be normal (0) or anomalous (1).

        Raises:
            ValueError: If one of them is no longer where it was.
        """
        return self._present(image for image in self.images if image.truth == truth)

    @property
    def false_alarms(self) -> list[Path]:
        """The images above the threshold that a person has said to be normal.

        Raises:
            ValueError: If one of them is no longer where it was.
        """
        return self._present(image for image in self.images if image.truth == 0 and image.label)

    def _present(self, images: Iterable[Marked]) -> list[Path]:
        paths = [image.path for image in images]
        gone = [str(path) for path in paths if not path.exists()]
        if gone:
            raise ValueError(
                f"{listed(gone)}: marked in {self.file}, but not there. If the images have moved, "
                f'put their folder in place of {str(self.folder)!r} at "folder" in that file.'
            )
        return paths


def read_marks(path: Path) -> Marks:
    """Read the file that a report exports.

    Raises:
        ValueError: If it is not such a file.
        OSError: If it cannot be opened.
    """
    try:
        return _marks(path, json.loads(path.read_bytes()))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} was not exported from a report: {error}. Pass the file that the report's "
            "button Export has saved."
        ) from error


def _marks(path: Path, found: dict[str, Any]) -> Marks:
    if found["format"] != FORMAT:
        raise ValueError(f"its format is {found['format']!r}, not {FORMAT!r}")
    folder, threshold = path.absolute().parent / found["folder"], found["threshold"]
    if not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
        raise ValueError(f"its threshold is {threshold!r}")
    images = tuple(_marked(folder, image, threshold) for image in found["images"])
    detector, digest = found["detector"], found.get("digest")  # older reports lack the digest
    return Marks(path, folder, detector, digest, float(threshold), images)


def _marked(folder: Path, image: dict[str, Any], threshold: float) -> Marked:
    truth = {None: None, "normal": 0, "anomalous": 1}[image["truth"]]
    score = image["score"]  # null if it could not be read
    label = 1 if score is None else int(score > threshold)
    return Marked(folder / image["image"], label, truth)
