"""Checkpoints of detectors: one safetensors file, no pickle.

The file's metadata hold a JSON header: format and version, the detector's class, the identity of
the model, every setting that changes a score, the threshold. The tensors hold the rest. A digest
over header and tensors tells a damaged file from a sound one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FORMAT = "pyimgano-openclip"
VERSION = 1
LARGEST_HEADER = 100 * 2**20  # bytes; what safetensors itself accepts

Arrays = Mapping[str, npt.NDArray[Any]]


class CheckpointError(ValueError):
    """A file that cannot be used; the message names it, what was found and what was expected."""


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: Where it was read from.
        header: Everything but the arrays.
        arrays: By name.
    """

    path: Path
    header: Mapping[str, Any]
    arrays: Arrays

    def numbers(self, name: str, axes: int) -> npt.NDArray[Any]:
        """An array of finite numbers.

        Raises:
            CheckpointError: If it is missing or empty, has other axes, or holds anything else.
        """
        array = self.arrays.get(name, np.empty(0))
        if array.ndim != axes or not array.size or not np.isfinite(array).all():
            raise CheckpointError(
                f"{self.path} is damaged: {name!r} has the shape {array.shape} or numbers that are "
                f"not finite; expected finite numbers with {axes} axes."
            )
        return array

    def expect(self, what: str, found: object, expected: object, remedy: str) -> None:
        """Raise an error unless the file has what the detector has.

        Args:
            what: Name of the thing compared.
            found: What the file says.
            expected: What the detector says, made of JSON's types or of tuples of them.
            remedy: What the user can do.
        """
        if found != plain(expected):
            raise CheckpointError(
                f"{self.path} was saved with {what} = {found!r}, but this detector has "
                f"{plain(expected)!r}. {remedy}"
            )


def write_checkpoint(path: Path, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a file under another name, then rename it: whenever that is cut off, no file is broken.

    Args:
        path: Where to; folders are made, an older file is replaced.
        header: What JSON can hold.
        arrays: What NumPy holds, by name.
    """
    # Loading and listing detectors does not need it.
    from safetensors.numpy import save

    stored = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, **header}, allow_nan=False)
    data = save(stored, metadata={FORMAT: text, "digest": _digest(text, stored)})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file and check that it is whole.

    Raises:
        CheckpointError: If it is damaged, of another kind, or of a later version of the format.
        OSError: If it cannot be opened.
    """
    from safetensors import SafetensorError, safe_open

    _check_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or no checkpoint: {error}") from error
    header = _header(path, metadata)
    if metadata.get("digest") != _digest(metadata[FORMAT], arrays):
        raise CheckpointError(f"{path} is damaged: its content does not match its digest.")
    return Checkpoint(path, header, arrays)


def plain(value: object) -> Any:
    """A value as it comes back from JSON: tuples become lists, keys strings."""
    return json.loads(json.dumps(value, default=_unpacked))


def _check_size(path: Path) -> None:
    """The first eight bytes announce the length of the header; it has to fit into the file."""
    with path.open("rb") as file:
        announced = int.from_bytes(file.read(8), "little")
        size = file.seek(0, os.SEEK_END)
    if size < 8 or not 0 < announced <= min(size - 8, LARGEST_HEADER):
        raise CheckpointError(
            f"{path} is damaged or no checkpoint: it announces a header of {announced} bytes and "
            f"has {size}; expected a safetensors file written by save_checkpoint()."
        )


def _header(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but no checkpoint of {FORMAT}; "
            "expected one written by save_checkpoint()."
        )
    try:
        header = json.loads(metadata[FORMAT])
        version = header["version"]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: its header cannot be read: {error}") from error
    if type(version) is not int or version > VERSION or version < 1:
        raise CheckpointError(
            f"{path} has version {version!r} of the checkpoint format; this package reads up to "
            f"version {VERSION}. Update pyimgano-openclip."
        )
    found: Mapping[str, Any] = header
    return found


def _digest(text: str, arrays: Arrays) -> str:
    import hashlib  # with OpenSSL; listing models does not need it

    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _unpacked(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(f"A setting is a {type(value).__name__}, which a checkpoint cannot hold.")
