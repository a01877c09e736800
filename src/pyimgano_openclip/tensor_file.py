"""Arrays in a safetensors file, read into memory of their own.

The library of that name maps the file instead: its process dies of SIGBUS where somebody shortens
the file meanwhile, and panics where memory runs out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}
NAMES = {np.dtype(code): name for name, code in TYPES.items()}
METADATA = "__metadata__"
ALIGNMENT = 8  # bytes
LARGEST_HEADER = 32 * 2**20  # bytes; room for the paths of 100,000 images and more


def write_tensors(file: BinaryIO, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Write arrays and notes.

    Raises:
        ValueError: If an array has a type that is not in ``TYPES``, or the notes are too long.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        kind = NAMES.get(array.dtype)
        if kind is None:
            raise ValueError(f"{name!r} has the type {array.dtype}; expected {', '.join(TYPES)}.")
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"The header has {len(text)} bytes; at most {LARGEST_HEADER} are written.")
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        file.write(_bytes_of(np.ascontiguousarray(array, dtype=TYPES[NAMES[array.dtype]])))


def read_tensors(file: BinaryIO) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read arrays and notes, none of them larger than the file.

    Returns:
        Arrays by name, writable; notes by name.

    Raises:
        ValueError: If the file contradicts itself.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if file.read(1) != b"{":
        raise ValueError("it is not a safetensors file")
    file.seek(8)
    if not 0 < length <= min(size - 8, LARGEST_HEADER):
        raise ValueError(f"it announces a header of {length} bytes and has {size}")
    header = strict_json(file.read(length).decode())
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError("its notes are no texts")
    places = {name: _place(name, told) for name, told in header.items()}
    end, arrays = 0, {}
    for name, (start, count, shape, kind) in sorted(places.items(), key=lambda found: found[1][0]):
        if start != end or end + count > size - 8 - length:
            raise ValueError(f"its numbers {name!r} are not where they should be")
        arrays[name], end = _read(file, name, shape, kind), end + count
    if end != size - 8 - length:
        raise ValueError(f"it has {size - 8 - length} bytes of numbers; its header tells of {end}")
    return arrays, notes


def strict_json(text: str) -> Any:
    """What a JSON text says; names that come twice and numbers that are not finite are refused.

    Raises:
        ValueError: If it is not valid, or nested too deeply.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite
        )
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a name twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"its header has the number {text}")
    return number


def _place(name: str, told: Any) -> tuple[int, int, tuple[int, ...], np.dtype[Any]]:
    """Where an array starts, how many bytes it has, its shape and its type."""
    try:
        kind, shape, (start, end) = (
            np.dtype(TYPES[told["dtype"]]),
            told["shape"],
            told["data_offsets"],
        )
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
        sound = whole and end - start == kind.itemsize * math.prod(shape)
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise ValueError(f"its header tells of numbers {name[:80]!r} that cannot be")
    return start, end - start, tuple(shape), kind


def _read(
    file: BinaryIO, name: str, shape: tuple[int, ...], kind: np.dtype[Any]
) -> npt.NDArray[Any]:
    array = np.empty(shape, dtype=kind)
    if file.readinto(_bytes_of(array)) != array.nbytes:  # type: ignore[attr-defined]
        raise ValueError(f"it ends within the numbers {name!r}")
    return array.astype(kind.newbyteorder("="), copy=False)


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
