"""How patch scores become the pixels of a map: one matrix per axis.

Bilinear interpolation and a Gaussian are linear and work on rows and columns separately, so a map
is ``spread(rows, height) @ scores @ spread(cols, width).T``, here and in exported files.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Size

SMOOTHING = 0.5  # patches; standard deviation of the Gaussian
OVERSAMPLING = 8  # samples per patch at which the Gaussian is applied
REACH = 4  # standard deviations at which the Gaussian ends
NOWHERE = 1e-3  # share of a place that comes from patches with a score, below which it has none
KEPT = 64  # matrices; two for each size of image
ALONE = 2**18  # products of numbers up to which OpenBLAS takes one thread

Doubles = npt.NDArray[np.float64]


@lru_cache(maxsize=KEPT)
def spread(patches: int, pixels: int, smoothing: float = SMOOTHING) -> Floats:
    """The matrix that spreads patch scores over pixels along one axis.

    Bilinear between patch centres, then a Gaussian, continued beyond the ends by
    the outermost values. The Gaussian is applied to samples whose number does not depend on the
    image.

    Args:
        patches: Number of patches.
        pixels: Number of pixels.
        smoothing: Standard deviation of the Gaussian in patches; 0 for none.

    Returns:
        Shape (pixels, patches), float32, read-only; each row sums to 1.
    """
    if smoothing:
        samples = patches * OVERSAMPLING
        fine = _gaussian(samples, smoothing * OVERSAMPLING) @ _interpolation(patches, samples)
        matrix = (_interpolation(samples, pixels) @ fine).astype(np.float32)
    else:
        matrix = _interpolation(patches, pixels).astype(np.float32)
    matrix.flags.writeable = False
    return matrix


def spread_out(scores: Floats, size: Size, smoothing: float = 0.0) -> Floats:
    """Spread scores (rows, cols) over a finer grid or pixels, of shape ``size``."""
    (rows, cols), (height, width) = scores.shape, size
    # One axis after the other; the shorter product first.
    wide = _banded(spread(cols, width, smoothing), scores.T).T
    return _banded(spread(rows, height, smoothing), wide)


def _banded(matrix: Floats, values: Floats) -> Floats:
    """The product of a matrix of :func:`spread` with values, a few rows at a time.

    They leave out the patches that they do not touch, and are too few for the threads of OpenBLAS,
    which would go on waiting for work on the cores that read the next images.
    """
    pixels, patches = matrix.shape
    if matrix.size * values.shape[1] <= ALONE:
        return matrix @ values
    found = np.empty((pixels, values.shape[1]), dtype=np.float32)
    # No more than a patch at once, which touches two patches more than its middle row.
    touched = np.count_nonzero(matrix[pixels // 2]) + 2
    step = max(1, min(pixels // patches, ALONE // (touched * values.shape[1])))
    for start in range(0, pixels, step):
        part = matrix[start : start + step]
        near = slice(np.flatnonzero(part[0])[0], np.flatnonzero(part[-1])[-1] + 1)
        np.matmul(part[:, near], values[near], out=found[start : start + step])
    return found


def spread_known(
    scores: Floats, size: Size, smoothing: float = 0.0
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Spread scores of which some are NaN by the others.

    Args:
        scores: Shape (rows, cols).
        size: (height, width) of the result.
        smoothing: Standard deviation of the Gaussian in patches; 0 for none.

    Returns:
        The scores, and where they come from patches that have one; elsewhere they mean nothing.
    """
    missing = np.isnan(scores)
    if not missing.any():
        return spread_out(scores, size, smoothing), np.ones(size, dtype=bool)
    found = spread_out(np.where(missing, np.float32(0), scores), size, smoothing)
    weight = spread_out((~missing).astype(np.float32), size, smoothing)
    seen = weight > NOWHERE
    np.divide(found, weight, out=found, where=seen)
    return found, seen


def _interpolation(old: int, new: int) -> Doubles:
    """Linear interpolation between the centres of cells, shape (new, old)."""
    place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    below = np.floor(place).astype(np.int64)
    share, each = place - below, np.arange(new)
    matrix = np.zeros((new, old))
    matrix[each, below] = 1 - share
    matrix[each, np.minimum(below + 1, old - 1)] += share
    return matrix


def _gaussian(samples: int, sigma: float) -> Doubles:
    """A Gaussian filter that repeats the outermost values, shape (samples, samples)."""
    offsets = np.arange(-round(REACH * sigma), round(REACH * sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix, each = np.zeros((samples, samples)), np.arange(samples)
    for offset, weight in zip(offsets.tolist(), weights / weights.sum(), strict=True):
        matrix[each, np.clip(each + offset, 0, samples - 1)] += weight
    return matrix
