"""Finds and names the images given on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..frame import file_suffixes


@dataclass(frozen=True)
class Source:
    """One image on disk.

    Attributes:
        name: Path relative to the common folder of all images, with forward slashes.
        path: Absolute path.
    """

    name: str
    path: Path


def find_images(places: Sequence[Path], *, leave_out: Path | None = None) -> list[Source]:
    """Find images, each once; those of a folder are sorted by path.

    Args:
        places: Files, whatever their suffix, and folders, which are searched recursively.
        leave_out: Folder to skip; files in it that are named in ``places`` are kept.

    Raises:
        ValueError: If a place does not exist or no image is found.
    """
    paths: dict[Path, None] = {}
    roots = []
    for place in places:
        if place.is_file():
            paths[place.absolute()] = None
            roots.append(str(place.absolute().parent))
        elif not place.is_dir():
            raise ValueError(f"{place} does not exist.")
        elif leave_out is None or not place.resolve().is_relative_to(leave_out.resolve()):
            paths.update(dict.fromkeys(_images_in(place, leave_out)))
            # The folder itself, so that names do not depend on what else is in it.
            roots.append(str(place.absolute()))
    if not paths:
        where = ", ".join(str(place) for place in places)
        outside = "" if leave_out is None else f" outside {leave_out}"
        known = ", ".join(sorted(file_suffixes()))
        raise ValueError(f"There is no image in {where}{outside}; supported suffixes: {known}.")
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError as error:  # on several drives
        raise ValueError(f"The images have no common folder: {error}") from error
    return [Source(path.relative_to(root).as_posix(), path) for path in paths]


def _images_in(folder: Path, leave_out: Path | None) -> list[Path]:
    suffixes, found = file_suffixes(), folder.rglob("*")
    if leave_out is not None and leave_out.resolve().is_relative_to(folder.resolve()):
        skipped = folder / leave_out.resolve().relative_to(folder.resolve())
        found = (path for path in found if not path.is_relative_to(skipped))
    # A dangling link stays, so that the missing image is reported.
    images = (path for path in found if path.suffix.lower() in suffixes and not path.is_dir())
    return sorted(path.absolute() for path in images)
