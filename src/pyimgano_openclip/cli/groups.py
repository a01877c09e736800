"""Tells which images show one part, by their folders, their names or a table."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

LAST_PIECE = re.compile(r"[-_. ][^-_. ]*$")  # of a name without its suffix


def groups_of(paths: Sequence[Path], by: str | None) -> list[str] | None:
    """The group of each image.

    Args:
        paths: The images.
        by: ``"folder"``; ``"prefix"`` for the name without its last piece, ``part7`` of
            ``part7_2.png``; or a CSV file of lines ``image,group``, with paths, from the
            working directory or absolute, or names that only one image has.

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
    whole = {_key(path): path for path in paths}
    named: dict[str, list[Path]] = {}
    for path in paths:
        named.setdefault(path.name, []).append(path)
    groups: dict[Path, str] = {}
    for number, (image, group) in _lines(table):
        exact = whole.get(_key(Path(image)))
        meant = named.get(image, []) if exact is None else [exact]
        if len(meant) > 1:
            raise ValueError(
                f"{table}, line {number}: {image} fits {meant[0]} and {meant[1]}; a path that "
                "tells which of them it is was expected."
            )
        for path in meant:
            if groups.setdefault(path, group) != group:
                raise ValueError(
                    f"{table}, line {number}: {path} is of the group {group!r}, but an earlier "
                    f"line says {groups[path]!r}; one group for each image was expected."
                )
    missing = [path for path in paths if path not in groups]
    if missing:
        raise ValueError(f"{table} does not tell the group of {missing[0].name}.")
    return [groups[path] for path in paths]


def _lines(table: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    """The number of each line, from 1, with its image and its group."""
    text = io.StringIO(_text(table), newline="")
    for number, row in enumerate(csv.reader(text), start=1):
        if len(row) != 2:
            raise ValueError(f"{table}, line {number} is not of the form image,group.")
        image, group = row
        if not group.strip():
            raise ValueError(
                f"{table}, line {number}: the group of {image} is empty; a word or a number was "
                "expected."
            )
        yield number, (image, group)


def _text(table: Path) -> str:
    """The text of a file; in UTF-16 without a mark, too, every other byte would be zero."""
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf_8(table) from error
    if "\0" in text:
        raise _not_utf_8(table)
    return text


def _not_utf_8(table: Path) -> ValueError:
    return ValueError(
        f"{table} is not UTF-8 text, which was expected; save it as CSV in UTF-8, not in UTF-16 "
        "('Unicode text') or another encoding."
    )


def _key(path: Path) -> str:
    """What tells an image file apart, however its folder is spelled."""
    return str(Path(os.path.realpath(path.parent)) / path.name)
