"""Memory bank: nearest distance, leaving images out, growing within a limit, coreset."""

import pickle
import tracemalloc

import numpy as np
import pytest

from pyimgano_openclip.bank import coreset, memory_bank
from pyimgano_openclip.bank.coreset import k_center, project
from pyimgano_openclip.bank.memory_bank import MemoryBank
from pyimgano_openclip.bank.origins import StoredImage

from helpers.banks import bank_of, naive_distance, tokens


@pytest.fixture
def thinned_often(monkeypatch):
    """Banks that exceed their limit by half at most, however small they are."""
    monkeypatch.setattr(memory_bank, "ROOM", 0)


def test_order_and_repetition_of_the_bank_change_nothing():
    stored, queries = tokens(30, 8), tokens(5, 8, seed=1)
    expected = bank_of(stored).nearest_distance(queries)
    twice = bank_of(stored[::-1], stored)
    np.testing.assert_allclose(twice.nearest_distance(queries), expected, atol=1e-6)


def test_a_stored_token_has_distance_zero():
    stored = tokens(20, 8)
    np.testing.assert_allclose(bank_of(stored).nearest_distance(stored), 0, atol=1e-6)


def test_turned_copies_are_left_out_with_their_image():
    first, turned, second = (tokens(6, 8, seed=s) for s in range(3))
    bank, image = MemoryBank(), StoredImage((2, 3), (20, 30))
    bank.add(image, first)
    bank.add(image, turned[2:5], view=1, patches=np.array([2, 3, 4]))
    bank.add(image, second)
    assert len(bank.images) == 2
    found = bank.nearest_distance(first, leave_out=[0])
    np.testing.assert_allclose(found, naive_distance(first, second), atol=1e-6)
    assert bank.origin(7) == (0, 1, 3)
    assert bank.origin(9) == (1, 0, 0)
    np.testing.assert_array_equal(bank.tokens_of(0), first)


def test_a_limited_bank_stays_within_its_limit_and_leaves_images_out(thinned_often):
    images = [tokens(40, 8, seed=seed) for seed in range(10)]
    bank = MemoryBank(limit=100)
    for image in images:
        bank.add(StoredImage((1, 40), (8, 320)), image)
        assert len(bank) <= 150
    bank.thin(100)
    assert (len(bank), bank.seen, bank.is_complete) == (100, 400, False)
    assert bank.origins[:, 0].tolist() == sorted(bank.origins[:, 0].tolist())
    others = bank.tokens[bank.origins[:, 0] != 3]
    assert 0 < len(others) < 100
    found = bank.nearest_distance(images[3], leave_out=[3])
    np.testing.assert_allclose(found, naive_distance(images[3], others), atol=1e-6)
    for row in range(100):
        image, turn, patch = bank.origin(row)
        np.testing.assert_array_equal(bank.tokens[row], images[image][patch])
        assert turn == 0


def test_the_covering_radius_holds_for_every_token_ever_added(monkeypatch):
    monkeypatch.setattr(memory_bank, "ROOM", 4 * 60)  # as many times the limit as by default
    images = [tokens(40, 8, seed=seed) for seed in range(20)]
    bank = bank_of(*images, limit=60)
    bank.thin(60)
    everything = np.concatenate(images)
    away = project(everything, 0)[:, None] - project(bank.tokens, 0)
    distance = np.linalg.norm(away, axis=2).min(axis=1)
    assert distance.max() <= bank.covering_radius + 1e-5
    assert 0 < bank.covering_radius < 3 * k_center(everything, 60, seed=0).radius


def test_the_covering_radius_never_grows_with_the_limit(thinned_often):
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


@pytest.mark.slow
def test_a_limited_bank_takes_as_much_again_at_most(thinned_often):
    images = [tokens(500, 512, seed=seed) for seed in range(30)]
    bank = MemoryBank(limit=4000)
    tracemalloc.start()
    bank.reserve(30, images[0])
    for image in images:
        bank.add(StoredImage((1, 500), (8, 4000)), image)
    bank.thin(4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The bank, half of it as slack, the projection (a quarter of both), what is being compared.
    work = 2 * 4 * coreset.BLOCK * coreset.CANDIDATES  # and a copy of it, where all come nearer
    assert peak < 2.2 * bank.tokens.nbytes + work


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
    sketches = sum(sketch.nbytes for sketch in bank.sketches)
    assert len(data) < 1.1 * bank.tokens.nbytes + sketches
    queries = tokens(5, 64, seed=9)
    np.testing.assert_array_equal(
        pickle.loads(data).nearest_distance(queries), bank.nearest_distance(queries)
    )


def test_a_bank_of_one_image_has_no_others():
    image = tokens(4, 8)
    with pytest.raises(ValueError, match="more images"):
        bank_of(image).nearest_distance(image, leave_out=[0])


def test_tokens_of_another_length_are_refused():
    bank = bank_of(tokens(4, 6))
    with pytest.raises(ValueError, match="length 8"):
        bank.nearest_distance(tokens(2, 8))
    with pytest.raises(ValueError, match="length 8"):
        bank.add(StoredImage((1, 2), (8, 16)), tokens(2, 8))
