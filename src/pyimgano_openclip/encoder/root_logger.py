"""Keeps open_clip's messages from changing how the process logs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _LastResort(logging.Handler):
    """Handles what Python's handler of last resort would, if the root logger had no handler."""

    def emit(self, record: logging.LogRecord) -> None:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger is not logging.root:
            if logger.handlers:
                return  # it has been handled
            logger = logger.parent
        last = logging.lastResort
        if last is not None and record.levelno >= last.level:
            last.handle(record)


@contextmanager
def as_configured() -> Iterator[None]:
    """Leave the handlers of the root logger as they are.

    open_clip logs by ``logging.info`` and its like, which configure a root logger without handlers
    for good. While it works, such a root logger has a handler that changes nothing.
    """
    if logging.root.handlers:
        yield
        return
    handler = _LastResort()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
