"""Turns the out-of-memory errors of all libraries into one that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

SIGNS = (
    "can't allocate memory",  # torch on the CPU
    "not enough memory",
    "out of memory",  # torch on a GPU
    "CUBLAS_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN
    "could not create a memory object",
    "Insufficient memory",  # OpenCV
    "bad_alloc",  # the C++ library
    "Cannot allocate memory",  # the system
    "can't start new thread",  # Python, where there is no room for a stack
)
WHAT = "There is not enough memory"
REMEDY = "Free some, take a smaller model, or lower batch_size, max_tokens or max_patches."


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out; with most libraries only its text does."""
    if isinstance(error, (ValueError, FileNotFoundError)):
        return False  # they quote names and files, which can contain anything
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


@contextmanager
def memory_for(what: str) -> Iterator[None]:
    """Raise a MemoryError for any error inside that says that memory ran out.

    Args:
        what: What the memory is for, such as "a map of 30 x 40 pixels".
    """
    try:
        yield
    except Exception as error:
        if not ran_out(error) or str(error).startswith(WHAT):
            raise
        raise MemoryError(f"{WHAT} for {what}. {REMEDY}") from error
