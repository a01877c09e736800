"""What becomes of an image that cannot be read: an error that names it, passed on in its place."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")


class UnreadableError(ValueError):
    """An image cannot be read; the message names it and says why."""

    def at(self, place: int, argument: str = "x") -> UnreadableError:
        """The same error with the image's place in the caller's list."""
        placed = UnreadableError(f"{argument}[{place}]: {self}")
        placed.__cause__ = self
        return placed


def attempt(read: Callable[[S], T], item: S) -> T | UnreadableError:
    """What ``read`` makes of an item, or the error that says why it cannot be read."""
    try:
        return read(item)
    except UnreadableError as error:
        return error


def or_raise(
    outcomes: Iterable[T | UnreadableError], argument: str = "x", *, copies: int = 1
) -> Generator[T, None, None]:
    """Pass on what was read until something could not be.

    Args:
        outcomes: What became of each image, in order.
        argument: How the caller's list is called.
        copies: How many outcomes an image has, one after the other.

    Raises:
        UnreadableError: For the first image that is; the message has its place.
    """
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, UnreadableError):
            raise outcome.at(number // copies, argument)
        yield outcome
