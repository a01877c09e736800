"""Finds images in cloud storage and in Parquet files, for ``score --ray``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from ..files.remote import cell_address, file_system, is_remote
from ..images.formats import file_suffixes
from .images import Found, ImageFile, search_images
from .masks import places_of_masks
from .messages import UsageError, listed

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PARQUET = ".parquet"
IMAGE = "image"  # the column that is taken if there are several
DIGITS = 6  # of a row's number in a name, so that names sort as rows do


def search(options: argparse.Namespace) -> Found:
    """The images that ``score`` is called with; masks and an earlier run's in --out are left out.

    Raises:
        UsageError: If a URI is among them, but not ``--ray``.
        ValueError: See :func:`search_remote` and :func:`~.images.search_images`.
    """
    remote = [place for place in options.images if _is_far(place)]
    if options.ray is not None and remote:
        return search_remote(options.images, options.column)
    if unreadable := [place for place in remote if isinstance(place, str)]:
        raise UsageError(f"{listed(unreadable)}: pass --ray to read from cloud storage.")
    return search_images(options.images, leave_out=options.out, masks=places_of_masks(options))


def search_remote(places: Sequence[Path | str], column: str | None = None) -> Found:
    """Find images by path, and rows of Parquet files, each an image, in order.

    Args:
        places: URIs and paths of files and folders, which are searched recursively, except for
            hidden files and folders.
        column: Column of Parquet files that holds images: files as bytes, such files with their
            paths as in data sets of Hugging Face, or paths and URIs. None for the only such one,
            or that called ``image``.

    Raises:
        ValueError: If a place does not exist, no image is found, or a column is missing or holds
            something else.
        OSError: If a file system cannot be reached.
    """
    files = [found for place in places for found in _files(place)]
    suffixes = file_suffixes()
    root = _common([parent for _, parent in files])
    images: list[ImageFile] = []
    others = 0
    for uri, _ in files:
        plain = uri.partition("?")[0]
        name = unquote(plain[len(root) :].lstrip("/"))
        suffix = PurePosixPath(plain).suffix.lower()
        if suffix == PARQUET:
            images += _rows(uri, name, column)
        elif suffix in suffixes:
            images.append(ImageFile(name, Path(name), address=uri))
        else:
            others += 1
    if not images:
        raise ValueError(f"There is no image in {', '.join(map(str, places))}.")
    return Found(images, others, 0, [])


def _is_far(place: Path | str) -> bool:
    """Whether a place is a URI, a Parquet file, or a folder with some."""
    if isinstance(place, str) or place.suffix.lower() == PARQUET:
        return True
    return place.is_dir() and any(place.glob(f"*{PARQUET}"))


def _files(place: Path | str) -> Iterator[tuple[str, str]]:
    """URIs of files, by path, and for each that of the folder that was named."""
    uri = place if isinstance(place, str) else place.resolve().as_uri()
    system, path = file_system(uri)
    plain, mark, query = uri.partition("?")
    plain = plain.rstrip("/")
    for below in _below(system, path, str(place)):
        if not below:
            yield f"{plain}{mark}{query}", plain.rpartition("/")[0]
        else:
            yield f"{plain}/{quote(below)}{mark}{query}", plain


def _below(system: FileSystem, path: str, place: str) -> list[str]:
    """Paths of files relative to a folder; an empty one for a file."""
    from pyarrow import fs

    kind = system.get_file_info(path).type
    if kind == fs.FileType.File:
        return [""]
    if kind != fs.FileType.Directory:
        raise ValueError(f"{place} does not exist.")
    path = path.rstrip("/")
    found = system.get_file_info(fs.FileSelector(path, recursive=True))
    names = [info.path[len(path) + 1 :] for info in found if info.type == fs.FileType.File]
    return sorted(
        name for name in names if not any(part.startswith(".") for part in name.split("/"))
    )


def _common(folders: Sequence[str]) -> str:
    """The folder that all of them lie in."""
    parts = [folder.split("/") for folder in folders]
    same = 0
    while parts and all(len(part) > same and part[same] == parts[0][same] for part in parts):
        same += 1
    return "/".join(parts[0][:same]) if parts else ""


def _rows(uri: str, name: str, column: str | None) -> Iterator[ImageFile]:
    from pyarrow import parquet

    system, path = file_system(uri)
    with system.open_input_file(path) as opened:
        file = parquet.ParquetFile(opened)
        chosen, of_paths = _column(file.schema_arrow, uri, column)
        number = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            paths = [None] * count
            if of_paths:
                paths = file.read_row_group(group, columns=[chosen]).column(chosen).to_pylist()
            for row, place in enumerate(paths):
                called = f"{name}/{number:0{DIGITS}}"
                address = place or cell_address(uri, chosen, group, row)
                here = None if is_remote(address) else Path(address)
                yield ImageFile(called, here or Path(called), address=None if here else address)
                number += 1


def _column(schema: Any, uri: str, column: str | None) -> tuple[str, bool]:
    """The column of images, and whether they are paths."""
    import pyarrow as pa

    def holds(kind: Any) -> str | None:
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return "paths"
        if pa.types.is_struct(kind):
            return "files" if kind.get_field_index("bytes") >= 0 else None
        return "files" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else None

    kinds = {field.name: holds(field.type) for field in schema}
    possible = [name for name, kind in kinds.items() if kind]
    chosen = column or (possible[0] if len(possible) == 1 else IMAGE)
    if not kinds.get(chosen):
        found = f"{schema.field(chosen).type}" if chosen in kinds else "is missing"
        raise ValueError(
            f"{uri}: column {chosen} {'holds ' if chosen in kinds else ''}{found}; expected image "
            "files as bytes, or their paths. Choose one with --column: "
            f"{', '.join(possible) or 'there is none'}."
        )
    return chosen, kinds[chosen] == "paths"
