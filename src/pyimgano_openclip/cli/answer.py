"""The outcome of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The outcome of a command, for people and for programs.

    Attributes:
        text: Printed without ``--json``.
        facts: Printed with ``--json``.
        code: Exit code.
    """

    text: str
    facts: dict[str, Any]
    code: int = 0
