"""Memory bank: nearest distance, leaving images out, growing within a limit, coreset."""

import pickle
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from pyimgano_openclip import coreset, search
from pyimgano_openclip.coreset import k_center, nearest_center, project
from pyimgano_openclip.embedding import unit
from pyimgano_openclip.memory_bank import MemoryBank
from pyimgano_openclip.origins import StoredImage
from pyimgano_openclip.search import SEARCH_BACKENDS, build_search, distance_within
from pyimgano_openclip.spool import TokenSpool

EXACT = ["numpy", "sklearn", "faiss", pytest.param("torch", marks=pytest.mark.slow)]


def tokens(*shape, seed=0):
    return unit(np.random.default_rng(seed).normal(size=shape))


def bank_of(*images, backend="numpy", **settings):
    bank = MemoryBank(backend, **settings)
    for image in images:
        bank.add(StoredImage(grid=(1, len(image)), size=(8, 8 * len(image))), image)
    return bank


def naive_distance(queries, stored, k=1):
    distances = 1 - np.array([[float(q @ s) for s in stored] for q in queries])
    return np.sort(distances, axis=1)[:, :k].mean(axis=1)


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
    found = bank_of(*images, backend=backend).nearest_distance(images[image], k, leave_out=image)
    np.testing.assert_allclose(found, naive_distance(images[image], others, k), atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("leave_out", [None, 1])
def test_searching_in_blocks_changes_nothing(backend, small_blocks, k, leave_out):
    images = [tokens(n, 8, seed=n) for n in (30, 40, 20)]
    queries = tokens(33, 8, seed=1)
    left = images if leave_out is None else [images[0], images[2]]
    found = bank_of(*images, backend=backend).nearest_distance(queries, k, leave_out=leave_out)
    np.testing.assert_allclose(found, naive_distance(queries, np.concatenate(left), k), atol=1e-6)


def test_many_neighbours_are_found_as_few_are(backend, small_blocks):
    stored, queries = tokens(60, 8), tokens(9, 8, seed=1)
    assert search.FEW < 30
    found = bank_of(stored, backend=backend).nearest_distance(queries, 30)
    np.testing.assert_allclose(found, naive_distance(queries, stored, 30), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 3])
def test_the_search_of_a_gpu_finds_the_same(monkeypatch, k):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(search, "DEVICE_ROWS", 16)
    stored, queries = tokens(60, 8), tokens(9, 8, seed=1)
    expected = build_search("numpy", stored, "cpu")(queries, k, range(10, 30))
    found = search._device_search(torch.from_numpy(stored))(queries, k, range(10, 30))
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
    assert (rough.nearest_distance(images[0], leave_out=0) > 1e-3).all()


def test_an_inverted_index_finds_as_many_rows_as_are_asked_for():
    pytest.importorskip("faiss")
    alike = unit(tokens(1, 8) + 0.01 * tokens(300, 8, seed=1))
    bank = bank_of(alike, tokens(40, 8, seed=2), backend="faiss-ivf")
    # The lists near such tokens hold hardly any others, and their image is left out.
    assert (bank.nearest_distance(alike[:5], leave_out=0) < 1.5).all()
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


def test_order_and_repetition_of_the_bank_change_nothing():
    stored, queries = tokens(30, 8), tokens(5, 8, seed=1)
    expected = bank_of(stored).nearest_distance(queries)
    twice = bank_of(stored[::-1], stored)
    np.testing.assert_allclose(twice.nearest_distance(queries), expected, atol=1e-6)


def test_a_stored_token_has_distance_zero():
    stored = tokens(20, 8)
    np.testing.assert_allclose(bank_of(stored).nearest_distance(stored), 0, atol=1e-6)


def test_a_zero_token_has_distance_zero_to_zero_rows_alone(backend):
    zero = np.zeros((1, 8), dtype=np.float32)
    bank = bank_of(np.concatenate([tokens(4, 8), zero]), tokens(3, 8, seed=1), backend=backend)
    distance, rows = bank.nearest_rows(np.concatenate([zero, bank.tokens[:1]]))
    np.testing.assert_allclose(distance, [0, 0], atol=1e-6)
    assert rows.tolist() == [[4], [0]]
    assert bank.nearest_distance(zero, 2) == 0.5
    assert bank.nearest_distance(zero, leave_out=0) == 1


def test_turned_copies_are_left_out_with_their_image():
    first, turned, second = (tokens(6, 8, seed=s) for s in range(3))
    bank, image = MemoryBank(), StoredImage((2, 3), (20, 30))
    bank.add(image, first)
    bank.add(image, turned[2:5], turn=1, patches=np.array([2, 3, 4]))
    bank.add(image, second)
    assert len(bank.images) == 2
    found = bank.nearest_distance(first, leave_out=0)
    np.testing.assert_allclose(found, naive_distance(first, second), atol=1e-6)
    assert bank.origin(7) == (0, 1, 3)
    assert bank.origin(9) == (1, 0, 0)
    np.testing.assert_array_equal(bank.tokens_of(0), first)


def test_a_limited_bank_stays_within_its_limit_and_leaves_images_out():
    images = [tokens(40, 8, seed=seed) for seed in range(10)]
    bank = MemoryBank(limit=100)
    for image in images:
        bank.add(StoredImage((1, 40), (8, 320)), image)
        assert len(bank) <= 125
    bank.thin(100)
    assert (len(bank), bank.seen, bank.is_complete) == (100, 400, False)
    assert bank.origins[:, 0].tolist() == sorted(bank.origins[:, 0].tolist())
    others = bank.tokens[bank.origins[:, 0] != 3]
    assert 0 < len(others) < 100
    found = bank.nearest_distance(images[3], leave_out=3)
    np.testing.assert_allclose(found, naive_distance(images[3], others), atol=1e-6)
    for row in range(100):
        image, turn, patch = bank.origin(row)
        np.testing.assert_array_equal(bank.tokens[row], images[image][patch])
        assert turn == 0


def test_the_covering_radius_holds_for_every_token_ever_added():
    images = [tokens(40, 8, seed=seed) for seed in range(10)]
    bank = bank_of(*images, limit=60)
    bank.thin(60)
    everything = np.concatenate(images)
    distance, _ = nearest_center(project(everything, 0), project(bank.tokens, 0))
    assert distance.max() <= bank.covering_radius + 1e-5
    assert 0 < bank.covering_radius < 3 * k_center(everything, 60, seed=0).radius


def test_the_covering_radius_never_grows_with_the_limit():
    images = [tokens(40, 8, seed=seed) for seed in range(10)]
    radii = []
    for limit in (20, 50, 100, 200, 400):
        bank = bank_of(*images, limit=limit)
        radii.append(bank.thin(limit))
    assert radii == sorted(radii, reverse=True)
    assert radii[-1] == 0


def test_equal_images_make_equal_banks():
    images = [tokens(40, 200, seed=seed) for seed in range(6)]
    first, again, other = (bank_of(*images, limit=50, seed=seed) for seed in (1, 1, 2))
    for bank in (first, again, other):
        bank.thin(50)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert not np.array_equal(first.tokens, other.tokens)


def test_building_a_bank_takes_the_memory_of_the_bank_and_an_image():
    images = [tokens(250, 512, seed=seed) for seed in range(4)]
    bank = MemoryBank(row_type="float16")
    tracemalloc.start()
    bank.reserve(80, images[0])
    for number in range(80):
        bank.add(StoredImage((1, 250), (8, 2000)), images[number % 4])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(bank) == 20_000
    assert peak < 1.1 * bank.tokens.nbytes


def test_a_limited_bank_takes_half_as_much_again_at_most():
    images = [tokens(500, 512, seed=seed) for seed in range(30)]
    bank = MemoryBank(limit=4000)
    tracemalloc.start()
    bank.reserve(30, images[0])
    for image in images:
        bank.add(StoredImage((1, 500), (8, 4000)), image)
    bank.thin(4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The bank, a quarter of slack, the projection (another quarter), what is being compared.
    work = 4 * coreset.BLOCK * coreset.CANDIDATES
    assert peak < 1.9 * bank.tokens.nbytes + work


def test_a_copy_grows_alone():
    bank = bank_of(*(tokens(40, 8, seed=seed) for seed in range(4)), limit=50)
    bank.thin(50)
    before, radius = bank.tokens.copy(), bank.covering_radius
    twin = bank.copy()
    for seed in range(10, 16):
        twin.add(StoredImage((1, 40), (8, 320)), tokens(40, 8, seed=seed))
    twin.thin(20)
    np.testing.assert_array_equal(bank.tokens, before)
    assert bank.covering_radius == radius
    assert (len(bank.images), len(twin.images)) == (4, 10)


def test_a_pickled_bank_holds_its_rows_and_little_else():
    bank = bank_of(*(tokens(100, 64, seed=seed) for seed in range(4)), backend="numpy")
    bank.reserve(100, tokens(100, 64))
    bank.nearest_distance(tokens(3, 64))
    data = pickle.dumps(bank)
    assert len(data) < 1.1 * bank.tokens.nbytes
    queries = tokens(5, 64, seed=9)
    np.testing.assert_array_equal(
        pickle.loads(data).nearest_distance(queries), bank.nearest_distance(queries)
    )


def test_a_bank_of_one_image_has_no_others():
    image = tokens(4, 8)
    with pytest.raises(ValueError, match="more images"):
        bank_of(image).nearest_distance(image, leave_out=0)


def test_distance_within_leaves_out_a_patch_and_its_neighbours():
    grid = tokens(3, 4, 8)
    distances = distance_within(grid)
    # From the top left corner, the neighbours are (0, 1), (1, 0) and (1, 1).
    others = [grid[r, c] for r in range(3) for c in range(4) if r > 1 or c > 1]
    np.testing.assert_allclose(distances[0], naive_distance(grid[:1, 0], others)[0], atol=1e-6)
    assert distance_within(grid[:1, :1]).tolist() == [0]


def test_tokens_of_another_length_are_refused():
    bank = bank_of(tokens(4, 6))
    with pytest.raises(ValueError, match="length 8"):
        bank.nearest_distance(tokens(2, 8))
    with pytest.raises(ValueError, match="length 8"):
        bank.add(StoredImage((1, 2), (8, 16)), tokens(2, 8))


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


@pytest.mark.parametrize(("dtype", "length"), [("float32", 4), ("float16", 2)])
def test_a_spool_gives_back_what_was_written_also_from_disk(dtype, length, monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.spool.IN_MEMORY", 500)
    images = [tokens(n, 8, seed=n).astype(dtype).astype("float32") for n in (3, 50, 1)]
    with TokenSpool(dtype) as spool:
        for image in images:
            spool.write(image)
        assert spool._file.tell() == 54 * 8 * length
        for _ in range(2):
            for found, image in zip(spool, images, strict=True):
                np.testing.assert_array_equal(found, image)
                assert found.dtype == np.float32


def test_rows_left_out_can_be_searched_in_the_place_of_others():
    first, second, third = (tokens(6, 8, seed=s) for s in range(3))
    bank = bank_of(first, second)
    for k in (1, 3):
        found = bank.nearest_distance(first, k, leave_out=0, instead=third)
        expected = naive_distance(first, np.concatenate([second, third]), k)
        np.testing.assert_allclose(found, expected, atol=1e-3)
