"""Text vectors on disk."""

import numpy as np
import pytest

from pyimgano_openclip.encoder.text_cache import cache_directory, load_vector, save_vector

VECTOR = np.array([0.6, 0.8], dtype=np.float32)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PYIMGANO_OPENCLIP_CACHE", str(tmp_path))
    return tmp_path / "text"


def test_a_vector_comes_back_for_the_same_model_and_sentences():
    save_vector("model", ["a", "b"], VECTOR)
    np.testing.assert_array_equal(load_vector("model", ["a", "b"]), VECTOR)
    for model, sentences in (("other", ["a", "b"]), ("model", ["b", "a"]), ("model", ["ab"])):
        assert load_vector(model, sentences) is None


def test_a_damaged_file_counts_as_missing(cache):
    save_vector("model", ["a"], VECTOR)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    for damage in (b"", whole[:-3], b"\x93NUMPY garbage", whole[:-8] + b"\xff" * 8):
        file.write_bytes(damage)
        assert load_vector("model", ["a"]) is None


def test_no_temporary_file_stays_behind(cache):
    save_vector("model", ["a"], VECTOR)
    assert [file.suffix for file in cache.iterdir()] == [".npy"]


def test_a_place_that_cannot_be_written_to_costs_nothing(monkeypatch, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("PYIMGANO_OPENCLIP_CACHE", str(blocked))
    save_vector("model", ["a"], VECTOR)
    assert load_vector("model", ["a"]) is None


def test_the_cache_can_be_turned_off(monkeypatch):
    monkeypatch.setenv("PYIMGANO_OPENCLIP_CACHE", "0")
    save_vector("model", ["a"], VECTOR)
    assert cache_directory() is None
    assert load_vector("model", ["a"]) is None
