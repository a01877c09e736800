"""The kinds of array and size that all parts of the package exchange."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Indices: TypeAlias = npt.NDArray[np.int64]
Scores: TypeAlias = npt.NDArray[np.float64]  # of images (N,)
Size: TypeAlias = tuple[int, int]  # (height, width), or (rows, cols) of patches


def unit(vectors: npt.ArrayLike) -> Floats:
    """Scale vectors along the last axis to length 1; zero vectors stay zero."""
    array = np.asarray(vectors, dtype=np.float32)
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    return array / np.maximum(length, np.finfo(np.float32).tiny)


def rounded(tokens: Floats, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Convert tokens to another type; what is too small for it becomes 0, whatever NumPy raises."""
    with np.errstate(under="ignore"):
        return tokens.astype(dtype, copy=False)
