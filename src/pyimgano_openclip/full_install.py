"""Says what to install where a module is missing that exported files do not need."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

MODULES = ("pyimgano", "torch", "open_clip", "timm", "cv2", "safetensors", "tqdm", "jinja2")
ELSE_NEEDED = "all but exported files need the full install: pip install pyimgano-openclip"


@contextmanager
def full_install() -> Iterator[None]:
    """Say what to install where an import fails for want of the full install.

    Raises:
        ImportError: If a module of it is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (told := explained(error)) is None:
            raise
        raise ImportError(told, name=error.name) from error


def explained(error: ModuleNotFoundError) -> str | None:
    """What to install to have that module; None if it is none of the full install."""
    name = (error.name or "").partition(".")[0]
    return f"{name} is not installed: {ELSE_NEEDED}" if name in missing() else None


def missing() -> list[str]:
    """Modules of the full install that are not there."""
    return [name for name in MODULES if find_spec(name) is None]
