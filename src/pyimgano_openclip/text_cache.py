"""Text vectors on disk, so that a machine that has scored a class once needs no text tower again.

One small file a text vector, in ``~/.cache/pyimgano-openclip/text``, or where
``PYIMGANO_OPENCLIP_CACHE`` points; set to ``0`` it turns the cache off.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .atomic import replacing
from .embedding import Floats


def cache_directory() -> Path | None:
    """Where text vectors are kept, or None if the cache is turned off."""
    wanted = os.environ.get("PYIMGANO_OPENCLIP_CACHE")
    if wanted == "0":
        return None
    if wanted:
        return Path(wanted).expanduser() / "text"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pyimgano-openclip" / "text"


def load_vector(model: str, sentences: Sequence[str]) -> Floats | None:
    """The text vector of these sentences by this model, shape (D,), or None if it is not there.

    Args:
        model: Identity of the model and its weights.
        sentences: The sentences in their order.
    """
    file = _file(model, sentences)
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            vector: Floats = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, MemoryError):
        return None  # missing or damaged: it is encoded anew
    sound = vector.ndim == 1 and vector.dtype == np.float32 and np.isfinite(vector).all()
    return vector if sound and vector.any() else None


def save_vector(model: str, sentences: Sequence[str], vector: Floats) -> None:
    """Keep a text vector; a directory that cannot be written to is left alone."""
    file = _file(model, sentences)
    if file is None:
        return
    try:
        with replacing(file) as stream:
            np.save(stream, vector, allow_pickle=False)
    except OSError:
        return  # a read-only home costs a few seconds at the next start, not the run


def _file(model: str, sentences: Sequence[str]) -> Path | None:
    directory = cache_directory()
    if directory is None:
        return None
    text = json.dumps([model, list(sentences)])
    return directory / f"{hashlib.sha256(text.encode()).hexdigest()[:40]}.npy"
