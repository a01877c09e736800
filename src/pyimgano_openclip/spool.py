"""Keeps the tokens of training images until they can be scored, on disk if there are many."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .embedding import Floats

IN_MEMORY = 64 * 2**20  # bytes; larger amounts go to a temporary file


class TokenSpool:
    """Writes arrays one by one and reads them back in the same order.

    An image can be scored against the others only when all of them are in the memory bank, which
    may have dropped its tokens by then; this avoids encoding it twice.

    Args:
        dtype: Data type in the file.
    """

    def __init__(self, dtype: npt.DTypeLike = np.float32) -> None:
        # Imports compression libraries, which listing models does not need.
        from tempfile import SpooledTemporaryFile

        self._file = SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed in __exit__
        self._dtype = np.dtype(dtype)
        self._shapes: list[tuple[int, ...]] = []

    def __enter__(self) -> TokenSpool:  # noqa: PYI034 - Self is new in Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, tokens: Floats) -> None:
        """Append a float32 array."""
        self._shapes.append(tokens.shape)
        self._file.write(tokens.astype(self._dtype, copy=False).tobytes())

    def __iter__(self) -> Iterator[Floats]:
        self._file.seek(0)
        for shape in self._shapes:
            data = self._file.read(self._dtype.itemsize * int(np.prod(shape)))
            yield np.frombuffer(data, self._dtype).reshape(shape).astype(np.float32)
