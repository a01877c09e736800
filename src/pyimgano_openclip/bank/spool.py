"""Keeps the tokens of training images until they can be scored, on disk if there are many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, rounded
from ..files.atomic import naming

IN_MEMORY = 64 * 2**20  # bytes; larger amounts go to a temporary file


class TokenSpool:
    """Writes arrays one by one and reads them back.

    An image can be scored against the others only when all of them are in the memory bank, which
    may have dropped its tokens by then; this avoids encoding it twice.

    Args:
        dtype: Data type in the file.
    """

    def __init__(self, dtype: npt.DTypeLike = np.float32) -> None:
        # Imports compression libraries, which listing models does not need.
        from tempfile import SpooledTemporaryFile, gettempdir

        self._folder = Path(gettempdir())
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed in __exit__
        self._dtype = np.dtype(dtype)
        self._shapes: list[tuple[int, ...]] = []
        self._starts = [0]  # bytes

    def __enter__(self) -> TokenSpool:  # noqa: PYI034 - Self is new in Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, tokens: Floats) -> None:
        """Append a float32 array.

        Raises:
            OSError: If there is no room; it names the folder, since the file has no name.
        """
        self._shapes.append(tokens.shape)
        self._starts.append(self._starts[-1] + self._dtype.itemsize * tokens.size)
        with naming(self._folder):
            self._file.write(rounded(tokens, self._dtype).tobytes())

    def __len__(self) -> int:
        return len(self._shapes)

    def __getitem__(self, number: int) -> Floats:
        """Read the array that was written as this one; writing has to be over."""
        start, end = self._starts[number : number + 2]
        self._file.seek(start)
        data = self._file.read(end - start)
        return np.frombuffer(data, self._dtype).reshape(self._shapes[number]).astype(np.float32)

    def __iter__(self) -> Iterator[Floats]:
        return (self[number] for number in range(len(self)))
