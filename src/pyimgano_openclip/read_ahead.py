"""Reads images in threads while the tower processes earlier ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

READERS = 2  # threads

T = TypeVar("T")


def read_ahead(
    read: Callable[[Any], T], items: Iterable[Any], *, ahead: int
) -> Generator[T, None, None]:
    """Apply ``read`` in threads, at most ``ahead`` items ahead; keeps order and errors."""
    source = iter(items)
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="pyimgano-openclip-read")
    try:
        pending: deque[Future[T]] = deque(pool.submit(read, item) for item in islice(source, ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(read, item) for item in islice(source, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def in_batches(source: Iterator[T], size: int) -> Iterator[list[T]]:
    """Yield batches of at most ``size`` items; on an error, first the items before it."""
    batch: list[T] = []
    try:
        for item in source:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except ValueError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
