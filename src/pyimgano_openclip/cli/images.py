"""Finds and names the images given on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..frame import file_suffixes
from .messages import printable


@dataclass(frozen=True)
class Source:
    r"""One image on disk.

    Attributes:
        name: Path relative to the common folder of all images, with forward slashes. Bytes that
            are not UTF-8 are escaped as in Python, ``bad\udcff.png``.
        path: Absolute path.
    """

    name: str
    path: Path


def find_images(places: Sequence[Path], *, leave_out: Path | None = None) -> list[Source]:
    """The images of :func:`search_images`."""
    return search_images(places, leave_out=leave_out)[0]


def search_images(
    places: Sequence[Path], *, leave_out: Path | None = None
) -> tuple[list[Source], int]:
    """Find images, each once; those of a folder are sorted by path.

    Args:
        places: Files, whatever their name, and folders, which are searched recursively, except
            for hidden files and folders (``.name``).
        leave_out: Folder to skip; files in it that are named in ``places`` are kept.

    Returns:
        The images, and the number of files in the folders that do not have an image's suffix.

    Raises:
        ValueError: If a place does not exist or no image is found.
    """
    paths: dict[Path, None] = {}
    roots, others, suffixes = [], 0, file_suffixes()
    for place in places:
        if place.is_file():
            paths[place.absolute()] = None
            roots.append(str(place.absolute().parent))
        elif not place.is_dir():
            raise ValueError(f"{place} does not exist.")
        elif leave_out is None or not place.resolve().is_relative_to(leave_out.resolve()):
            files = _files_in(place, leave_out)
            images = [path for path in files if path.suffix.lower() in suffixes]
            others += len(files) - len(images)
            paths.update(dict.fromkeys(images))
            # The folder itself, so that names do not depend on what else is in it.
            roots.append(str(place.absolute()))
    if not paths:
        where = ", ".join(str(place) for place in places)
        outside = "" if leave_out is None else f" outside {leave_out}"
        known = ", ".join(sorted(suffixes))
        raise ValueError(f"There is no image in {where}{outside}; supported suffixes: {known}.")
    try:
        root = Path(os.path.commonpath(roots))
    except ValueError as error:  # on several drives
        raise ValueError(f"The images have no common folder: {error}") from error
    return [Source(printable(path.relative_to(root).as_posix()), path) for path in paths], others


def _files_in(folder: Path, leave_out: Path | None) -> list[Path]:
    found: Iterable[Path] = folder.rglob("*")
    if leave_out is not None and leave_out.resolve().is_relative_to(folder.resolve()):
        skipped = folder / leave_out.resolve().relative_to(folder.resolve())
        found = (path for path in found if not path.is_relative_to(skipped))
    # A dangling link stays, so that the missing image is reported.
    files = (path for path in found if not _is_hidden(path, folder) and not path.is_dir())
    return sorted(path.absolute() for path in files)


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
