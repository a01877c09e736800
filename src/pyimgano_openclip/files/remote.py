"""Reads images that do not lie in a folder of this machine: cloud storage, and cells of Parquet.

An address is a path, a URI that pyarrow knows (``s3://``, ``gs://``, ``hdfs://``, ``file://``), or
a row of a Parquet file: its URI with ``?column=NAME&group=NUMBER&row=NUMBER`` behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from .digest import digest_of_file

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

MARK = "://"  # never in a path: it has no two slashes in a row
CELL = re.compile(r"(.+)\?column=([^&]*)&group=(\d+)&row=(\d+)")
GROUPS = 2  # row groups of Parquet kept decoded


def is_remote(address: str) -> bool:
    """Whether an address is a URI, not a path."""
    return MARK in address


def file_system(uri: str) -> tuple[FileSystem, str]:
    """The file system of a URI, and the path in it.

    Raises:
        OSError: If pyarrow knows no such file system, or cannot reach it.
    """
    from pyarrow import ArrowInvalid, fs

    try:
        found: tuple[FileSystem, str] = fs.FileSystem.from_uri(uri)
    except ArrowInvalid as error:
        raise OSError(f"{uri} cannot be read: {error}") from error
    return found


def cell_address(file: str, column: str, group: int, row: int) -> str:
    """The address of an image in a Parquet file."""
    return f"{file}?column={quote(column, safe='')}&group={group}&row={row}"


def remote_bytes(address: str) -> bytes:
    """The content of an image file.

    Raises:
        OSError: If it is missing or cannot be read.
    """
    cell = CELL.fullmatch(address)
    if cell is None:
        system, path = file_system(address)
        with system.open_input_stream(path) as stream:
            content: bytes = stream.read()
        return content
    file, column, group, row = cell.groups()
    value = _cells(file, unquote(column), int(group))[int(row)].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise OSError(f"{address} holds no image.")
    return data


@contextmanager
def at_hand(address: str) -> Iterator[Path]:
    """The path of a file; of a remote one, that of a copy which is removed afterwards.

    Raises:
        OSError: If a remote one cannot be read.
    """
    if not is_remote(address):
        yield Path(address)
        return
    with TemporaryDirectory() as folder:
        copy = Path(folder, PurePosixPath(address.partition("?")[0]).name)
        copy.write_bytes(remote_bytes(address))
        yield copy


def digest_of(address: str) -> str | None:
    """Digest of a file's bytes wherever it lies; None if it cannot be read."""
    if not is_remote(address):
        return digest_of_file(Path(address))
    import hashlib  # loads OpenSSL, which --help does not need

    try:
        return hashlib.blake2b(remote_bytes(address)).hexdigest()
    except OSError:
        return None


@lru_cache(GROUPS)
def _cells(file: str, column: str, group: int) -> Any:
    from pyarrow import parquet

    system, path = file_system(file)
    with system.open_input_file(path) as opened:
        table = parquet.ParquetFile(opened).read_row_group(group, columns=[column])
    return table.column(column)
