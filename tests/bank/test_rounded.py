"""What is found by rounded products is what is found by exact ones."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pyimgano_openclip.arrays import unit  # noqa: E402
from pyimgano_openclip.bank import rounded  # noqa: E402
from pyimgano_openclip.bank.blocks import Exact, torch_product  # noqa: E402
from pyimgano_openclip.bank.rounded import RoundedFirst  # noqa: E402
from pyimgano_openclip.bank.search import _block_search  # noqa: E402

from helpers.banks import tokens  # noqa: E402

pytestmark = pytest.mark.slow
MEAN = tokens(32, seed=9)
BANKS = {
    "random": tokens(3000, 32),
    "close together": unit(MEAN + 0.02 * tokens(3000, 32)),
    "with equal rows": np.repeat(tokens(300, 32), 10, axis=0),
    "all equal": np.repeat(tokens(1, 32), 3000, axis=0),
    "with blank rows": np.concatenate([np.zeros((50, 32), np.float32), tokens(2950, 32)]),
    "smaller than a group": tokens(40, 32),
}


@pytest.fixture
def in_blocks(monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.bank.search.ROWS", 1024)
    monkeypatch.setattr(rounded, "STEP", 1000)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("count", [1, 2, 5, 16, 17])
@pytest.mark.parametrize("kind", BANKS)
def test_the_same_rows_are_nearest(kind, count, dtype, in_blocks):
    rows = BANKS[kind].astype(dtype)
    near = unit(rows[:20].astype(np.float32) + 0.05 * tokens(20, 32, seed=3))
    queries = np.concatenate([near, tokens(20, 32, seed=4), np.zeros((1, 32), np.float32)])
    hidden = [range(3, 9), range(20, 25)]
    exact = Exact(rows, torch_product)
    expected = _block_search(rows, exact)(queries, count, hidden)
    found = _block_search(rows, RoundedFirst(rows, exact))(queries, count, hidden)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    computed = np.einsum("pd,pkd->pk", queries, rows.astype(np.float32)[found[1]])
    np.testing.assert_allclose(found[0], computed, atol=1e-6)
    for own in hidden:
        assert not ((own.start <= found[1]) & (found[1] < own.stop)).any()


def test_few_rows_are_left_to_compute(monkeypatch):
    """Otherwise nothing would be gained."""
    rows, computed = tokens(4096, 384), []
    queries = unit(rows[:225] + 0.02 * tokens(225, 384, seed=1))
    search = RoundedFirst(rows, Exact(rows, torch_product))
    count = RoundedFirst._computed
    monkeypatch.setattr(
        RoundedFirst, "_computed", lambda *args: computed.append(len(args[2])) or count(*args)
    )
    _block_search(rows, search)(queries, 1, [])
    assert 225 <= computed[0] < 2 * 225
