"""Files that are there as a whole or not at all, whenever the process ends."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

ABANDONED = 3600  # seconds without a change, after which nobody writes a file any more


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file under another name that takes the path's place once it is complete.

    Args:
        path: What to replace; its folder is made. A symbolic link is replaced, not followed.
        durable: Make sure that a power cut leaves no empty file either.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{_start(path)}{os.urandom(4).hex()}.tmp")
    try:
        with partial.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by these bytes; make its folder."""
    with replacing(path) as file:
        file.write(data)


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes have left of a file, an hour after they were killed."""
    if not path.parent.is_dir():
        return
    for partial in path.parent.iterdir():
        if partial.name.startswith(_start(path)) and partial.name.endswith(".tmp"):
            try:
                if time.time() - partial.stat().st_mtime > ABANDONED:
                    partial.unlink()
            except OSError:
                continue  # somebody else's, or gone


def _start(path: Path) -> str:
    """Prefix of the temporary files of a path; its name may already have the maximum length."""
    return f".{zlib.crc32(os.fsencode(path.name)):08x}."
