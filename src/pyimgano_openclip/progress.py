"""Progress bars of slow steps, shown on terminals only; TQDM_DISABLE=1 hides them."""

from __future__ import annotations

from collections.abc import Iterable
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

    return tqdm(items, desc=what, unit=unit, total=total, delay=PATIENCE, leave=False, disable=None)
