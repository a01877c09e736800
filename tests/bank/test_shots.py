"""Shots of one part among images in any order."""

import numpy as np
import pytest

from pyimgano_openclip.bank.shots import shots_of_parts

DIMENSIONS = (1, 2, 3, 6, 12, 60)


def sketches(places):
    wide = np.zeros((len(places), 257), dtype=np.float32)
    wide[:, : places.shape[1]] = places
    return wide


def shuffled_shots(dimension, each, parts=20, noise=0.1, seed=0):
    draw = np.random.default_rng(seed)
    part = draw.permutation(np.repeat(np.arange(parts), each))
    places = draw.normal(size=(parts, dimension))[part] / dimension**0.5
    return part, places + noise * draw.normal(size=places.shape) / dimension**0.5


@pytest.mark.parametrize("count", [20, 50, 150, 700])
@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_independent_images_are_of_different_parts(dimension, count):
    places = np.random.default_rng(dimension).normal(size=(count, dimension))
    assert shots_of_parts(sketches(places)) is None


@pytest.mark.parametrize("each", [2, 3, 5, 9])
@pytest.mark.parametrize("dimension", DIMENSIONS[4:])
def test_shots_are_found_in_any_order(dimension, each):
    part, places = shuffled_shots(dimension, each)
    found = shots_of_parts(sketches(places))
    together = found[:, None] == found
    same = part[:, None] == part
    assert (together & same).sum() / same.sum() > 0.9
    assert (together & same).sum() / together.sum() > 0.6


def test_parts_may_have_different_numbers_of_shots():
    draw = np.random.default_rng(1)
    part = draw.permutation(np.repeat(np.arange(40), draw.integers(1, 7, 40)))
    places = draw.normal(size=(40, 12))[part] + 0.1 * draw.normal(size=(len(part), 12))
    found = shots_of_parts(sketches(places))
    assert (found[:, None] == found).tolist() == (part[:, None] == part).tolist()


def test_few_copies_among_many_images_are_no_shots():
    places = np.random.default_rng(2).normal(size=(60, 12))
    places[:8] = places[8:16]
    assert shots_of_parts(sketches(places)) is None


def test_too_few_images_and_equal_ones_tell_nothing():
    assert shots_of_parts(sketches(np.random.default_rng(3).normal(size=(19, 3)))) is None
    assert shots_of_parts(sketches(np.zeros((40, 3)))) is None
