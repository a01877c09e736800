"""Progress bars: on a terminal only, and only for what takes a while. TQDM_DISABLE=1 hides them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

PATIENCE = 2  # seconds before a bar shows


def bar(what: str, unit: str, *, total: int, items: Iterable[Any] | None = None) -> tqdm[Any]:
    """A bar that vanishes when it is done.

    Args:
        what: Is done, such as "encoding".
        unit: Of what is counted.
        total: How many there are.
        items: Are counted as they are taken from the bar; None where ``update`` is called.
    """
    # A bar is needed where images are, not where models are listed.
    from tqdm import tqdm

    return tqdm(items, desc=what, unit=unit, total=total, delay=PATIENCE, leave=False, disable=None)
