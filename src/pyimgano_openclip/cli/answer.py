"""What a command ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The outcome of a command, for people and for programs.

    Attributes:
        text: What is printed.
        facts: What is printed with ``--json``.
        code: The exit code.
    """

    text: str
    facts: dict[str, Any]
    code: int = 0
