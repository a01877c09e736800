"""Packs arrays into the bytes of a safetensors file and unpacks them, trusting no header.

The library checks types, shapes and positions; what it leaves open is checked here. Its functions
for files are not used, since they map the file: the process dies if it is shortened meanwhile.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

TYPES = {"F16": "float16", "F32": "float32", "F64": "float64", "I32": "int32", "I64": "int64"}
METADATA = "__metadata__"
START = 8  # bytes before the header: its length
LARGEST_HEADER = 32 * 2**20  # bytes; enough for the paths of over 100,000 images


def pack(arrays: Arrays, notes: Mapping[str, str]) -> bytes:
    """The bytes of a file with arrays and notes, which become its metadata.

    Raises:
        ValueError: If an array's data type is not in ``TYPES``, or the notes are too long.
        MemoryError: If they do not fit into memory.
    """
    # Importing it takes milliseconds, which listing models does not have.
    from safetensors.numpy import save

    for name, array in arrays.items():
        if array.dtype.name not in TYPES.values():
            known = ", ".join(TYPES.values())
            raise ValueError(f"{name!r} has type {array.dtype}; expected {known}.")
    length = len(json.dumps(dict(notes)))
    if length > LARGEST_HEADER:
        raise ValueError(f"The header has {length} bytes; the maximum is {LARGEST_HEADER}.")
    _expect_memory(2 * sum(array.nbytes for array in arrays.values()))
    return save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, dict(notes))


def unpack(data: bytes) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """The arrays and the notes in the bytes of a file.

    Raises:
        ValueError: If the bytes are inconsistent.
        MemoryError: If the arrays do not fit into memory.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    notes = _notes(_header(data))
    _expect_memory(len(data))
    try:
        return load(data), notes
    except SafetensorError as error:
        raise ValueError(f"its arrays are inconsistent: {error}") from error


def read_notes(file: BinaryIO) -> dict[str, str]:
    """The notes of a file, of which nothing else is read.

    Raises:
        ValueError: If its header is inconsistent.
    """
    start = file.read(START)
    length = min(int.from_bytes(start, "little"), LARGEST_HEADER)
    return _notes(_header(start + file.read(length)))


def strict_json(text: str) -> Any:
    """Parse JSON; duplicate names and numbers that are not finite are refused.

    Raises:
        ValueError: If it is not valid, or nested too deeply.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error


def _header(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:START], "little")
    if data[START : START + 1] != b"{":
        raise ValueError("it is not a safetensors file")
    if not 0 < length <= min(len(data) - START, LARGEST_HEADER):
        raise ValueError(f"it declares a header of {length} bytes, but has {len(data)} bytes")
    header = strict_json(data[START : START + length].decode())
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header


def _notes(header: dict[str, Any]) -> dict[str, str]:
    """The metadata of a header whose arrays have known types."""
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError("its metadata are not strings")
    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.get("dtype") not in [*TYPES]:
            raise ValueError(f"its array {name[:80]!r} has none of the types {', '.join(TYPES)}")
    return notes


def _expect_memory(size: int) -> None:
    """Raise a MemoryError where the library would abort the process, for lack of so many bytes."""
    bytearray(size)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a duplicate name")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"its header has the number {text}")
    return number
