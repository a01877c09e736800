"""Turns the out-of-memory errors of all libraries into one that says what to do."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

# How libraries say so in a RuntimeError, or in one of a type that only they know. Long enough that
# no name of a file or model that a message quotes contains one of them.
SIGNS = (
    "out of memory. Tried to allocate",  # torch on a GPU
    "DefaultCPUAllocator: can't allocate memory",  # torch on the CPU
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "could not create a primitive",  # oneDNN
    "could not create a memory object",
    "(-4:Insufficient memory)",  # OpenCV
    "std::bad_alloc",  # the C++ library
    "Cannot allocate memory (os error 12)",  # safetensors
    "Cannot allocate memory (12)",  # torch, mapping a file
    "can't start new thread",  # Python, where there is no room for a stack
)
WHAT = "There is not enough memory"
REMEDY = "Free some, take a smaller model, or lower batch_size, max_tokens or max_patches."

P = TypeVar("P")
R = TypeVar("R")


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out: by its type or number, else by its text."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):  # its text quotes a path, which can contain anything
        return error.errno == errno.ENOMEM
    if isinstance(error, (ValueError, LookupError, ImportError)):  # they quote names as well
        return False
    return any(sign in str(error) for sign in SIGNS)


@contextmanager
def out_of_memory_explained(what: str) -> Iterator[None]:
    """Raise a MemoryError with a remedy for any error inside that says that memory ran out.

    Args:
        what: What the memory is for, such as "a map of 30 x 40 pixels".
    """
    try:
        yield
    except Exception as error:
        if not ran_out(error) or str(error).startswith(WHAT):
            raise
        raise MemoryError(f"{WHAT} for {what}. {REMEDY}") from error


def in_halves(run: Callable[[Sequence[P]], list[R]], parts: Sequence[P], *, what: str) -> list[R]:
    """Run a batch, split in halves as long as memory does not suffice.

    Args:
        run: Gives one result for each part.
        parts: At least one.
        what: What a single part is, for the message.

    Raises:
        MemoryError: If memory does not suffice for a single part.
    """
    try:
        return run(parts)
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        if len(parts) == 1:
            raise MemoryError(
                f"{WHAT} for {what}; choose a smaller model, force_image_size or max_tokens."
            ) from error
    # The tensors that the error referred to are released here.
    half = len(parts) // 2
    return [*in_halves(run, parts[:half], what=what), *in_halves(run, parts[half:], what=what)]
