"""How much the images of a training folder stand out, against the formula."""

from contextlib import contextmanager

import numpy as np
import pytest

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.moved import MovedCopies
from pyimgano_openclip.bank.spool import TokenSpool
from pyimgano_openclip.maps.scores import HOTTEST
from pyimgano_openclip.pool.products import product_on
from pyimgano_openclip.pool.standing import standing


@contextmanager
def kept(images, copies):
    """Images, each (P, D), and for each a list of copies, as ``standing`` takes them."""
    with TokenSpool() as spool, TokenSpool() as other:
        moved = MovedCopies(other)
        for number, (tokens, beside) in enumerate(zip(images, copies, strict=True)):
            spool.write(tokens)
            for copy in beside:
                moved.add(number, copy, len(tokens))
        yield spool, moved


def scored(images, copies, near=None):
    grids = [(1, len(tokens)) for tokens in images]
    near = [np.array([n]) for n in range(len(images))] if near is None else near
    with kept(images, copies) as (spool, moved):
        return standing(spool, moved, near, grids, product_on(None))


def by_formula(images, copies, near):
    found = []
    for number, tokens in enumerate(images):
        views = []
        for view in [tokens, *copies[number]]:
            patches = []
            for patch in view:
                distances = []
                for other in set(range(len(images))) - set(near[number].tolist()):
                    shown = np.concatenate([images[other], *copies[other]])
                    distances.append(min(np.sqrt(2 * max(1 - row @ patch, 1e-4)) for row in shown))
                nearest = sorted(distances)[: max(1, len(distances) // 5)]
                patches.append(np.mean(nearest))
            views.append(np.mean(sorted(patches)[-HOTTEST:]))
        found.append(np.mean(views))
    return found


def random_tokens(*shape, seed):
    return unit(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def test_the_score_of_an_image_is_that_of_all_views_against_the_views_of_the_others():
    images = [random_tokens(9, 6, seed=seed) for seed in range(12)]
    copies = [[random_tokens(7, 6, seed=100 + n)] * (n % 3) for n in range(12)]
    near = [np.array([0, 1]), np.array([0, 1]), *(np.array([n]) for n in range(2, 12))]
    expected = by_formula(images, copies, near)
    np.testing.assert_allclose(scored(images, copies, near), expected, rtol=1e-4)


def test_an_image_that_only_lies_otherwise_stands_out_only_without_moved_copies():
    usual, moved = random_tokens(2, 4, 8, seed=0)
    images = [*[usual] * 7, moved]
    assert scored(images, [[]] * 8)[7] > 10 * scored(images, [[]] * 8)[0]
    copies = [*[[moved]] * 7, [usual]]
    assert scored(images, copies)[7] == pytest.approx(scored(images, copies)[0])


def test_copies_are_kept_while_an_image_has_fewer_patches_than_the_limit(monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.bank.moved.PATCHES", 20)
    copies = [random_tokens(size, 3, seed=size) for size in (6, 5, 0, 4)]
    with kept([random_tokens(8, 3, seed=0)], [copies]) as (_, moved):
        assert moved.sizes(0) == [6, 5]
        for found, expected in zip(moved.of(0), copies, strict=False):
            np.testing.assert_array_equal(found, expected)
