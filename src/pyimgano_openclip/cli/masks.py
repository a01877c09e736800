"""Finds the masks by which a detector looks, which are no images to inspect."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..files.checkpoint import read_header
from ..images.roi import is_folder


def places_of_masks(options: argparse.Namespace) -> list[Path]:
    """Files and folders of masks that ``--roi``, ``--masks`` and saved detectors name.

    Raises:
        ValueError: If a file of a detector is damaged.
    """
    given = vars(options)
    named = [given.get(name) for name in ("roi", "masks")]
    saved = [given.get(name) for name in ("detector", "compare")]
    folders = [folder_of_masks(path) for path in saved if isinstance(path, Path)]
    return [Path(place) for place in (*named, *folders) if isinstance(place, (str, Path))]


def folder_of_masks(saved: Path) -> Path | None:
    """The folder of masks by which a saved detector looks, where it was; None for any other.

    Raises:
        ValueError: If the file is damaged.
    """
    header = read_header(saved)
    try:
        roi = header["settings"]["roi"]
        return Path(roi["folder"]) if is_folder(roi) else None
    except (LookupError, TypeError):  # loading it says what is wrong
        return None
