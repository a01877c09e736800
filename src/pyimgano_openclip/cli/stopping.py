"""Ends a command that is told to stop as Ctrl-C does, so that no temporary files stay."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# What service managers and containers send, and what a terminal does that is closed.
REQUESTS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]


@contextmanager
def stoppable() -> Iterator[None]:
    """Interrupt the command at such a request meanwhile, unless it is ignored, as by ``nohup``.

    To be used in the main thread of a process that is a command.

    Raises:
        KeyboardInterrupt: At a request; its argument is the number of the signal.
    """
    handled = [number for number in REQUESTS if signal.getsignal(number) == signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def exit_code(stop: KeyboardInterrupt) -> int:
    """The exit code of an interrupted process, by which shells tell the signal."""
    return 128 + int(stop.args[0] if stop.args else signal.SIGINT)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(number)
