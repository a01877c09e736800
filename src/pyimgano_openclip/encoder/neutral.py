"""Shuts out what the rest of the process has set in torch, so that no score depends on it.

Gradients and determinism need nothing here: scores are equal with and without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch

from ..process_wide import ProcessWide


def _precisions() -> list[ProcessWide]:
    """How many bits of float32 products may use; torch 2.9 refuses the old name after the new."""
    backends = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    if not all(hasattr(backend, "fp32_precision") for backend in backends):
        read, write = torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
        return [ProcessWide(read, write, "highest")]
    found = (_attribute(backend, "fp32_precision") for backend in backends)
    return [ProcessWide(read, write, "ieee", harmless="none") for read, write in found]


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


# Layers take the default type when they are built, and some make tensors while they run.
_SETTINGS = (
    ProcessWide(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    *_precisions(),
)


@contextmanager
def neutral(device: torch.device | str = "cpu") -> Iterator[None]:
    """Compute as in a fresh process: new tensors float32 on the CPU, no autocast, exact products.

    Args:
        device: Device that computes inside.
    """
    with ExitStack() as stack:
        for setting in _SETTINGS:
            stack.enter_context(setting)
        # A default device is a mode of functions, in which torch's attention takes another way with
        # other roundings, even if that device is the CPU.
        stack.enter_context(torch._C.DisableTorchFunction())
        for kind in {"cpu", torch.device(device).type}:
            stack.enter_context(_without_autocast(kind))
        yield


def _without_autocast(kind: str) -> AbstractContextManager[object]:
    try:
        return torch.autocast(kind, enabled=False)
    except RuntimeError:  # this kind of device has no autocast, so it is not on either
        return nullcontext()
