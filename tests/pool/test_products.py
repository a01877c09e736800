"""Nearest patches between images: large images are compared a part at a time."""

import numpy as np
import pytest

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.pool import products
from pyimgano_openclip.pool.products import Block, nearest_between, product_on


@pytest.mark.parametrize("at_once", [1, 40, 130, 10**6])
def test_similarities_are_held_for_a_part_of_the_patches_only(at_once, monkeypatch):
    generator = np.random.default_rng(0)
    one, other = (
        Block.of([unit(generator.normal(size=(2, count, 5))) for count in counts])
        for counts in ((7, 1, 12), (9, 4))
    )
    one.tokens[0, 3] = other.tokens[0, 10] = 0  # blank patches are like each other
    expected = nearest_between(one, other, product_on(None))
    monkeypatch.setattr(products, "AT_ONCE", at_once)
    sizes = []

    def product(ours, theirs):
        sizes.append(len(ours) * len(theirs))
        return ours @ theirs.T

    found = nearest_between(one, other, product)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    assert expected[0].shape == (2, 20, 2)
    assert expected[1].shape == (2, 13, 3)
    assert expected[0][0, 3, 1] == expected[1][0, 10, 0] == 0
    assert max(sizes) <= max(at_once, 13)
