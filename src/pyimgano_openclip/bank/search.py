"""Nearest-neighbour search by cosine similarity, with several backends.

Each search takes unit-length queries and returns the highest similarities and their rows. It works
in blocks and never holds more than a fixed number of similarities at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ..arrays import Floats, Indices
from ..checks import check_choice
from .blocks import (
    Exact,
    Finder,
    Found,
    Hidden,
    Rows,
    Wanted,
    best_of,
    nothing,
    overlap,
    product,
    shared,
    torch_product,
)

SearchBackend = Literal["auto", "numpy", "torch", "sklearn", "faiss", "faiss-ivf"]
SEARCH_BACKENDS: tuple[str, ...] = get_args(SearchBackend)

LIBRARIES = {  # module that a backend needs, and what to install with pip
    "torch": ("torch", "torch"),
    "faiss": ("faiss", "'pyimgano-openclip[faiss]'"),
    "faiss-ivf": ("faiss", "'pyimgano-openclip[faiss]'"),
}

BUDGET = 16 * 2**20  # similarities held at once; 64 MiB in float32
# Rows of the bank compared at once; few enough for their similarities to stay in the CPU cache.
ROWS = 4096
DEVICE_ROWS = 65_536  # the same on other devices, where each step costs more than the cache saves
ROUNDED_ROWS = 16_384  # the same in bfloat16, where most similarities are not looked at
IVF_LISTS = 4  # times the square root of the number of rows
IVF_ROWS = 39  # minimum number of rows per list for which faiss does not warn
IVF_PROBED = 1 / 8  # share of the lists that is searched

Search: TypeAlias = Callable[[Floats, int, Hidden], Found]


def check_backend(backend: str) -> None:
    """Check that a backend exists and that its library is installed; imports nothing.

    Raises:
        ValueError: If the backend is unknown.
        ImportError: If its library is not installed.
    """
    check_choice("knn_backend", backend, SEARCH_BACKENDS)
    if backend in LIBRARIES:
        module, package = LIBRARIES[backend]
        if find_spec(module) is None:
            raise ImportError(f"knn_backend={backend!r} needs {module}: pip install {package}")


def build_search(backend: str, rows: Rows, device: str) -> Search:
    """Build a function that searches the rows of a bank.

    The function takes unit-length queries of shape (P, D), the number of rows to find, and ranges
    of rows to skip.

    Args:
        backend: ``"numpy"``, also named ``"sklearn"``, ``"torch"`` or ``"faiss"``, which agree up
            to rounding, or ``"faiss-ivf"``, which searches an eighth of the bank, but all of it for
            queries that find too few rows there and in banks too small to be split.
        rows: Unit-length tokens, shape (N, D), float16 or float32.
        device: Torch device for the backend ``"torch"``.

    Raises:
        ImportError: If the library of the backend is not installed.
    """
    check_backend(backend)
    if backend in ("faiss", "faiss-ivf"):
        return _faiss_search(rows, inverted=backend == "faiss-ivf")
    if backend == "torch" and device != "cpu":
        return _device_search(rows, device)
    return _on_the_cpu(rows) if backend == "torch" else _block_search(rows, Exact(rows, product))


def distance_within(
    tokens: Floats, places: Indices, grid: tuple[int, int], n_neighbors: int = 1
) -> Floats:
    """Cosine distance of each patch of an image to the nearest patches elsewhere in the image.

    The patch itself and the eight around it are left out, since neighbouring tokens overlap.

    Args:
        tokens: Unit-length tokens, shape (P, D).
        places: Indices in the grid of the patches that they are of, shape (P,).
        grid: (rows, cols) of all patches.
        n_neighbors: Number of patches to average over.

    Returns:
        Distances, shape (P,), float32; 0 if there are no other patches.
    """
    place = np.stack(np.unravel_index(places, grid))
    distance = np.zeros(len(tokens), dtype=np.float32)
    for patch, position in enumerate(place.T):
        others = np.flatnonzero(np.abs(place - position[:, None]).max(axis=0) > 1)
        if len(others):
            similarity = np.sort(tokens[others] @ tokens[patch])[-n_neighbors:]
            distance[patch] = np.clip(1 - similarity.mean(), 0, 2)
    return distance


def _block_search(rows: Rows, find: Finder, at_once: int | None = None) -> Search:
    """Build a search on the CPU, of so many rows at once; None for ``ROWS``."""
    at_once = at_once or ROWS

    def search(queries: Floats, count: int, hidden: Hidden) -> Found:
        found = nothing(len(queries))
        for start, stop in _blocks(len(rows), at_once):
            least = found[0][:, -1] if found[0].shape[1] == count else None
            here = find(Wanted(queries, count, hidden, least), start, stop)
            found = best_of(found, here, count)
        return found

    return _in_parts(search, min(len(rows), at_once))


def _on_the_cpu(rows: Rows) -> Search:
    """Build a search by torch: rounded first, where that is fast."""
    import torch

    from ..encoder.hardware import computes_bfloat16
    from .rounded import RoundedFirst

    exact = Exact(rows, torch_product)
    if not computes_bfloat16(torch.device("cpu")):
        return _block_search(rows, exact)
    return _block_search(rows, RoundedFirst(rows, exact), ROUNDED_ROWS)


def _device_search(rows: Rows, device: str) -> Search:
    """Build a search on a device other than the CPU."""
    import torch

    from ..encoder.neutral import neutral

    bank = shared(rows).to(device)

    def search(queries: Floats, count: int, hidden: Hidden) -> Found:
        asked = shared(queries).to(bank.device)
        parts = []
        for start, stop in _blocks(len(bank), DEVICE_ROWS):
            found = asked @ bank[start:stop].float().T
            for own in hidden:
                found[:, overlap(own, start, stop)] = -torch.inf
            if count == 1:
                best, place = found.max(dim=1, keepdim=True)
            else:
                best, place = found.topk(min(count, stop - start), dim=1)
            parts.append((best, place + start))
        similarity, index = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        best, place = similarity.topk(count, dim=1)
        return best.cpu().numpy(), index.gather(1, place).cpu().numpy()

    def without_gradients(queries: Floats, count: int, hidden: Hidden) -> Found:
        with neutral(device), torch.inference_mode():
            return search(queries, count, hidden)

    return _in_parts(without_gradients, min(len(bank), DEVICE_ROWS))


def _faiss_search(rows: Rows, *, inverted: bool) -> Search:
    import faiss

    stored = np.ascontiguousarray(rows, dtype=np.float32)
    index: Any = faiss.IndexFlatIP(stored.shape[1])
    lists = min(round(IVF_LISTS * len(rows) ** 0.5), len(rows) // IVF_ROWS)
    inverted = inverted and lists > 1
    if inverted:
        index = faiss.IndexIVFFlat(index, stored.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.train(stored)
    index.add(stored)
    parameters: Any = faiss.SearchParametersIVF if inverted else faiss.SearchParameters

    def look(queries: Floats, count: int, hidden: Hidden, **chosen: Any) -> Found:
        if hidden:
            own = np.concatenate([np.arange(rows.start, rows.stop) for rows in hidden])
            chosen["sel"] = faiss.IDSelectorNot(faiss.IDSelectorBatch(own))
        asked = np.ascontiguousarray(queries)
        similarity, found = index.search(asked, count, params=parameters(**chosen))
        return similarity, found

    def look_nearby(queries: Floats, count: int, hidden: Hidden) -> Found:
        probed = max(1, round(lists * IVF_PROBED))
        similarity, found = look(queries, count, hidden, nprobe=probed)
        few = (found < 0).any(axis=1)  # the probed lists have too few rows that are not hidden
        if few.any():
            similarity[few], found[few] = look(queries[few], count, hidden, nprobe=lists)
        return similarity, found

    return look_nearby if inverted else look  # faiss works in blocks of its own


def _in_parts(search: Search, at_once: int) -> Search:
    """Split the queries so that the similarities stay within the budget."""

    def parted(queries: Floats, count: int, hidden: Hidden) -> Found:
        step = max(1, BUDGET // at_once)
        found = [
            search(queries[start : start + step], count, hidden)
            for start in range(0, len(queries), step)
        ]
        similarity, index = (np.concatenate(part) for part in zip(*found, strict=True))
        return similarity, index

    return parted


def _blocks(n_rows: int, at_once: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n_rows, at_once):
        yield start, min(start + at_once, n_rows)
