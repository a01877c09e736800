"""Tells which images show one part, by their folders, their names or a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

LAST_PIECE = re.compile(r"[-_. ][^-_. ]*$")  # of a name without its suffix


def groups_of(paths: Sequence[Path], by: str | None) -> list[str] | None:
    """The group of each image.

    Args:
        paths: The images.
        by: ``"folder"``; ``"prefix"`` for the name without its last piece, ``part7`` of
            ``part7_2.png``; or a CSV file of lines ``image,group``, with names or paths as given.

    Raises:
        ValueError: If the file does not tell the group of each image.
        OSError: If it cannot be opened.
    """
    if by is None:
        return None
    if by == "folder":
        return [str(path.parent) for path in paths]
    if by == "prefix":
        return [str(path.parent / LAST_PIECE.sub("", path.stem)) for path in paths]
    return _from_table(paths, Path(by))


def _from_table(paths: Sequence[Path], table: Path) -> list[str]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        known: dict[str, str] = {}
        for number, row in enumerate(csv.reader(file), start=1):
            if len(row) != 2:
                raise ValueError(f"{table}, line {number} is not of the form image,group.")
            known[row[0]] = row[1]
    found = [known.get(str(path), known.get(path.name)) for path in paths]
    told = [group for group in found if group is not None]
    if len(told) < len(paths):
        missing = paths[found.index(None)]
        raise ValueError(f"{table} does not tell the group of {missing.name}.")
    return told
