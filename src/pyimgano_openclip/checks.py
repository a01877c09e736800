"""Checks of arguments: errors that say what was found and what was expected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise a ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown; choose from {', '.join(choices)}.")


def check_number(name: str, value: float, *, above: float, most: float) -> None:
    """Raise a ValueError unless above < value <= most."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not above < value <= most:
        raise ValueError(f"{name}={value!r}; it must be a number in ({above}, {most}].")


def check_count(name: str, value: int) -> None:
    """Raise a ValueError unless the value is a whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r}; it must be a whole number from 1.")


def one_of(x: object, other: object) -> object:
    """The argument that was passed under one of its two names.

    Raises:
        ValueError: If both were.
    """
    if x is not None and other is not None:
        raise ValueError("x and X are two names of one argument; pass only one of them.")
    return other if x is None else x
