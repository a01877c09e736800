"""Image files whose pixels two parts of the package need, one soon after the other."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL import Image

KEPT = 5 * 2**20  # pixels, up to which decoded images are kept; 15 MiB


class Decoded(NamedTuple):
    """A whole image, and what is to be told about its file; see :class:`~.reading.Frame`."""

    image: Image.Image
    pages: int
    range_used: float | None

    @property
    def pixels(self) -> int:
        """Their number."""
        return self.image.width * self.image.height


class DecodedOnce(os.PathLike[str]):
    """The path of an image that is decoded for one reader and kept for the next.

    Args:
        path: Path of the file.

    Attributes:
        digest: Of the bytes that were encoded; None until then, and of a file that cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.digest: str | None = None
        self._kept: tuple[str, Decoded] | None = None
        self._lock = threading.Lock()

    def keep(self, file: str, decoded: Decoded) -> None:
        """Keep what was decoded for the next reader, unless it is large.

        Args:
            file: Digest of the file's bytes.
            decoded: The image.
        """
        if decoded.pixels <= KEPT:
            with self._lock:
                self._kept = file, decoded

    def take(self, file: str | None) -> Decoded | None:
        """What was kept, which is then kept no longer.

        Args:
            file: Digest of the bytes that it has to be of; None for whatever was decoded last.
        """
        with self._lock:
            kept, self._kept = self._kept, None
        return kept[1] if kept is not None and file in (None, kept[0]) else None

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)
