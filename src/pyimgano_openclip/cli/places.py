"""Where the files of a results folder lie, and which of them a run may touch."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path, PurePosixPath

JOURNAL, TABLE, RUN, REPORT = "scores.jsonl", "scores.csv", "run.json", "report.html"
PICTURE_SETTINGS = "pictures.json"
LOCK = ".lock"  # empty; held by the run that writes
PATCHES, MAPS, OVERLAYS, THUMBNAILS = KINDS = ("patches", "maps", "overlays", "thumbnails")
FILES = (JOURNAL, TABLE, RUN, REPORT, PICTURE_SETTINGS)
FORMATS = frozenset({"png", "npy"})  # of maps
# Files drawn from an image and its patch scores.
PICTURES = (*((MAPS, suffix) for suffix in FORMATS), (OVERLAYS, "jpg"), (THUMBNAILS, "jpg"))
OF_AN_IMAGE = ((PATCHES, "npy"), *PICTURES)
LONGEST_NAME = 250  # bytes of a name; most file systems allow 255 with the suffix


class Places:
    """The files about each image in a results folder, no two of them the same.

    Args:
        folder: Path of the results folder.
        names: Names of the images. Those that differ only in case or in how Unicode composes a
            letter get files that differ in more, since many file systems take them for one name.
    """

    def __init__(self, folder: Path, names: Iterable[str] = ()) -> None:
        self.folder = folder
        self._stems = _stems(names)
        self._sound: set[str] = set()  # names that lead nowhere else
        self._inside: set[Path] = set()  # folders that were seen to be in the results folder

    def stem(self, name: str) -> str:
        """What the files about an image are called, without their suffix."""
        return self._stems.get(name) or _shortened(name)

    def path(self, kind: str, name: str, suffix: str) -> Path:
        """Path of a file about an image; it keeps the image's suffix, since a.jpg is not a.png.

        Raises:
            ValueError: If the name, or a link in the folder, leads out of the results folder.
        """
        stem = self.stem(name)
        if name not in self._sound:
            below = Path(f"{stem}.{suffix}")
            if below.anchor or ".." in below.parts or len(below.parts) != name.count("/") + 1:
                raise ValueError(f"{name!r} is no name of an image below {self.folder / kind}.")
            self._sound.add(name)
        path = self.folder / f"{kind}/{stem}.{suffix}"
        if path.parent not in self._inside:
            real = Path(os.path.realpath(path.parent))
            if not real.is_relative_to(os.path.realpath(self.folder)):
                raise ValueError(
                    f"{path.parent} leads out of the results folder, to {real}; remove the link, "
                    "or choose another --out."
                )
            self._inside.add(path.parent)
        return path

    def files_about(self, names: Iterable[str]) -> Iterator[Path]:
        """The files that the images may have; of names that were never given to images, none."""
        for name in names:
            for kind, suffix in OF_AN_IMAGE:
                try:
                    yield self.path(kind, name, suffix)
                except ValueError:  # version 0.1.0 gave names with "..", and wrote outside
                    break


def remove(paths: Iterable[Path], *, spared: Iterable[Path] = ()) -> None:
    """Remove files, then folders that this leaves empty.

    Args:
        paths: Files of :class:`Places`; missing ones are passed over.
        spared: Files to keep, also if the file system takes another spelling for them.
    """
    kept = {_folded(path.as_posix()): path for path in spared}
    for path in paths:
        other = kept.get(_folded(path.as_posix()))
        if not path.is_file() or (other and other.is_file() and path.samefile(other)):
            continue
        path.unlink()
        for folder in path.parents:
            if folder.parent.name not in KINDS or any(folder.iterdir()):
                break
            folder.rmdir()


def taken(folder: Path) -> list[str]:
    """What a folder has under the names of results."""
    found = [name for name in FILES if os.path.lexists(folder / name)]
    for kind in KINDS:
        place = folder / kind
        if os.path.lexists(place) and not (place.is_dir() and not any(place.iterdir())):
            found.append(kind)
    return found


def outdated(folder: Path) -> list[Path]:
    """The table and the report, if they are older than the last line of the journal."""
    try:
        latest = (folder / JOURNAL).stat().st_mtime_ns
    except OSError:
        return []
    made = [path for name in (TABLE, REPORT) if (path := folder / name).is_file()]
    return [path for path in made if path.stat().st_mtime_ns < latest]


def check_new(folder: Path, option: str, *, overwrite: bool) -> None:
    """Check that a folder is new or empty, unless its files may be replaced.

    Args:
        folder: Path of the folder.
        option: Name of the option that gave it.
        overwrite: Whether files in it may be replaced.

    Raises:
        ValueError: If it is not, or is no folder at all.
    """
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} exists and is not a folder; choose another {option}.")
    if not overwrite and any(folder.iterdir()):
        raise ValueError(
            f"{folder} exists and is not empty; choose another {option}, or replace what is in it "
            "with --overwrite."
        )


def holds_results(folder: Path) -> bool:
    """Whether a folder has a ``run.json`` of this program, or a damaged one beside a journal."""
    try:
        found = json.loads((folder / RUN).read_bytes())
    except OSError:
        return False
    except (ValueError, RecursionError):
        return (folder / JOURNAL).is_file()
    return isinstance(found, dict) and {"identity", "canvas"} <= found.keys()


def _stems(names: Iterable[str]) -> dict[str, str]:
    """Names of files without their suffix, by name of the image."""
    plain = {name: _shortened(name) for name in names}
    folded = {name: _folded(stem) for name, stem in plain.items()}
    counts = Counter(folded.values())
    folders = {parent.as_posix() for stem in counts for parent in PurePosixPath(stem).parents}
    clashing = [
        name
        for name, stem in folded.items()
        # the map of a.png cannot be a file where the maps of images in a.png.png/ are
        if counts[stem] > 1 or any(f"{stem}.{suffix}" in folders for _, suffix in OF_AN_IMAGE)
    ]
    used = {stem for name, stem in folded.items() if name not in set(clashing)}
    for name in clashing:
        parent, slash, last = plain[name].rpartition("/")
        told = (f"{parent}{slash}{_with_digest(last, f'{salt}/{name}')}" for salt in count())
        plain[name] = next(stem for stem in told if _folded(stem) not in used)
        used.add(_folded(plain[name]))
    return plain


def _folded(path: str) -> str:
    """The same for names that some file system takes for one."""
    parts = unicodedata.normalize("NFC", path).casefold().split("/")
    return unicodedata.normalize("NFC", "/".join(part.rstrip(". ") for part in parts))


def _shortened(name: str) -> str:
    """The name; a part that is too long is its start and its digest."""
    parts = name.split("/")
    return "/".join(
        part if len(part.encode()) <= LONGEST_NAME else _with_digest(part, part) for part in parts
    )


def _with_digest(part: str, whole: str) -> str:
    digest = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{part.encode()[: LONGEST_NAME - 17].decode(errors='ignore')}-{digest}"
