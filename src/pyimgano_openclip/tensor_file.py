"""Reads and writes arrays in safetensors files without memory mapping.

The safetensors library maps the file: the process dies of SIGBUS if the file is shortened in the
meantime, and panics if memory runs out.
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
LARGEST_HEADER = 32 * 2**20  # bytes; enough for the paths of over 100,000 images


def write_tensors(file: BinaryIO, arrays: Arrays, metadata: Mapping[str, str]) -> None:
    """Write arrays and metadata.

    Raises:
        ValueError: If an array's data type is not in ``TYPES``, or the metadata are too long.
    """
    header: dict[str, Any] = {METADATA: dict(metadata)}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        kind = NAMES.get(array.dtype)
        if kind is None:
            raise ValueError(f"{name!r} has type {array.dtype}; expected {', '.join(TYPES)}.")
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, allow_nan=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"The header has {len(text)} bytes; the maximum is {LARGEST_HEADER}.")
    file.write(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        file.write(_bytes_of(np.ascontiguousarray(array, dtype=TYPES[NAMES[array.dtype]])))


def read_tensors(file: BinaryIO) -> tuple[dict[str, npt.NDArray[Any]], dict[str, str]]:
    """Read arrays and metadata; allocates no more memory than the size of the file.

    Returns:
        Writable arrays by name; metadata by name.

    Raises:
        ValueError: If the file is inconsistent.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if file.read(1) != b"{":
        raise ValueError("it is not a safetensors file")
    file.seek(8)
    if not 0 < length <= min(size - 8, LARGEST_HEADER):
        raise ValueError(f"it declares a header of {length} bytes, but has {size} bytes")
    header = strict_json(file.read(length).decode())
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    notes = header.pop(METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        raise ValueError("its metadata are not strings")
    places = {name: _place(name, entry) for name, entry in header.items()}
    end, arrays = 0, {}
    for name, (start, count, shape, kind) in sorted(places.items(), key=lambda found: found[1][0]):
        if start != end or end + count > size - 8 - length:
            raise ValueError(f"its array {name!r} is at a wrong position")
        arrays[name], end = _read(file, name, shape, kind), end + count
    if end != size - 8 - length:
        raise ValueError(f"it has {size - 8 - length} bytes of arrays; its header declares {end}")
    return arrays, notes


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


def _place(name: str, entry: Any) -> tuple[int, int, tuple[int, ...], np.dtype[Any]]:
    """Offset, number of bytes, shape and type of an array."""
    try:
        kind, shape, (start, end) = (
            np.dtype(TYPES[entry["dtype"]]),
            entry["shape"],
            entry["data_offsets"],
        )
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, end))
        sound = whole and end - start == kind.itemsize * math.prod(shape)
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise ValueError(f"its header declares an impossible array {name[:80]!r}")
    return start, end - start, tuple(shape), kind


def _read(
    file: BinaryIO, name: str, shape: tuple[int, ...], kind: np.dtype[Any]
) -> npt.NDArray[Any]:
    array = np.empty(shape, dtype=kind)
    if file.readinto(_bytes_of(array)) != array.nbytes:  # type: ignore[attr-defined]
        raise ValueError(f"it ends within the array {name!r}")
    return array.astype(kind.newbyteorder("="), copy=False)


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
