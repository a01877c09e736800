"""The error of an unreadable image, which can be passed on in place of the image."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


class UnreadableError(ValueError):
    """An image cannot be read; the message names it and says why."""

    def at(self, place: int, argument: str = "x") -> UnreadableError:
        """The same error with the image's index in the caller's list."""
        placed = UnreadableError(f"{argument}[{place}]: {self}")
        placed.__cause__ = self
        return placed


def attempt(read: Callable[[S], T], item: S) -> T | UnreadableError:
    """Apply ``read`` to an item; return the error if it cannot be read."""
    try:
        return read(item)
    except UnreadableError as error:
        return error


def or_raise(
    outcomes: Iterable[T | UnreadableError],
    argument: str = "x",
    *,
    places: Sequence[int] | None = None,
) -> Generator[T, None, None]:
    """Yield outcomes until one of them is an error, which is raised.

    Args:
        outcomes: Result or error for each image, in order.
        argument: Name of the caller's list, for messages.
        places: Index of the image of each outcome; None for 0, 1, 2, ...

    Raises:
        UnreadableError: For the first unreadable image; the message has its index.
    """
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, UnreadableError):
            raise outcome.at(number if places is None else places[number], argument)
        yield outcome
