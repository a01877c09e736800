"""Reads images in threads while the tower processes earlier ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

from .reading import Frame
from .unreadable import UnreadableError, attempt

READERS = 2  # threads
AHEAD = 3  # batches: one that is processed, two that are read meanwhile

R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


def in_batches(
    read: Callable[[Any], Frame | S],
    run: Callable[[list[Frame]], Iterable[R]],
    items: Iterable[Any],
    size: int,
    *,
    lazily: bool,
) -> Generator[R | S | UnreadableError, None, None]:
    """Read images and process them in batches, in order; errors take the place of unreadable ones.

    Args:
        read: Reads an item: a frame, or what is known of it in place of a result.
        run: Gives a result for each of some frames.
        items: The items.
        size: Maximum number of frames at once.
        lazily: Whether to take at most one batch of items ahead of what has been yielded.
    """
    with ReadAhead(partial(attempt, read), items, size if lazily else AHEAD * size) as ahead:
        while batch := ahead.batch(size):
            frames = [frame for frame in batch if isinstance(frame, Frame)]
            done = iter(run(frames) if frames else ())
            for frame in batch:
                yield next(done) if isinstance(frame, Frame) else frame
                ahead.handed_on()


class ReadAhead(Generic[T]):
    """Applies ``read`` to items in threads, in order; to be used as a context manager.

    An item is taken only when there is room for it, so that a camera's images are not taken long
    before they are scored. If taking one fails, those before it come first, then the error.

    Args:
        read: Function that reads one item.
        items: The items; taken in the caller's thread.
        most: Maximum number of items taken and not yet handed on.
    """

    def __init__(self, read: Callable[[Any], T], items: Iterable[Any], most: int) -> None:
        self._read = read
        self._source = iter(items)
        self._room = most
        self._pending: deque[Future[T]] = deque()
        self._end: Exception | None = None
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="pyimgano-openclip-read")

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def batch(self, size: int) -> list[T]:
        """The next results, at most ``size``; empty at the end.

        Raises:
            Exception: What taking an item raised, once all before it have been returned.
        """
        while self._room and self._end is None:
            self._take()
        if not self._pending and not isinstance(self._end, StopIteration):
            raise self._end or RuntimeError("No result has been handed on; there is no room.")
        return [self._pending.popleft().result() for _ in range(min(size, len(self._pending)))]

    def handed_on(self) -> None:
        """Make room for the next item, and take it, when a result is no longer needed here."""
        self._room += 1
        if self._end is None:
            self._take()

    def _take(self) -> None:
        try:
            item = next(self._source)
        except Exception as error:  # noqa: BLE001 - raised in its turn
            self._end = error
            return
        self._room -= 1
        self._pending.append(self._pool.submit(self._read, item))
