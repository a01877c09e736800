"""Writes files completely or not at all, even if the process is killed."""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

ABANDONED = 3600  # seconds without a change, after which a temporary file counts as abandoned


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces ``path`` once it is complete.

    Args:
        path: File to replace; its folder is created. A symbolic link is replaced, not followed.
        durable: Whether to guard against power failures too.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_start(path)}{os.urandom(4).hex()}.tmp")
    try:
        with naming(path, partial):
            with partial.open("xb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def folder_beside(path: Path, prefix: str) -> Iterator[Path]:
    """Make a temporary folder for files that are moved to a path, or beside it, once all are whole.

    Args:
        path: What is to be written; its folder is created.
        prefix: Of the name of the temporary folder.

    Raises:
        OSError: If it cannot be written.
    """
    # Imports compression libraries, which listing models does not need.
    from tempfile import mkdtemp

    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path, path.parent):
        partial = Path(mkdtemp(dir=path.parent, prefix=prefix, suffix=".tmp"))
    try:
        with naming(path, partial):
            yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name what is written in errors of writing it, such as a full or read-only disk.

    Args:
        path: What the user asked for.
        temporary: File or folder whose names, unknown to the user, are replaced; None if only
            errors without a name are.
    """
    try:
        yield
    except OSError as error:
        ours = temporary is not None and _within(error.filename, temporary)
        if error.errno is None or not (error.filename is None or ours):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_writable(path: Path) -> None:
    """Check that a file can be written, before the work that it is to hold.

    Raises:
        ValueError: If something that is no folder is in the way.
        OSError: If its folder, or the nearest one above it, takes no file.
    """
    # Imports compression libraries, which listing models does not need.
    from tempfile import TemporaryFile

    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not folder.is_dir():
        raise ValueError(f"{path} cannot be written: {folder} is not a folder.")
    with naming(path, folder), TemporaryFile(dir=folder):
        pass


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's content; its folder is created."""
    with replacing(path) as file:
        file.write(data)


def remove_abandoned(path: Path) -> None:
    """Remove temporary files that killed processes left an hour ago or earlier."""
    if not path.parent.is_dir():
        return
    for partial in path.parent.iterdir():
        if partial.name.startswith(_start(path)) and partial.name.endswith(".tmp"):
            try:
                if time.time() - partial.stat().st_mtime > ABANDONED:
                    partial.unlink()
            except OSError:
                continue  # owned by another user, or already gone


def _start(path: Path) -> str:
    """Prefix of the temporary files of a path; its name may already have the maximum length."""
    return f".{zlib.crc32(os.fsencode(path.name)):08x}."


def _within(name: object, place: Path) -> bool:
    """Whether what an error names is a place or lies in it; it may name a descriptor."""
    if not isinstance(name, (str, os.PathLike)):
        return False
    return Path(name).absolute().is_relative_to(place.absolute())
