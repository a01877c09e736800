"""Finds shots of one part among images in any order, by sketches of their tokens.

Independent images have a dimension: the number of images within a distance of one grows as a power
of it, near and far alike (Levina and Bickel, 2004). Several shots of each part break this: an image
has a few others far nearer than its surroundings let expect. Which ones, single linkage tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices
from .copies import BLOCK, LENGTH, distances

FEWEST = 20  # images
# Dimension further out as a multiple of that among the nearest, and share of images in groups: one
# of these pairs has to be reached. With the bundled tower: six shots of magnetic tiles 2.4 to 4.1
# and 0.75 to 1, five of solar cells 1.8 and 0.99; 75 images or more of different parts of 24 sets
# 0.6 to 3.1 and 0 to 0.97, but both at once in 1 of 20 draws of monocrystalline cells only.
KINKS = ((2.0, 0.6), (1.7, 0.95))
NEAREST = 10  # images among which the first dimension is measured
MEASURED = 500  # images at which it is
LINKED = 20  # nearest images of each that linkage looks at
# A group is one if the next image is farther than its links by this factor of squared distances; it
# is not so much wider than the most isolated ones, and has no more than a third of all images.
ISOLATED, WIDER, MOST = 1.2, 3.0, 3
TINY = 1e-12  # squared distance


def shots_of_parts(sketches: Floats) -> Indices | None:
    """The part that each image shows; None if all seem to show another one.

    Args:
        sketches: Shape (N, 516); see :func:`~.copies.sketch`.

    Returns:
        Numbers from 0, shape (N,).
    """
    if len(sketches) < FEWEST:
        return None
    places = sketches[:, :LENGTH]
    near, far = _dimensions(places)
    kink = far / near
    if kink < min(least for least, _ in KINKS):
        return None
    parts = _groups(places)
    grouped = (np.bincount(parts)[parts] > 1).mean()
    return parts if any(kink >= least and grouped >= share for least, share in KINKS) else None


def _dimensions(places: Floats) -> tuple[float, float]:
    """The dimension among the nearest images and that further out, from squared distances."""
    count = len(places)
    some = np.linspace(0, count - 1, min(count, MEASURED)).astype(int)
    ranked = np.sort(_apart(places, some), axis=1)[:, : count - 1]
    ranks = range(1, min(NEAREST + 1, count - 1))
    near = min(_dimension(ranked, 1, rank + 1) for rank in ranks)
    return near, _dimension(ranked, count // 10, count // 3)


def _dimension(ranked: npt.NDArray[np.float64], inner: int, outer: int) -> float:
    """The power by which the number of images grows between two ranks, from 1."""
    growth = float(np.median(ranked[:, outer - 1] / ranked[:, inner - 1]))
    return 2 * math.log(outer / inner) / math.log(growth) if growth > 1 else math.inf


def _groups(places: Floats) -> Indices:
    """Groups of images by single linkage, each as large as it can be; see ``ISOLATED``."""
    groups = [found for found in _clusters(places) if found.isolation > ISOLATED]
    most, width = np.zeros(len(places)), np.zeros(len(places))
    for members, widest, isolation in groups:
        more = [image for image in members if isolation >= most[image]]
        most[more], width[more] = isolation, widest
    usual = np.median(width[width > 0]) if groups else 0.0
    parts = np.arange(len(places))
    for members, widest, _ in groups:
        if widest <= WIDER * usual:
            parts[members] = members[0]
    return np.unique(parts, return_inverse=True)[1]


class _Cluster(NamedTuple):
    """Images that links join, none longer than ``widest``; out of it leads a longer one.

    ``isolation`` is its length as a multiple of ``widest``, both squared.
    """

    members: list[int]
    widest: float
    isolation: float


def _clusters(places: Floats) -> Iterator[_Cluster]:
    """All clusters of single linkage with at most a third of the images, smaller ones first."""
    count = len(places)
    members, widest = {n: [n] for n in range(count)}, dict.fromkeys(range(count), 0.0)
    root = np.arange(count)
    for gap, one, other in _links(places):
        large, small = sorted((root[one], root[other]), key=lambda n: -len(members[n]))
        for group in (large, small):
            if 1 < len(members[group]) <= count // MOST:
                yield _Cluster(list(members[group]), widest[group], gap / widest[group])
        root[members[small]] = large
        members[large] += members.pop(small)
        widest[large] = gap
    for group, within in members.items():  # what nothing links to the others
        if 1 < len(within) <= count // MOST:
            yield _Cluster(within, widest[group], math.inf)


def _links(places: Floats) -> Iterator[tuple[float, int, int]]:
    """The links of the shortest tree through all images, shortest first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    count = len(places)
    nearest, lengths = [], []
    for start in range(0, count, BLOCK):
        apart = _apart(places, np.arange(start, min(start + BLOCK, count)))
        few = np.argpartition(apart, min(LINKED, count - 2), axis=1)[:, :LINKED]
        nearest.append(few)
        lengths.append(np.take_along_axis(apart, few, axis=1))
    others, length = np.concatenate(nearest), np.concatenate(lengths)
    own = np.repeat(np.arange(count), others.shape[1])
    graph = coo_array((length.ravel(), (own, others.ravel())), shape=(count, count))
    tree = minimum_spanning_tree(graph.tocsr()).tocoo()
    for link in np.argsort(tree.data, kind="stable").tolist():
        yield float(tree.data[link]), int(tree.row[link]), int(tree.col[link])


def _apart(places: Floats, some: Indices) -> npt.NDArray[np.float64]:
    """Squared distances of some images to all, of each to itself infinite."""
    found = np.maximum(distances(places[some], places), TINY)
    found[np.arange(len(some)), some] = np.inf
    return found
