"""Digests of files, which tell their content whatever their name and date."""

from __future__ import annotations

import stat
from pathlib import Path

BLOCK = 2**20  # bytes
SMALL = 2**26  # bytes, up to which weights are read as a whole
STRIDE, PIECE = 2**16, 2**12  # bytes; what is read of larger ones, and how far apart


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


def digest_of_weights(path: Path) -> str:
    """Digest of a file of weights, wherever it is and whatever its date.

    Of a large file every 16th page is read, which takes a tenth of a second for 1 GB: training
    changes whole tensors.

    Raises:
        OSError: If it cannot be read.
    """
    import hashlib  # as above

    size = path.stat().st_size
    digest = hashlib.blake2b(f"{size} ".encode(), digest_size=16)
    step, piece = (BLOCK, BLOCK) if size <= SMALL else (STRIDE, PIECE)
    with path.open("rb", buffering=0) as file:
        for start in range(0, size, step):
            file.seek(start)
            digest.update(file.read(piece))
    return digest.hexdigest()


def digest_of_content(content: bytes) -> str:
    """What :func:`digest_of_file` gives of a file with these bytes."""
    import hashlib  # as above

    return hashlib.blake2b(content).hexdigest()
