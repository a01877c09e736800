"""Locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def _lock(number: int) -> None:
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)

    @contextmanager
    def one_at_a_time(_folder: Path) -> Iterator[None]:
        """Without effect, since folders cannot be locked here."""
        yield
else:
    import fcntl

    def _lock(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @contextmanager
    def one_at_a_time(folder: Path) -> Iterator[None]:
        """Wait until no other process does this for the folder; where there are no locks, go on."""
        with ExitStack() as stack:
            with suppress(OSError):
                number = os.open(folder, os.O_RDONLY)
                stack.callback(os.close, number)
                fcntl.flock(number, fcntl.LOCK_EX)
            yield


HELD = frozenset({errno.EACCES, errno.EAGAIN})


def locked(path: Path) -> BinaryIO | None:
    """Lock a file, which is created and never removed, until it is closed.

    Returns:
        The file; None where there are no locks, as on some network folders, and where another user
        owns the file and lets nobody read it: there nobody is kept out.

    Raises:
        BlockingIOError: If it is locked already.
        OSError: If it can be neither created nor opened, as on a read-only disk.
    """
    try:
        file: BinaryIO = path.open("ab")
    except PermissionError:
        if not os.access(path, os.R_OK):
            return None
        file = path.open("rb")
    except OSError as error:
        told = f"{path.parent} cannot be written: {error.strerror} ({path.name})."
        raise OSError(told) from error
    try:
        _lock(file.fileno())
    except OSError as error:
        file.close()
        if error.errno in HELD:
            raise BlockingIOError(errno.EAGAIN, "It is locked", str(path)) from error
        return None
    return file
