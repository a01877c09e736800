"""Nearest rows of a memory bank: every backend, equal to a naive loop."""

import numpy as np
import pytest

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank import blocks, search
from pyimgano_openclip.bank.search import SEARCH_BACKENDS, build_search, distance_within

from helpers.banks import bank_of, naive_distance, tokens

EXACT = ["numpy", "sklearn", "faiss", pytest.param("torch", marks=pytest.mark.slow)]


@pytest.fixture(params=EXACT)
def backend(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def small_blocks(monkeypatch):
    """Searches that need several blocks of rows and several parts of queries."""
    monkeypatch.setattr(search, "ROWS", 16)
    monkeypatch.setattr(search, "BUDGET", 64)


@pytest.mark.parametrize("k", [1, 3])
def test_nearest_distance_equals_a_naive_loop(backend, k):
    stored, queries = tokens(60, 16), tokens(9, 16, seed=1)
    bank = bank_of(stored[:25], stored[25:], backend=backend)
    np.testing.assert_allclose(
        bank.nearest_distance(queries, k), naive_distance(queries, stored, k), atol=1e-6
    )


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("image", [0, 1, 2])
def test_an_image_is_left_out_exactly(backend, image, k):
    images = [tokens(n, 8, seed=n) for n in (5, 20, 12)]
    others = np.concatenate(images[:image] + images[image + 1 :])
    found = bank_of(*images, backend=backend).nearest_distance(images[image], k, leave_out=[image])
    np.testing.assert_allclose(found, naive_distance(images[image], others, k), atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("leave_out", [[], [1]])
def test_searching_in_blocks_changes_nothing(backend, small_blocks, k, leave_out):
    images = [tokens(n, 8, seed=n) for n in (30, 40, 20)]
    queries = tokens(33, 8, seed=1)
    left = images if not leave_out else [images[0], images[2]]
    found = bank_of(*images, backend=backend).nearest_distance(queries, k, leave_out=leave_out)
    np.testing.assert_allclose(found, naive_distance(queries, np.concatenate(left), k), atol=1e-6)


def test_many_neighbours_are_found_as_few_are(backend, small_blocks):
    stored, queries = tokens(60, 8), tokens(9, 8, seed=1)
    assert blocks.FEW < 30
    found = bank_of(stored, backend=backend).nearest_distance(queries, 30)
    np.testing.assert_allclose(found, naive_distance(queries, stored, 30), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_the_search_of_a_gpu_finds_the_same(monkeypatch, k):
    pytest.importorskip("torch")
    monkeypatch.setattr(search, "DEVICE_ROWS", 16)
    stored, queries = tokens(60, 8), tokens(9, 8, seed=1)
    expected = build_search("numpy", stored, "cpu")(queries, k, [range(10, 20), range(25, 30)])
    found = search._device_search(stored, "cpu")(queries, k, [range(10, 20), range(25, 30)])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])


def test_every_backend_finds_the_same_rows(backend, small_blocks):
    images, queries = [tokens(50, 8, seed=s) for s in (1, 2)], tokens(9, 8)
    _, expected = bank_of(*images).nearest_rows(queries, 4)
    _, found = bank_of(*images, backend=backend).nearest_rows(queries, 4)
    np.testing.assert_array_equal(found, expected)


def test_an_inverted_index_is_approximate_and_leaves_images_out():
    pytest.importorskip("faiss")
    assert "faiss-ivf" in SEARCH_BACKENDS
    images = [tokens(400, 8, seed=s) for s in (1, 2)]
    exact, rough = bank_of(*images), bank_of(*images, backend="faiss-ivf")
    queries = tokens(50, 8)
    difference = rough.nearest_distance(queries) - exact.nearest_distance(queries)
    assert (difference > -1e-6).all()
    assert difference.mean() < 0.1
    assert (rough.nearest_distance(images[0], leave_out=[0]) > 1e-3).all()


def test_an_inverted_index_finds_as_many_rows_as_are_asked_for():
    pytest.importorskip("faiss")
    alike = unit(tokens(1, 8) + 0.01 * tokens(300, 8, seed=1))
    bank = bank_of(alike, tokens(40, 8, seed=2), backend="faiss-ivf")
    # The lists near such tokens hold hardly any others, and their image is left out.
    assert (bank.nearest_distance(alike[:5], leave_out=[0]) < 1.5).all()
    _, rows = bank.nearest_rows(tokens(5, 8, seed=3), 300)
    assert rows.min() >= 0
    assert [len(set(found)) for found in rows.tolist()] == [300] * 5


def test_an_inverted_index_of_a_small_bank_is_exact():
    pytest.importorskip("faiss")
    stored, queries = tokens(60, 8), tokens(9, 8, seed=1)
    found = bank_of(stored, backend="faiss-ivf").nearest_distance(queries, 3)
    np.testing.assert_allclose(found, bank_of(stored).nearest_distance(queries, 3), atol=1e-6)


def test_half_precision_rows_take_half_the_memory_and_find_nearly_the_same(backend):
    stored, queries = tokens(60, 64), tokens(9, 64, seed=1)
    half, full = (bank_of(stored, backend=backend, row_type=t) for t in ("float16", "float32"))
    assert half.tokens.dtype == np.float16
    assert 2 * half.tokens.nbytes == full.tokens.nbytes
    np.testing.assert_allclose(
        half.nearest_distance(queries), full.nearest_distance(queries), atol=1e-3
    )


def test_a_zero_token_has_distance_zero_to_zero_rows_alone(backend):
    zero = np.zeros((1, 8), dtype=np.float32)
    bank = bank_of(np.concatenate([tokens(4, 8), zero]), tokens(3, 8, seed=1), backend=backend)
    distance, rows = bank.nearest_rows(np.concatenate([zero, bank.tokens[:1]]))
    np.testing.assert_allclose(distance, [0, 0], atol=1e-6)
    assert rows.tolist() == [[4], [0]]
    assert bank.nearest_distance(zero, 2) == 0.5
    assert bank.nearest_distance(zero, leave_out=[0]) == 1


def test_distance_within_leaves_out_a_patch_and_its_neighbours():
    grid = tokens(3, 4, 8)
    distances = distance_within(grid.reshape(12, -1), np.arange(12), (3, 4))
    # From the top left corner, the neighbours are (0, 1), (1, 0) and (1, 1).
    others = [grid[r, c] for r in range(3) for c in range(4) if r > 1 or c > 1]
    np.testing.assert_allclose(distances[0], naive_distance(grid[:1, 0], others)[0], atol=1e-6)
    assert distance_within(grid[0, :1], np.array([0]), (1, 1)).tolist() == [0]
