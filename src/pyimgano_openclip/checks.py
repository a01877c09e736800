"""Checks of arguments, with errors that say what was found and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np

MOST_SEED = 2**63 - 1


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise a ValueError unless the value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose from {', '.join(choices)}.")


def check_number(
    name: str, value: Any, *, above: float, most: float, itself: bool = False, below: bool = False
) -> float:
    """Return the value as a float.

    Raises:
        ValueError: Unless above < value <= most, or the value is ``above`` with ``itself``; if it
            is ``most`` with ``below``.
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    inside = real and (above < value <= most or (itself and value == above))
    if not inside or (below and value == most):
        first, last = "[" if itself else "(", ")" if below else "]"
        raise ValueError(f"{name}={value!r}; it must be a number in {first}{above}, {most}{last}.")
    return float(value)


def is_whole(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_count(name: str, value: Any, *, least: int = 1, most: int | None = None) -> None:
    """Raise a ValueError unless the value is an integer in the range."""
    if not is_whole(value) or value < least or (most is not None and value > most):
        limit = f"from {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}={value!r}; it must be a whole number {limit}.")


def check_length(length: int, expected: int, known: str, what: str = "The tokens") -> None:
    """Raise a ValueError unless tokens have the length of those that are known already."""
    if length != expected:
        raise ValueError(
            f"{what} have length {length}, those of {known} {expected}; they come from different "
            "embedders."
        )


def check_sides(name: str, value: Any, expected: str = "(height, width)") -> tuple[int, int]:
    """Return a height and a width.

    Raises:
        ValueError: Unless the value is a tuple or list of two whole numbers from 1.
    """
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise ValueError(f"{name}={value!r}; it must be {expected}.")
    for side in value:
        check_count(name, side)
    return int(value[0]), int(value[1])


def check_seed(value: Any) -> None:
    """Raise a ValueError unless ``random_seed`` is a seed that torch and NumPy accept."""
    check_count("random_seed", value, least=0, most=MOST_SEED)


def as_list(name: str, value: object, most: int) -> tuple[Any, ...]:
    """Return the entries of a list, tuple or array as a tuple.

    Raises:
        ValueError: If it is not one of these, or has more than ``most`` entries.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ValueError(f"{name}={value!r}; it must be a list.")
    entries = tuple(value)
    if len(entries) > most:
        raise ValueError(f"{name} has {len(entries)} entries; the maximum is {most}.")
    return entries


def one_of(x: object, other: object) -> object:
    """Return the argument that was passed under one of its two names.

    Raises:
        ValueError: If both were passed.
    """
    if x is not None and other is not None:
        raise ValueError("x and X are the same argument; pass only one of them.")
    return other if x is None else x
