"""From paths on the command line to images with names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Source:
    """One image on disk.

    Attributes:
        name: Its path below the folder that all images have in common, with forward slashes.
        path: Absolute.
    """

    name: str
    path: Path


def find_images(places: Sequence[Path]) -> list[Source]:
    """All images in the places, each once: a folder's in order of name, its subfolders' too.

    Args:
        places: Files, which are taken whatever their suffix, and folders.

    Raises:
        ValueError: If a place does not exist or there is no image.
    """
    paths: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            found = (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)
            paths.update(dict.fromkeys(sorted(path.absolute() for path in found)))
        elif place.is_file():
            paths[place.absolute()] = None
        else:
            raise ValueError(f"{place} does not exist.")
    if not paths:
        where = ", ".join(str(place) for place in places)
        raise ValueError(f"There is no image in {where}; known suffixes: {_known()}.")
    # The folder itself where there is one, so that a name does not depend on what lies in it.
    roots = [
        str(place.absolute() if place.is_dir() else place.absolute().parent) for place in places
    ]
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError as error:  # on several drives
        raise ValueError(f"The images have no folder in common: {error}") from error
    return [Source(path.relative_to(root).as_posix(), path) for path in paths]


def _known() -> str:
    return ", ".join(sorted(SUFFIXES))
