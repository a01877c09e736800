"""Finds shots of one part among images in any order, by sketches of their tokens.

Independent images have a dimension: the number of images within a distance of one grows as a power
of it, near and far alike (Levina and Bickel, 2004). Several shots of each part break this: an image
has a few others far nearer than its surroundings let expect. Which ones, single linkage tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices
from .copies import BLOCK, LENGTH, distances

FEWEST = 20  # images
# Dimension further out as a multiple of that among the nearest, and share of images in groups. With
# the bundled tower and 75 images or more: six shots of magnetic tiles 2.4 to 4.1 and 0.75 to 1; images
# of different parts of 25 sets 0.6 to 3.1 and 0 to 0.93, both at once in none with 100 or more.
KINK, GROUPED = 2.0, 0.5
NEAREST = 10  # images among which the first dimension is measured
MEASURED = 500  # images at which it is
LINKED = 20  # nearest images of each that linkage looks at
# A group is one if the next image is farther than its links by this factor of squared distances,
# and it has no more than a third of all images.
ISOLATED, MOST = 1.3, 3
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
    if far < KINK * near:
        return None
    parts = _groups(places)
    in_groups = np.bincount(parts)[parts] > 1
    return parts if in_groups.mean() >= GROUPED else None


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
    count = len(places)
    members, widest = {n: [n] for n in range(count)}, dict.fromkeys(range(count), 0.0)
    root, parts = np.arange(count), np.arange(count)

    def close(group: int, gap: float) -> None:
        within = members[group]
        if 1 < len(within) <= count // MOST and gap > ISOLATED * widest[group]:
            parts[within] = within[0]

    for gap, one, other in _links(places):
        large, small = sorted((root[one], root[other]), key=lambda n: -len(members[n]))
        close(large, gap)
        close(small, gap)
        root[members[small]] = large
        members[large] += members.pop(small)
        widest[large] = gap
    for group in members:  # what nothing links to the others
        close(group, math.inf)
    return np.unique(parts, return_inverse=True)[1]


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
