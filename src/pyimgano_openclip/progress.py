"""Progress bars of slow steps, shown on terminals only; TQDM_DISABLE=1 hides them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

PATIENCE = 2  # seconds before a bar is shown


def bar(what: str, unit: str, *, total: int, items: Iterable[Any] | None = None) -> tqdm[Any]:
    """Create a bar that disappears when it is complete.

    Args:
        what: Description, such as "encoding".
        unit: Unit of what is counted.
        total: Total count.
        items: Items to iterate over and count; None to call ``update`` instead.
    """
    # Listing models needs no progress bars.
    from tqdm import tqdm

    hidden = None if _is_usable(sys.stderr) else True  # None: unless it is a terminal
    return tqdm(
        items, desc=what, unit=unit, total=total, delay=PATIENCE, leave=False, disable=hidden
    )


@contextmanager
def usable_stderr() -> Iterator[None]:
    """Let libraries show their bars in windowed programs and services, which have no stderr."""
    if _is_usable(sys.stderr):
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield


def _is_usable(stream: Any) -> bool:
    return stream is not None and not getattr(stream, "closed", False)
