"""The outcome of a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .messages import printable


@dataclass(frozen=True)
class Answer:
    """The outcome of a command, for people and for programs.

    Attributes:
        lines: Printed without ``--json``, without what a terminal would obey.
        facts: Printed with ``--json``.
        code: Exit code.
    """

    lines: Sequence[str]
    facts: dict[str, Any]
    code: int = 0

    @property
    def text(self) -> str:
        """The lines as one text, in which no name of a file makes a line of its own."""
        return "\n".join(map(printable, self.lines))
