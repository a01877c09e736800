"""Keeps recent results, so that nothing is computed twice in a row."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, Generic, TypeVar

CAPACITY = 4096  # images; the scores of a grid of 15 x 15 take a kilobyte

T = TypeVar("T")


class Recent(Generic[T]):
    """A thread-safe LRU cache; keys contain everything that a result depends on."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._results: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        """Return the result stored under the key, or None."""
        with self._lock:
            if key not in self._results:
                return None
            self._results.move_to_end(key)
            return self._results[key]

    def put(self, key: Hashable, result: T) -> None:
        """Store a result and drop the least recently used one if there are too many."""
        with self._lock:
            self._results[key] = result
            self._results.move_to_end(key)
            if len(self._results) > self._capacity:
                self._results.popitem(last=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"_capacity": self._capacity}  # results are not pickled

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_capacity"])  # type: ignore[misc]
