"""Reads and writes checkpoints of detectors: one safetensors file, no pickle.

The file's metadata contain a JSON header: format and version, the detector's class, the identity of
the model, every setting that changes a score, and the threshold. The tensors contain the rest. A
digest of header and tensors reveals damaged files, but anybody can compute a matching one. So no
file is trusted: none contains code, and contents that no detector would have written are refused.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import remove_abandoned, replacing
from .exported import is_exported, not_saved
from .tensor_file import Arrays, pack, read_notes, strict_json, unpack

FORMAT = "pyimgano-openclip"
VERSION = 1
# Entries of the header, and of its state, on which no score depends.
LABELLING = {
    "threshold", "threshold_chosen", "contamination", "learning", "peaks_over_threshold",
}  # fmt: skip
LABELLING_STATE = {"thresholds"}
UNIT = 1.01  # maximum length of a unit vector that was rounded to 16 bits
SHOWN = 500  # maximum number of characters of a value in a message


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names it, what was found and what was expected."""


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint.

    Attributes:
        path: Path of the file.
        header: Everything but the arrays.
        arrays: Arrays by name.
        digest: Digest of header and arrays.
    """

    path: Path
    header: Mapping[str, Any]
    arrays: Arrays
    digest: str

    def under(self, prefix: str) -> Checkpoint:
        """The arrays whose names begin like this, without it, and the state of that name.

        Raises:
            CheckpointError: If there is none.
        """
        state = self.header["state"].get(prefix)
        if not isinstance(state, Mapping):
            raise CheckpointError(f"{self.path} is damaged: it has no {prefix!r}.")
        named = {
            name.removeprefix(prefix): array
            for name, array in self.arrays.items()
            if name.startswith(prefix)
        }
        return replace(self, header={**self.header, "state": state}, arrays=named)

    @property
    def scoring_digest(self) -> str:
        """Digest of what scores depend on: all but the thresholds and what they follow from."""
        header = _without(self.header, LABELLING)
        header["state"] = _without(header["state"], LABELLING_STATE)
        return digest_of(json.dumps(header), self.arrays)

    def numbers(self, name: str, axes: int, *types: str) -> npt.NDArray[Any]:
        """Return an array of finite numbers.

        Args:
            name: Name of the array.
            axes: Number of its axes.
            types: NumPy names of the accepted data types.

        Raises:
            CheckpointError: If it is missing, empty, or has other axes, types or values.
        """
        array = self.arrays.get(name, np.empty(0))
        sound = array.ndim == axes and array.size and array.dtype.name in types
        if not sound or not np.isfinite(array).all():
            raise CheckpointError(
                f"{self.path} is damaged: {name!r} has shape {array.shape} and type "
                f"{array.dtype}, or values that are not finite; expected finite values of type "
                f"{' or '.join(types)} with {axes} axes."
            )
        return array

    def unit_vectors(self, name: str, axes: int, *types: str) -> npt.NDArray[Any]:
        """Like :meth:`numbers`, for vectors of length 1 or 0 along the last axis.

        Raises:
            CheckpointError: Also if a vector is longer, so that scores would leave their range.
        """
        array = self.numbers(name, axes, *types)
        squares = np.einsum("...d,...d->...", array, array, dtype=np.float64)
        if squares.max() > UNIT**2:
            raise CheckpointError(
                f"{self.path} is damaged: {name!r} has a vector of length "
                f"{float(squares.max()) ** 0.5:g}; expected at most 1."
            )
        return array

    def expect(self, what: str, found: object, expected: object, remedy: str) -> None:
        """Raise an error unless a value in the file equals that of the detector.

        Args:
            what: Name of the value.
            found: Value in the file.
            expected: Value of the detector, made of JSON types or tuples of them.
            remedy: What the user can do.
        """
        if found != plain(expected):
            raise CheckpointError(
                f"{self.path} was saved with {what} = {short(found)}, but this detector has "
                f"{short(plain(expected))}. {remedy}"
            )


def write_checkpoint(path: Path, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a checkpoint under a temporary name, then rename it, so that no broken file remains.

    Temporary files of killed processes are removed after an hour.

    Args:
        path: Path of the file; folders are created, an existing file or symbolic link is replaced.
        header: JSON values.
        arrays: Arrays by name.
    """
    remove_abandoned(path)
    text = header_text(header)
    data = pack(arrays, {FORMAT: text, "digest": digest_of(text, arrays)})
    with replacing(path, durable=True) as file:
        file.write(data)


def header_text(header: Mapping[str, Any]) -> str:
    """A header as it is written, with format and version."""
    return json.dumps({"format": FORMAT, "version": VERSION, **header}, allow_nan=False)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check that it is complete.

    Raises:
        CheckpointError: If the file is damaged, not a checkpoint, or of a later format version.
        OSError: If it cannot be opened.
        MemoryError: If it does not fit into memory.
    """
    with _errors_named(path):
        arrays, notes = unpack(path.read_bytes())
    header = _header(path, notes)
    digest = digest_of(notes[FORMAT], arrays)
    if notes.get("digest") != digest:
        raise CheckpointError(f"{path} is damaged: its content does not match its digest.")
    return Checkpoint(path, header, arrays, digest)


def read_header(path: Path) -> Mapping[str, Any]:
    """Read the header of a checkpoint only; whether the rest is complete is not checked.

    Raises:
        CheckpointError: If it is damaged, not that of a checkpoint, or of a later format version.
        OSError: If the file cannot be opened.
    """
    with _errors_named(path), path.open("rb") as file:
        notes = read_notes(file)
    return _header(path, notes)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Refuse what is no checkpoint, and name the file in what reading it raises."""
    if not stat.S_ISREG(path.stat().st_mode):  # a named pipe would block forever
        raise CheckpointError(f"{path} is a directory or a device, not a file.")
    if is_exported(path):
        raise CheckpointError(not_saved(path))
    try:
        yield
    except ValueError as error:
        raise CheckpointError(
            f"{path} is damaged or not a checkpoint: {error}; expected a safetensors file written "
            "by save_checkpoint()."
        ) from error
    except MemoryError as error:
        raise MemoryError(f"{path} does not fit into memory: {error}") from error


def short(value: object) -> str:
    """Shorten a value for a message."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def plain(value: object) -> Any:
    """Convert a value as a round trip through JSON does: tuples to lists, keys to strings."""
    return json.loads(json.dumps(value, default=_unpacked))


def _without(entries: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in entries.items() if name not in names}


def _header(path: Path, metadata: Mapping[str, str]) -> Mapping[str, Any]:
    if FORMAT not in metadata:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of {FORMAT}; "
            "expected one written by save_checkpoint()."
        )
    try:
        header = strict_json(metadata[FORMAT])
        version = header["version"]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: its header cannot be read: {error}") from error
    if type(version) is not int or version > VERSION or version < 1:
        raise CheckpointError(
            f"{path} has checkpoint format version {short(version)}; this package reads versions "
            f"up to {VERSION}. Update pyimgano-openclip."
        )
    return header


def digest_of(text: str, arrays: Arrays) -> str:
    """Digest of header and arrays, which reveals damaged files."""
    import hashlib  # loads OpenSSL, which listing models does not need

    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        description = f"{name} {array.dtype.str} {array.shape}"
        digest.update(description.encode(errors="surrogatepass"))
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _unpacked(value: object) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ValueError(f"A setting of type {type(value).__name__} cannot be saved to a checkpoint.")
