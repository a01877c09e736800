"""Tells which images show one part, by their folders, their names or a table."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath

from .messages import counted

LAST_PIECE = re.compile(r"[-_. ][^-_. ]*$")  # of a name without its suffix


def groups_of(
    paths: Sequence[Path],
    by: str | None,
    known: Sequence[str] = (),
    spared: Collection[Path] = (),
) -> list[str] | None:
    """The group of each image, by names that stay when the whole set is moved.

    Args:
        paths: The images.
        by: ``"folder"``; ``"prefix"`` for the name without its last piece and whatever the folder,
            ``part7`` of ``day1/part7_2.png``; or a CSV file of lines ``image,group``, with paths,
            from the working directory or absolute, or names that only one image has.
        known: Groups of images that were learnt before. A folder whose path ends like one of them
            is of that group.
        spared: Images whose group the file need not tell; it is "" then.

    Raises:
        ValueError: If the file does not tell the group of each image.
        OSError: If it cannot be opened.
    """
    if by is None:
        return None
    if by == "folder":
        return _by_folder([path.parent for path in paths], known)
    if by == "prefix":
        # Images of different parts that are taken for one only raise the threshold a little, while
        # shots of one part that are taken for independent images set it too low.
        return [LAST_PIECE.sub("", path.stem) for path in paths]
    return _from_table(paths, Path(by), spared)


def parts_line(paths: Sequence[Path], groups: Sequence[str], by: str) -> str:
    """How many parts there are, by what they were told, and what to pass if that is wrong."""
    line = f"{counted(len(set(groups)), 'part')}, by {by}"
    if by != "prefix":
        return line
    places = {(group, path.parent) for group, path in zip(groups, paths, strict=True)}
    folders = Counter(group for group, _ in places)
    several = sum(count > 1 for count in folders.values())
    if not several:
        return line
    return (
        f"{line}; images of {several} lie in several folders: if those of another folder show "
        "another part, pass --group-by folder, or a CSV file"
    )


def _by_folder(folders: Sequence[PurePath], known: Sequence[str]) -> list[str]:
    """The ends of the folders' paths, as long as it takes to tell them and known ones apart."""
    ends = {PurePosixPath(group).parts for group in known}
    longest = max(map(len, ends), default=1)
    different = set(folders)
    while len({folder.parts[-longest:] for folder in different}) < len(different):
        longest += 1
    named = {folder: _end(folder, ends, longest) for folder in different}
    return [named[folder] for folder in folders]


def _end(folder: PurePath, known: Collection[tuple[str, ...]], longest: int) -> str:
    """The longest known end of a folder's path, or else one of so many pieces."""
    parts = folder.parts
    fitting = [end for end in known if end and parts[-len(end) :] == end]
    return PurePath(*max(fitting, key=len, default=parts[-longest:])).as_posix()


def _from_table(paths: Sequence[Path], table: Path, spared: Collection[Path]) -> list[str]:
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
    missing = [path for path in paths if path not in groups and path not in spared]
    if missing:
        raise ValueError(f"{table} does not tell the group of {missing[0].name}.")
    return [groups.get(path, "") for path in paths]


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
