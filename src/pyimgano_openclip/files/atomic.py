"""Writes files completely or not at all, even if the process is killed."""

from __future__ import annotations

import os
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
        with naming(path), partial.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in errors of writing to it, such as a full disk; they come without a name."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
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
    with naming(path), TemporaryFile(dir=folder):
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
