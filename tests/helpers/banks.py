"""Memory banks of random tokens, and the naive way to search them."""

import numpy as np

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.memory_bank import MemoryBank
from pyimgano_openclip.bank.origins import StoredImage


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
