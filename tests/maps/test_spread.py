"""Patch scores become pixels by products of a few rows at a time."""

from __future__ import annotations

import numpy as np
import pytest

from pyimgano_openclip.maps import spread as module
from pyimgano_openclip.maps.spread import ALONE, SMOOTHING, spread, spread_out


@pytest.mark.parametrize("smoothing", [0.0, SMOOTHING, 3.0])
@pytest.mark.parametrize(
    ("grid", "size"), [((12, 12), (1024, 1024)), ((7, 90), (40, 1800)), ((9, 2), (5, 7))]
)
def test_the_map_is_the_product_of_both_matrices(
    grid: tuple[int, int], size: tuple[int, int], smoothing: float
) -> None:
    scores = np.random.default_rng(0).random(grid, dtype=np.float32)
    down, across = (spread(*each, smoothing) for each in zip(grid, size, strict=True))
    expected = down.astype(np.float64) @ scores @ across.T
    np.testing.assert_allclose(spread_out(scores, size, smoothing), expected, rtol=1e-5)


def test_no_product_is_large_enough_for_the_threads_of_openblas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    product = np.matmul

    def counted(one: np.ndarray, other: np.ndarray, out: np.ndarray) -> np.ndarray:
        taken.append(one.size * other.shape[1])
        return product(one, other, out=out)

    monkeypatch.setattr(module.np, "matmul", counted)
    for grid, size in (((12, 12), (1024, 1024)), ((100, 150), (3648, 5472))):
        scores = np.ones(grid, dtype=np.float32)
        np.testing.assert_allclose(spread_out(scores, size, SMOOTHING), 1, rtol=1e-5)
    assert 0 < max(taken) <= ALONE
