"""Settings of libraries that all threads of the process share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class ProcessWide:
    """A setting that all threads share; neutral while at least one of them needs it.

    It is written only if it is not neutral anyway, and restored by the last thread that leaves,
    unless another part of the process has changed it meanwhile.

    Args:
        read: Returns the present value.
        write: Sets it.
        neutral: The value to set.
        harmless: Another value that means the same, and is left as it is.
    """

    def __init__(
        self,
        read: Callable[[], Any],
        write: Callable[[Any], object],
        neutral: Any,
        harmless: Any = None,
    ) -> None:
        self._read = read
        self._write = write
        self._neutral = neutral
        self._harmless = (neutral, harmless)
        self._theirs = neutral
        self._users = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._theirs = self._read()
                if self._theirs not in self._harmless:
                    self._write(self._neutral)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            changed = self._theirs not in self._harmless
            if not self._users and changed and self._read() == self._neutral:
                self._write(self._theirs)
