"""Memory bank: nearest distance, leaving an image out, coreset."""

import numpy as np
import pytest

from pyimgano_openclip import memory_bank
from pyimgano_openclip.embedding import unit
from pyimgano_openclip.memory_bank import MemoryBank, distance_within, k_center


def tokens(*shape, seed=0):
    return unit(np.random.default_rng(seed).normal(size=shape))


def naive_distance(queries, stored, k=1):
    distances = 1 - np.array([[float(q @ s) for s in stored] for q in queries])
    return np.sort(distances, axis=1)[:, :k].mean(axis=1)


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_distance_equals_a_naive_loop(k):
    stored, queries = tokens(40, 8), tokens(7, 8, seed=1)
    bank = MemoryBank([stored[:15], stored[15:]])
    np.testing.assert_allclose(
        bank.nearest_distance(queries, k), naive_distance(queries, stored, k), atol=1e-6
    )


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("backend", ["sklearn", "torch", "faiss"])
def test_every_backend_finds_the_same_distances(backend, k):
    pytest.importorskip(backend)
    stored, queries = tokens(60, 16), tokens(9, 16, seed=1)
    expected = MemoryBank([stored]).nearest_distance(queries, k)
    found = MemoryBank([stored], backend).nearest_distance(queries, k)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_searching_in_chunks_changes_nothing(monkeypatch):
    stored, queries = tokens(50, 8), tokens(33, 8, seed=1)
    whole = MemoryBank([stored]).nearest_distance(queries, 2)
    monkeypatch.setattr(memory_bank, "CHUNK", 4 * len(stored))
    np.testing.assert_array_equal(MemoryBank([stored]).nearest_distance(queries, 2), whole)


def test_order_and_repetition_of_the_bank_change_nothing():
    stored, queries = tokens(30, 8), tokens(5, 8, seed=1)
    expected = MemoryBank([stored]).nearest_distance(queries)
    np.testing.assert_allclose(
        MemoryBank([stored[::-1], stored]).nearest_distance(queries), expected, atol=1e-6
    )


def test_a_stored_token_has_distance_zero():
    stored = tokens(20, 8)
    np.testing.assert_allclose(MemoryBank([stored]).nearest_distance(stored), 0, atol=1e-6)


def test_distance_to_other_images_leaves_out_the_image_itself():
    first, second = tokens(12, 8), tokens(12, 8, seed=1)
    bank = MemoryBank([first, second])
    np.testing.assert_allclose(
        bank.distance_to_other_images(0, first), naive_distance(first, second), atol=1e-6
    )


def test_leaving_an_image_out_holds_after_thinning():
    images = [tokens(12, 8, seed=seed) for seed in range(3)]
    bank = MemoryBank(images)
    bank.thin(15, seed=0)
    others = bank.tokens[bank.image_of != 1]
    assert len(bank) == 15
    assert 0 < len(others) < 15
    np.testing.assert_allclose(
        bank.distance_to_other_images(1, images[1]), naive_distance(images[1], others), atol=1e-6
    )


def test_a_bank_of_one_image_has_no_others():
    image = tokens(4, 8)
    with pytest.raises(ValueError, match="this image alone"):
        MemoryBank([image]).distance_to_other_images(0, image)


def test_distance_within_leaves_out_a_patch_and_its_neighbours():
    grid = tokens(3, 4, 8)
    distances = distance_within(grid)
    # From the top left corner, the neighbours are (0, 1), (1, 0) and (1, 1).
    others = [grid[r, c] for r in range(3) for c in range(4) if r > 1 or c > 1]
    np.testing.assert_allclose(distances[0], naive_distance(grid[:1, 0], others)[0], atol=1e-6)


def test_tokens_of_another_length_are_refused():
    with pytest.raises(ValueError, match="8 numbers"):
        MemoryBank([tokens(4, 6)]).nearest_distance(tokens(2, 8))


def test_k_center_equals_a_naive_greedy_choice():
    points = tokens(25, 8)
    chosen, radius = k_center(points, 6, seed=3)
    start = int(np.random.default_rng(3).integers(25))
    greedy = [start]
    while len(greedy) < 6:
        gaps = np.min([np.linalg.norm(points - points[g], axis=1) for g in greedy], axis=0)
        greedy.append(int(gaps.argmax()))
    gaps = np.min([np.linalg.norm(points - points[g], axis=1) for g in greedy], axis=0)
    assert sorted(greedy) == chosen.tolist()
    assert radius == pytest.approx(gaps.max(), abs=1e-4)


def test_the_covering_radius_never_grows_with_the_coreset():
    points = tokens(200, 16)
    radii = [k_center(points, size, seed=0)[1] for size in (1, 5, 20, 80, 200)]
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] == pytest.approx(0, abs=1e-3)


def test_equal_seeds_keep_equal_tokens():
    points = tokens(300, 200)  # long enough for the random projection
    np.testing.assert_array_equal(k_center(points, 50, seed=7)[0], k_center(points, 50, seed=7)[0])
    assert not np.array_equal(k_center(points, 50, seed=7)[0], k_center(points, 50, seed=8)[0])
