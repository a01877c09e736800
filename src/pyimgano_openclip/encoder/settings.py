"""Checks of settings of the embedder, as far as they do not depend on the tower."""

from __future__ import annotations

from ..arrays import Size
from ..checks import as_list, check_choice, check_count, check_number, check_seed, check_sides

MOST_KINDS = 64  # maximum number of layers, neighbourhoods or windows
MOST_STAGES = 1000
LEAST_LENGTH = 8  # of projected tokens; shorter ones all look alike
WIDEST = 99  # patches; maximum side of a neighbourhood or a window


def check_layers(layers: object) -> tuple[float, ...]:
    """Check relative depths: at least one, each in (0, 1].

    Raises:
        ValueError: If they are invalid.
    """
    checked = as_list("layers", layers, MOST_KINDS)
    if not checked:
        raise ValueError("layers is empty; it needs at least one entry.")
    for layer in checked:
        check_number("layers", layer, above=0, most=1)
    return checked


def check_neighbourhoods(neighbourhoods: object) -> tuple[int, ...]:
    """Check odd sides in patches of the squares to average over: at least one.

    Raises:
        ValueError: If they are invalid.
    """
    checked = as_list("neighbourhoods", neighbourhoods, MOST_KINDS)
    if not checked:
        raise ValueError("neighbourhoods is empty; it needs at least one entry.")
    for side in checked:
        check_count("neighbourhoods", side, most=WIDEST)
        if side % 2 == 0:
            raise ValueError(f"neighbourhoods={checked!r}; each must be odd.")
    return checked


def check_windows(windows: object) -> tuple[int, ...]:
    """Check window sizes in patches.

    Raises:
        ValueError: If they are invalid.
    """
    checked = as_list("windows", windows, MOST_KINDS)
    for window in checked:
        check_count("windows", window, most=WIDEST)
    return checked


def check_image_size(size: object) -> int | Size | None:
    """Check an image size: a side in pixels, (height, width), or None.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(size, (tuple, list)):  # JSON has only lists
        return check_sides("force_image_size", size, "a side or (height, width)")
    if size is not None:
        check_count("force_image_size", size)
    return size  # type: ignore[return-value]  # checked just now


def check_numbers(
    *,
    stages: object,
    surgery: object,
    dimension: object,
    resize: object,
    max_tokens: object,
    batch_size: object,
    random_seed: object,
) -> None:
    """Check the other settings of an embedder.

    Raises:
        ValueError: If one is out of range.
    """
    check_choice("resize", resize, ("keep", "squash"))
    check_count("stages", stages, most=MOST_STAGES)
    check_count("surgery", surgery, least=0, most=MOST_STAGES)
    check_seed(random_seed)
    if dimension is not None:
        check_count("dimension", dimension, least=LEAST_LENGTH)
    optional = {"max_tokens": max_tokens, "batch_size": batch_size}
    for name, number in optional.items():
        if number is not None:
            check_count(name, number)
