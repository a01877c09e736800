"""Finds and names the images given on the command line, and bounds their size."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ..images.formats import file_suffixes
from ..images.opening import set_most_pixels
from .messages import counted, encodable, listed
from .places import FILES, KINDS, holds_results

# What looks like an escaped byte, or is a byte to be escaped, behind backslashes.
ESCAPE = re.compile(r"(\\+)(?=udc[89a-f][0-9a-f]|[\udc80-\udcff])")


@dataclass(frozen=True)
class ImageFile:
    r"""One image on disk.

    Attributes:
        name: Path relative to the common folder of all images, with forward slashes. Bytes that
            are not UTF-8 are escaped as in Python, ``bad\udcff.png``. Of a folder that cannot be
            searched, which stands for the images in it, it ends in a slash.
        path: Absolute path, without links to folders; of a remote image no more than its name.
        problem: Why the folder cannot be searched; None for a file.
        address: Of a remote image; see :mod:`~..files.remote`.
    """

    name: str
    path: Path
    problem: str | None = None
    address: str | None = None

    @property
    def place(self) -> str:
        """Where the image is: its path or address."""
        return self.address or str(self.path)


@dataclass(frozen=True)
class Found:
    """What a search has found.

    Attributes:
        images: The images, each once, and folders that cannot be searched.
        others: Number of files in the folders that do not have an image's suffix.
        repeated: Number of further links to images that are listed.
        results: Folders that hold results of earlier runs, which were left out.
        masks: Masks and folders of them, which were left out.
    """

    images: list[ImageFile]
    others: int
    repeated: int
    results: list[str]
    masks: list[str] = field(default_factory=list)


@contextmanager
def most_pixels(count: int | None) -> Iterator[None]:
    """Read images of at most so many pixels meanwhile; None for Pillow's limit.

    What exceeds it is an error with a remedy, so Pillow's warning of large images says nothing new.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        set_most_pixels(count)
        try:
            yield
        finally:
            set_most_pixels(None)


def search_images(
    places: Sequence[Path], *, leave_out: Path | None = None, masks: Sequence[Path] = ()
) -> Found:
    """Find images, each once; those of a folder are sorted by path.

    Links are followed, also to folders; a file is one image however many links lead to it.

    Args:
        places: Files, whatever their name, and folders, which are searched recursively, except
            for hidden files and folders (``.name``) and for what earlier runs have drawn.
        leave_out: Folder to skip; files in it that are named in ``places`` are kept.
        masks: Files and folders to skip that are not images but their masks; those that are named
            in ``places`` are kept.

    Raises:
        ValueError: If a place does not exist, no image is found, or a file is named that lies
            where results for ``leave_out`` are written.
    """
    search = _Search(leave_out, {_real(mask) for mask in masks})
    for order, place in enumerate(places):
        if place.is_file():
            search.take_file(place, order)
        elif place.is_dir():
            search.take_folder(place, order)
        else:
            missing = not os.path.lexists(place)
            raise ValueError(
                f"{place} {'does not exist' if missing else 'is neither a file nor a folder'}."
            )
    search.follow()
    if not search.seen:
        where = ", ".join(str(place) for place in places)
        outside = "" if leave_out is None else f" outside {leave_out}"
        others = [folder for folder in search.results if folder not in map(str, places)]
        earlier = f" (results of earlier runs: {', '.join(others)})" if others else ""
        known = ", ".join(sorted(search.suffixes))
        raise ValueError(
            f"There is no image in {where}{outside}{earlier}; supported suffixes: {known}."
        )
    return search.found()


def skipped(found: Found) -> dict[str, Any]:
    """The facts that are printed about what a search has left out."""
    return {
        "skipped": found.others,
        "repeated": found.repeated,
        "results_skipped": found.results,
        "masks_skipped": found.masks,
    }


def skipped_lines(facts: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    lines = []
    if facts["skipped"]:
        lines.append(f"{counted(facts['skipped'], 'file')} skipped: not an image by the suffix")
    if facts["repeated"]:
        lines.append(f"{counted(facts['repeated'], 'link')} skipped: to images that are listed")
    if facts["results_skipped"]:
        lines.append(f"skipped: results in {listed(facts['results_skipped'])}")
    if facts["masks_skipped"]:
        lines.append(f"skipped: masks in {listed(facts['masks_skipped'])}")
    return lines


@dataclass(frozen=True)
class _Seen:
    """A file or a folder on the way; those reached without links sort first."""

    linked: bool
    order: int  # of the place it was found in
    path: Path
    real: Path
    problem: str | None = None


@dataclass
class _Search:
    """A search that goes on until all links to folders have been followed."""

    leave_out: Path | None
    masks: set[Path]
    suffixes: set[str] = field(default_factory=file_suffixes)
    seen: list[_Seen] = field(default_factory=list)
    others: int = 0
    results: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # masks

    def __post_init__(self) -> None:
        self._out = None if self.leave_out is None else _real(self.leave_out)
        self._roots: list[str] = []
        self._visited: set[Path] = set()
        self._folders: list[_Seen] = []
        self._links: list[_Seen] = []

    def take_file(self, place: Path, order: int) -> None:
        """Take a file that is named, wherever it lies, but not one that results would replace."""
        parent = _real(place.absolute().parent)
        path, real = parent / place.name, _real(place)
        if self._out is not None and any(path.is_relative_to(self._out / kind) for kind in KINDS):
            raise ValueError(
                f"{place} lies where results are written; choose another --out than "
                f"{self.leave_out}."
            )
        self._roots.append(str(parent))
        self.seen.append(_Seen(path != real, order, path, real))

    def take_folder(self, place: Path, order: int) -> None:
        """Take a folder to search, unless it holds what earlier runs have drawn."""
        real = _real(place)
        if real == self._out:
            self.results.append(str(place))
        elif self._out is not None and real.is_relative_to(self._out):
            raise ValueError(
                f"{place} lies in the folder of the results, {self.leave_out}, which is not "
                "searched for images; choose another --out."
            )
        elif not self._is_of_results(real):
            # The folder itself, so that names do not depend on what else is in it.
            self._roots.append(str(real))
            self._folders.append(_Seen(False, order, real, real))

    def follow(self) -> None:
        """Search the folders, then those that links lead to, each once."""
        while self._folders or self._links:
            folder = self._folders.pop() if self._folders else self._links.pop(0)
            if folder.real in self._visited or self._is_of_results(folder.real):
                continue
            self._visited.add(folder.real)
            try:
                with os.scandir(folder.path) as entries:
                    self._sort_out(folder, sorted(entries, key=lambda entry: entry.name))
            except OSError as error:
                problem = f"cannot be searched for images: {error.strerror or error}"
                self.seen.append(
                    _Seen(folder.linked, folder.order, folder.path, folder.real, problem)
                )

    def found(self) -> Found:
        """The images, each once, by place and path; the first name without links counts."""
        self.seen.sort(key=lambda seen: (seen.linked, seen.order, seen.path))
        once: dict[Path, _Seen] = {}
        for seen in self.seen:
            once.setdefault(seen.real, seen)
        named = {(seen.order, seen.path, seen.real) for seen in self.seen}
        try:
            root = Path(os.path.commonpath(self._roots))
        except ValueError as error:  # on several drives
            raise ValueError(f"The images have no common folder: {error}") from error
        images = [
            ImageFile(
                _name(seen.path.relative_to(root), folder=seen.problem is not None),
                seen.path,
                seen.problem,
            )
            for seen in sorted(once.values(), key=lambda seen: (seen.order, seen.path))
        ]
        repeated = len({path for _, path, _ in named}) - len(once)
        return Found(images, self.others, repeated, self.results, self.skipped)

    def _sort_out(self, folder: _Seen, entries: Sequence[os.DirEntry[str]]) -> None:
        of_results = holds_results(folder.path)
        for entry in entries:
            if entry.name.startswith(".") or (of_results and entry.name in FILES):
                continue
            path = folder.path / entry.name
            is_folder = _is_folder(entry)
            # Windows has links to folders that do not say so.
            asked = is_folder or folder.linked or entry.is_symlink()
            real = _real(path) if asked else folder.real / entry.name
            linked = folder.linked or real != folder.real / entry.name
            found = _Seen(linked, folder.order, path, real)
            if real in self.masks:
                self.skipped.append(str(path))
            elif is_folder:
                (self._links if linked else self._folders).append(found)
            elif linked and self._is_of_results(real.parent):
                continue
            elif is_folder is None or path.suffix.lower() in self.suffixes:
                self.seen.append(found)
            else:
                self.others += 1

    def _is_of_results(self, folder: Path) -> bool:
        """Whether a folder lies in what is left out, or was drawn by an earlier run."""
        if self._out is not None and folder.is_relative_to(self._out):
            return True
        for inside in (folder, *folder.parents):
            if inside.name in KINDS and holds_results(inside.parent):
                if str(inside.parent) not in self.results:
                    self.results.append(str(inside.parent))
                return True
        return False


def _name(relative: Path, *, folder: bool) -> str:
    # Twice as many backslashes, so that no other name reads the same when bytes are escaped.
    name = encodable(ESCAPE.sub(r"\1\1", relative.as_posix()))
    return f"{name}/" if folder else name


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    """None if it cannot be told, as of a broken link: it stays, to be reported as missing."""
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except OSError:  # such as a link to itself
        return None


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
