"""Digests of files, which tell their content whatever their name and date."""

from __future__ import annotations

import stat
from pathlib import Path

BLOCK = 2**20  # bytes


def digest_of_file(path: Path, algorithm: str = "blake2b") -> str | None:
    """Digest of a file's bytes as hexadecimal digits; None if it is not a file that can be read.

    Args:
        path: Path of the file. A device or a named pipe, which might block forever, is not read.
        algorithm: Name of a hash function of hashlib.
    """
    import hashlib  # loads OpenSSL, which listing models does not need

    digest = hashlib.new(algorithm)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


def digest_of_content(content: bytes) -> str:
    """What :func:`digest_of_file` gives of a file with these bytes."""
    import hashlib  # as above

    return hashlib.blake2b(content).hexdigest()
