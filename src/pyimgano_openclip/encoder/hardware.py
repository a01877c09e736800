"""Chooses the device and the precision."""

from __future__ import annotations

import os

import torch

from .tokens import PRECISIONS, Precision

_home = os.getpid()  # the process that torch's threads live in


def choose_device(device: str) -> torch.device:
    """Choose the device; ``"auto"`` prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        ValueError: If the name is unknown or the device does not exist.
    """
    if not isinstance(device, str):
        raise ValueError(f"device={device!r}; it must be a name such as 'auto', 'cpu' or 'cuda:1'.")
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"device={device!r} is not a torch device such as 'cpu', 'cuda', 'cuda:1' or 'mps'."
        ) from error
    module = getattr(torch, chosen.type, None)  # torch.cuda, torch.mps, torch.xpu, ...
    found: int = getattr(module, "device_count", lambda: 0)()
    if (chosen.index or 0) >= found:
        raise ValueError(
            f"device={device!r}, but torch finds {found} devices of type {chosen.type!r}; "
            "use 'auto' or 'cpu'."
        )
    return chosen


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Choose the data type in which the tower computes.

    Raises:
        ValueError: If the precision is unknown, or float16 on the CPU, where it is inaccurate.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} is unknown; choose from {PRECISIONS}.")
    if precision == "auto":
        return torch.bfloat16 if computes_bfloat16(device) else torch.float32
    if precision == "float16" and device.type == "cpu":
        raise ValueError("precision='float16' needs a GPU; use 'auto', 'bfloat16' or 'float32'.")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[
        precision
    ]


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the hardware supports bfloat16 arithmetic natively."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # Ampere
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def heed_fork() -> None:
    """Limit torch to one thread in a forked process, where its other threads are missing.

    OpenMP would wait for them forever. PyTorch's own DataLoader does the same in its workers.
    """
    global _home
    if os.getpid() != _home:
        torch.set_num_threads(1)
        _home = os.getpid()
