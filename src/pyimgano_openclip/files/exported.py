"""Tells exported detectors from saved ones before anything is read."""

from __future__ import annotations

from pathlib import Path

SUFFIX = ".onnx"


def is_exported(path: Path) -> bool:
    """Whether it has the suffix of exported detectors."""
    return path.suffix.lower() == SUFFIX


def not_saved(path: Path) -> str:
    """Why an exported detector is of no use where a saved one is expected."""
    return (
        f"{path} is an exported detector; expected the safetensors file that it was made of. "
        "Exported files are scored in Python with load_detector(), and by other programs as "
        "runtime/README.md says."
    )
