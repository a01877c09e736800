"""The images of a bank are compared with it as if they were new."""

import numpy as np
import pytest

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank import leaving_out
from pyimgano_openclip.bank.leaving_out import LeavingOut
from pyimgano_openclip.bank.spool import TokenSpool

from helpers.banks import bank_of, naive_distance, tokens

APART = [np.array([number]) for number in range(6)]


def alike(count):
    """Images whose patches are alike at equal places, as those of one product."""
    product = tokens(40, 16)
    return [unit(product + 0.1 * tokens(40, 16, seed=seed)) for seed in range(1, count + 1)]


def distances(bank, images, near, k=1):
    with TokenSpool(np.float32) as spool:
        for image in images:
            spool.write(image)
        return np.array(list(LeavingOut(bank, near, k).distances(spool, 0)))


@pytest.mark.parametrize("k", [1, 3])
def test_in_a_complete_bank_an_image_meets_the_patches_of_the_others(k):
    images = alike(6)
    found = distances(bank_of(*images), images, APART, k)
    for number, image in enumerate(images):
        others = np.concatenate(images[:number] + images[number + 1 :])
        np.testing.assert_allclose(found[number], naive_distance(image, others, k), atol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("related", [False, True])
def test_how_many_rows_are_looked_at_first_changes_nothing(monkeypatch, k, related):
    images = alike(6)
    near = [np.array([0, 1, 2])] * 3 + [np.array([3, 4, 5])] * 3 if related else APART
    bank = bank_of(*images)
    bank.thin(60)
    assert not bank.is_complete
    found = []
    for more in (1, 3, 59):
        monkeypatch.setattr(leaving_out, "MORE", more)
        found.append(distances(bank, images, near, k))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


def test_in_a_thinned_bank_an_image_is_about_as_far_as_in_a_complete_one():
    """Without what would replace its rows it would be farther: others were dropped for them."""
    images = alike(6)
    complete = distances(bank_of(*images), images, APART).mean()
    bank = bank_of(*images)
    bank.thin(60)
    thinned = distances(bank, images, APART).mean()
    bare = np.mean([bank.nearest_distance(im, leave_out=[n]) for n, im in enumerate(images)])
    assert complete <= thinned < bare
