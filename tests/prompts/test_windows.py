"""WinCLIP's windows: harmonic means, equal to naive loops."""

import numpy as np
import pytest

from pyimgano_openclip.prompts.scorer import harmonic_mean, spread_windows


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_patch_has_the_harmonic_mean_of_the_windows_that_cover_it(side):
    grid = (4, 6)
    shape = (grid[0] - side + 1, grid[1] - side + 1)
    scores = np.random.default_rng(side).uniform(0.1, 0.9, shape).astype(np.float32)
    expected = np.empty(grid)
    for r in range(grid[0]):
        for c in range(grid[1]):
            covering = [
                scores[top, left]
                for top in range(shape[0])
                for left in range(shape[1])
                if top <= r < top + side and left <= c < left + side
            ]
            expected[r, c] = len(covering) / sum(1 / s for s in covering)
    np.testing.assert_allclose(spread_windows(scores, grid), expected, rtol=1e-6)


def test_the_harmonic_mean_is_pulled_to_the_lowest():
    maps = [np.full((2, 2), value, np.float32) for value in (0.1, 0.5, 1.0)]
    np.testing.assert_allclose(harmonic_mean(maps), 3 / (10 + 2 + 1), rtol=1e-6)
