"""A tiny CLIP model for demonstrations, tests and first steps without network access.

See ``MODEL_CARD.md`` in this folder for its capabilities and limits.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

CHECKSUMS = "SHA256SUMS"  # in the format of sha256sum


def weights_dir() -> Path:
    """Folder with the weights and their config, verified by SHA-256.

    open_clip loads it as ``"local-dir:FOLDER"``.

    Raises:
        ValueError: If a file is missing or damaged, or the package was imported from an archive;
            the message names it.
    """
    folder = Path(__file__).parent
    if not folder.is_dir():
        raise ValueError(
            f"{folder} of the bundled model lies in an archive, but open_clip reads files. Unpack "
            "the archive, install pyimgano-openclip with pip, or choose another "
            "openclip_model_name."
        )
    for line in (folder / CHECKSUMS).read_text(encoding="ascii").splitlines():
        expected, name = line.split()
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} of the bundled model is missing. {_REMEDY}")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise ValueError(
                f"{path} of the bundled model is damaged: its SHA-256 is {found}, expected "
                f"{expected}. {_REMEDY}"
            )
    return folder


_REMEDY = "Install pyimgano-openclip again, or choose another openclip_model_name."
