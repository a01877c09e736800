"""Caches text vectors on disk, so that scoring a class again needs no text tower.

There is one small file per text vector in ``~/.cache/pyimgano-openclip/text``, or below the folder
in ``PYIMGANO_OPENCLIP_CACHE``; set to ``0`` it turns the cache off.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from ..arrays import Floats, unit
from ..files.atomic import replacing


def ensembles(
    model: str,
    ensembles: Sequence[Sequence[str]],
    encode: Callable[[Sequence[str]], tuple[Floats, set[str]]],
    *,
    scaled: bool,
) -> list[Floats]:
    """The normalised mean of the vectors of each ensemble of sentences, shape (D,).

    Args:
        model: Identity of the model and its weights.
        ensembles: Lists of sentences with the same meaning.
        encode: Gives the vectors of sentences, and those sentences that were cut; called once, if
            at all. Their ensembles are not cached, so that each process warns of them.
        scaled: Whether each vector is scaled to unit length before they are averaged.
    """
    model = model if scaled else f"{model}, averaged unscaled"
    found = {tuple(texts): load_vector(model, texts) for texts in ensembles}
    missing = [texts for texts, vector in found.items() if vector is None]
    if missing:
        encoded, cut = encode([text for texts in missing for text in texts])
        ends = np.cumsum([len(texts) for texts in missing])[:-1]
        for texts, vectors in zip(missing, np.split(encoded, ends), strict=True):
            vectors = unit(vectors) if scaled else vectors
            found[texts] = mean = unit(vectors.mean(axis=0))
            if cut.isdisjoint(texts):
                save_vector(model, texts, mean)
    return [cast(Floats, found[tuple(texts)]) for texts in ensembles]


def cache_directory() -> Path | None:
    """Directory of the text vectors; None if the cache is turned off."""
    wanted = os.environ.get("PYIMGANO_OPENCLIP_CACHE")
    if wanted == "0":
        return None
    if wanted:
        return Path(wanted).expanduser() / "text"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pyimgano-openclip" / "text"


def load_vector(model: str, sentences: Sequence[str]) -> Floats | None:
    """Load the text vector of sentences, shape (D,); None if it is not cached.

    Args:
        model: Identity of the model and its weights.
        sentences: Sentences in order.
    """
    file = _file(model, sentences)
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            vector: Floats = np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, MemoryError):
        return None  # missing or damaged: encoded again
    sound = vector.ndim == 1 and vector.dtype == np.float32 and np.isfinite(vector).all()
    return vector if sound and vector.any() else None


def save_vector(model: str, sentences: Sequence[str], vector: Floats) -> None:
    """Save a text vector; a directory that is not writable is ignored."""
    file = _file(model, sentences)
    if file is None:
        return
    try:
        with replacing(file) as stream:
            np.save(stream, vector, allow_pickle=False)
    except OSError:
        return  # a read-only home costs a few seconds at the next start


def _file(model: str, sentences: Sequence[str]) -> Path | None:
    directory = cache_directory()
    if directory is None:
        return None
    text = json.dumps([model, list(sentences)])
    return directory / f"{hashlib.sha256(text.encode()).hexdigest()[:40]}.npy"
