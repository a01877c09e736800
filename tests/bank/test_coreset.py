"""The greedy choice of the tokens to keep."""

from itertools import pairwise

import numpy as np
import pytest

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank import coreset
from pyimgano_openclip.bank.coreset import k_center, project


def tokens(*shape, seed=0):
    return unit(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("candidates", [4, 1000])
def test_k_center_equals_a_naive_greedy_choice(monkeypatch, candidates):
    monkeypatch.setattr(coreset, "CANDIDATES", candidates)
    monkeypatch.setattr(coreset, "BLOCK", 32)
    points = tokens(100, 8)
    found = k_center(points, 30, seed=3)
    greedy = [int(np.random.default_rng(3).integers(100))]
    while len(greedy) < 30:
        gaps = np.min([np.linalg.norm(points - points[g], axis=1) for g in greedy], axis=0)
        greedy.append(int(gaps.argmax()))
    gaps = np.array([np.linalg.norm(points - points[g], axis=1) for g in sorted(greedy)])
    assert found.kept.tolist() == sorted(greedy)
    assert found.radius == pytest.approx(gaps.min(axis=0).max(), abs=1e-3)
    np.testing.assert_array_equal(found.owner, gaps.argmin(axis=0))


def test_the_radius_of_a_coreset_never_grows_with_its_size():
    points = tokens(200, 16)
    chosen = [k_center(points, size, seed=0) for size in (1, 5, 20, 80, 200)]
    radii = [found.radius for found in chosen]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] == 0
    for smaller, larger in pairwise(chosen):
        assert set(smaller.kept) <= set(larger.kept)


def test_repeated_points_are_chosen_only_when_nothing_else_is_left():
    points = np.repeat(tokens(5, 8), 4, axis=0)
    assert k_center(points, 5, seed=0).radius == pytest.approx(0, abs=1e-3)
    kept = k_center(points, 12, seed=0).kept
    assert len(set(kept.tolist())) == 12


def test_the_projection_repeats_under_its_seed_and_nearly_keeps_distances():
    points = tokens(50, 600)
    np.testing.assert_array_equal(project(points, 1), project(points, 1))
    assert project(points, 1).shape == (50, 128)
    between = [np.linalg.norm(p[1:] - p[:-1], axis=1) for p in (points, project(points, 1))]
    np.testing.assert_allclose(between[1], between[0], rtol=0.3)
