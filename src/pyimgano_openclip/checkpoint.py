"""Checkpoints of detectors: one safetensors file, no pickle.

The file's metadata hold a JSON header: format and version, the detector's class, the identity of
the model, every setting that changes a score, the threshold. The tensors hold the rest. A digest
over header and tensors tells a damaged file from a sound one, but anybody can write one that fits.
So no file is trusted: none holds code, and what no detector would have written is refused.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import remove_abandoned, replacing
from .tensor_file import Arrays, read_tensors, strict_json, write_tensors

FORMAT = "pyimgano-openclip"
VERSION = 1
UNIT = 1.01  # greatest length of a unit vector that was rounded to 16 bits
TOLD = 500  # characters of a value that a message shows


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

    def numbers(self, name: str, axes: int, *types: str) -> npt.NDArray[Any]:
        """An array of finite numbers.

        Args:
            name: Of the array.
            axes: How many it has.
            types: NumPy's names of the types that it may have.

        Raises:
            CheckpointError: If it is missing or empty, has other axes, or holds anything else.
        """
        array = self.arrays.get(name, np.empty(0))
        sound = array.ndim == axes and array.size and array.dtype.name in types
        if not sound or not np.isfinite(array).all():
            raise CheckpointError(
                f"{self.path} is damaged: {name!r} has the shape {array.shape} and the type "
                f"{array.dtype}, or numbers that are not finite; expected finite numbers of "
                f"{' or '.join(types)} with {axes} axes."
            )
        return array

    def unit_vectors(self, name: str, axes: int, *types: str) -> npt.NDArray[Any]:
        """Like :meth:`numbers`; vectors along the last axis, of length 1, or 0 if zero.

        Raises:
            CheckpointError: If one is longer, so that scores would leave their range.
        """
        array = self.numbers(name, axes, *types)
        squares = np.einsum("...d,...d->...", array, array, dtype=np.float64)
        if squares.max() > UNIT**2:
            raise CheckpointError(
                f"{self.path} is damaged: {name!r} holds a vector of the length "
                f"{float(squares.max()) ** 0.5:g}; expected at most 1."
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
                f"{self.path} was saved with {what} = {short(found)}, but this detector has "
                f"{short(plain(expected))}. {remedy}"
            )


def write_checkpoint(path: Path, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a file under another name, then rename it: whenever that is cut off, no file is broken.

    What an earlier call has left there because its process was killed is removed an hour later.

    Args:
        path: Where to; folders are made, an older file is replaced, and so is a symbolic link.
        header: What JSON can hold.
        arrays: What NumPy holds, by name.
    """
    remove_abandoned(path)
    text = json.dumps({"format": FORMAT, "version": VERSION, **header}, allow_nan=False)
    with replacing(path, durable=True) as file:
        write_tensors(file, arrays, {FORMAT: text, "digest": digest_of(text, arrays)})


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file and check that it is whole.

    Raises:
        CheckpointError: If it is damaged, of another kind, or of a later version of the format.
        OSError: If it cannot be opened.
        MemoryError: If it does not fit into memory.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would block for ever
        raise CheckpointError(f"{path} is a directory or a device, not a file.")
    try:
        with path.open("rb") as file:
            arrays, notes = read_tensors(file)
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged or no checkpoint: {error}; expected a safetensors file written by "
            "save_checkpoint()."
        ) from error
    except MemoryError as error:
        raise MemoryError(f"{path} does not fit into memory: {error}") from error
    header = _header(path, notes)
    if notes.get("digest") != digest_of(notes[FORMAT], arrays):
        raise CheckpointError(f"{path} is damaged: its content does not match its digest.")
    return Checkpoint(path, header, arrays)


def short(value: object) -> str:
    """A value in a message."""
    told = repr(value)
    return told if len(told) <= TOLD else f"{told[:TOLD]}..."


def plain(value: object) -> Any:
    """A value as it comes back from JSON: tuples become lists, keys strings."""
    return json.loads(json.dumps(value, default=_unpacked))


def _header(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but no checkpoint of {FORMAT}; "
            "expected one written by save_checkpoint()."
        )
    try:
        header = strict_json(metadata[FORMAT])
        version = header["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: its header cannot be read: {error}") from error
    if type(version) is not int or version > VERSION or version < 1:
        raise CheckpointError(
            f"{path} has version {short(version)} of the checkpoint format; this package reads up "
            f"to version {VERSION}. Update pyimgano-openclip."
        )
    found: Mapping[str, Any] = header
    return found


def digest_of(text: str, arrays: Arrays) -> str:
    """What tells a damaged file from a sound one: a digest of its header and its arrays."""
    import hashlib  # with OpenSSL; listing models does not need it

    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        told = f"{name} {array.dtype.str} {array.shape}"
        digest.update(told.encode(errors="surrogatepass"))
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
