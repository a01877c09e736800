"""Nearest-neighbour search by cosine similarity, with several backends.

Each search takes unit-length queries and returns the highest similarities and their rows. It works
in blocks and never holds more than a fixed number of similarities at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .checks import check_choice
from .embedding import Floats

if TYPE_CHECKING:
    from torch import Tensor

SearchBackend = Literal["auto", "numpy", "torch", "sklearn", "faiss", "faiss-ivf"]
SEARCH_BACKENDS: tuple[str, ...] = get_args(SearchBackend)

LIBRARIES = {  # module that a backend needs, and what to install with pip
    "torch": ("torch", "torch"),
    "sklearn": ("sklearn", "scikit-learn"),
    "faiss": ("faiss", "'pyimgano-openclip[faiss]'"),
    "faiss-ivf": ("faiss", "'pyimgano-openclip[faiss]'"),
}

BUDGET = 16 * 2**20  # similarities held at once; 64 MiB in float32
# Rows of the bank compared at once; few enough for their similarities to stay in the CPU cache.
ROWS = 4096
DEVICE_ROWS = 65_536  # the same on other devices, where each step costs more than the cache saves
FEW = 16  # neighbours, up to which repeated argmax is the fastest
IVF_LISTS = 4  # times the square root of the number of rows
IVF_ROWS = 39  # minimum number of rows per list for which faiss does not warn
IVF_PROBED = 1 / 8  # share of the lists that is searched

Rows: TypeAlias = npt.NDArray[Any]  # (N, D), float16 or float32
Indices: TypeAlias = npt.NDArray[np.int64]
Found: TypeAlias = tuple[Floats, Indices]  # similarities and rows, both (P, count), best first
Search: TypeAlias = Callable[[Floats, int, range], Found]


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

    The function takes unit-length queries of shape (P, D), the number of rows to find, and a range
    of rows to skip.

    Args:
        backend: ``"numpy"``, ``"torch"``, ``"sklearn"`` or ``"faiss"``, which agree up to rounding,
            or ``"faiss-ivf"``, which searches an eighth of the bank, but all of it for queries that
            find too few rows there and in banks too small to be split.
        rows: Unit-length tokens, shape (N, D), float16 or float32.
        device: Torch device for the backend ``"torch"``.

    Raises:
        ImportError: If the library of the backend is not installed.
    """
    check_backend(backend)
    if backend == "torch":
        return _torch_search(rows, device)
    if backend == "sklearn":
        return _sklearn_search(rows)
    if backend in ("faiss", "faiss-ivf"):
        return _faiss_search(rows, inverted=backend == "faiss-ivf")
    return _numpy_search(rows)


def distance_within(tokens: Floats, n_neighbors: int = 1) -> Floats:
    """Cosine distance of each patch of an image to the nearest patches elsewhere in the image.

    The patch itself and the eight around it are left out, since neighbouring tokens overlap.

    Args:
        tokens: Unit-length tokens, shape (rows, cols, D).
        n_neighbors: Number of patches to average over.

    Returns:
        Distances, shape (rows * cols,), float32; 0 if there are no other patches.
    """
    rows, cols, width = tokens.shape
    flat = tokens.reshape(-1, width)
    place = np.indices((rows, cols)).reshape(2, -1)
    distance = np.zeros(len(flat), dtype=np.float32)
    for patch, position in enumerate(place.T):
        others = np.flatnonzero(np.abs(place - position[:, None]).max(axis=0) > 1)
        if len(others):
            similarity = np.sort(flat[others] @ flat[patch])[-n_neighbors:]
            distance[patch] = np.clip(1 - similarity.mean(), 0, 2)
    return distance


def _numpy_search(rows: Rows) -> Search:
    def compare(queries: Floats, start: int, stop: int) -> Floats:
        similarity: Floats = queries @ rows[start:stop].astype(np.float32, copy=False).T
        return similarity

    return _block_search(compare, len(rows))


def _torch_search(rows: Rows, device: str) -> Search:
    import torch

    bank = torch.from_numpy(rows).to(device)
    if bank.device.type != "cpu":
        return _device_search(bank)

    def compare(queries: Floats, start: int, stop: int) -> Floats:
        with torch.inference_mode():
            # NumPy finds the highest: in torch that takes a tenth of the time of the product.
            similarity: Floats = (torch.from_numpy(queries) @ bank[start:stop].float().T).numpy()
            return similarity

    return _block_search(compare, len(rows))


def _block_search(compare: Callable[[Floats, int, int], Floats], n_rows: int) -> Search:
    """Build a search from a function that compares queries with rows from start to stop."""

    def search(queries: Floats, count: int, hidden: range) -> Found:
        similarity = np.empty((len(queries), 0), dtype=np.float32)
        index = np.empty((len(queries), 0), dtype=np.int64)
        for start, stop in _blocks(n_rows, ROWS):
            found = compare(queries, start, stop)
            found[:, _overlap(hidden, start, stop)] = -np.inf
            best, place = _highest(found, count)
            similarity = np.concatenate([similarity, best], axis=1)
            index = np.concatenate([index, place + start], axis=1)
            if similarity.shape[1] > count:
                similarity, place = _highest(similarity, count)
                index = np.take_along_axis(index, place, axis=1)
        return similarity, index

    return _in_parts(search, min(n_rows, ROWS))


def _highest(similarity: Floats, count: int) -> Found:
    """Find the highest values of each row and their indices, best first; overwrites the values."""
    count = min(count, similarity.shape[1])
    if count > FEW:
        place = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
        order = np.argsort(-np.take_along_axis(similarity, place, axis=1), axis=1, kind="stable")
        place = np.take_along_axis(place, order, axis=1)
        return np.take_along_axis(similarity, place, axis=1), place.astype(np.int64)
    best = np.empty((len(similarity), count), dtype=np.float32)
    place = np.empty((len(similarity), count), dtype=np.int64)
    each = np.arange(len(similarity))
    for rank in range(count):
        place[:, rank] = similarity.argmax(axis=1)
        best[:, rank] = similarity[each, place[:, rank]]
        similarity[each, place[:, rank]] = -np.inf
    return best, place


def _device_search(bank: Tensor) -> Search:
    """Build a search on a device other than the CPU."""
    import torch

    def search(queries: Floats, count: int, hidden: range) -> Found:
        asked = torch.from_numpy(queries).to(bank.device)
        parts = []
        for start, stop in _blocks(len(bank), DEVICE_ROWS):
            found = asked @ bank[start:stop].float().T
            found[:, _overlap(hidden, start, stop)] = -torch.inf
            if count == 1:
                best, place = found.max(dim=1, keepdim=True)
            else:
                best, place = found.topk(min(count, stop - start), dim=1)
            parts.append((best, place + start))
        similarity, index = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
        best, place = similarity.topk(count, dim=1)
        return best.cpu().numpy(), index.gather(1, place).cpu().numpy()

    def without_gradients(queries: Floats, count: int, hidden: range) -> Found:
        with torch.inference_mode():
            return search(queries, count, hidden)

    return _in_parts(without_gradients, min(len(bank), DEVICE_ROWS))


def _sklearn_search(rows: Rows) -> Search:
    from sklearn.neighbors import NearestNeighbors

    def build(stored: Rows) -> Any:
        # For unit vectors, Euclidean distance and cosine give the same order.
        return NearestNeighbors(metric="cosine", algorithm="brute").fit(stored.astype(np.float32))

    whole = build(rows)

    def search(queries: Floats, count: int, hidden: range) -> Found:
        if not hidden:
            distance, index = whole.kneighbors(queries, count)
            return (1 - distance).astype(np.float32), index.astype(np.int64)
        rest = np.concatenate([rows[: hidden.start], rows[hidden.stop :]])
        distance, index = build(rest).kneighbors(queries, count)
        index = np.where(index >= hidden.start, index + len(hidden), index)
        return (1 - distance).astype(np.float32), index.astype(np.int64)

    return _in_parts(search, len(rows))


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

    def look(queries: Floats, count: int, hidden: range, **chosen: Any) -> Found:
        if hidden:
            own = faiss.IDSelectorRange(hidden.start, hidden.stop)
            chosen["sel"] = faiss.IDSelectorNot(own)
        asked = np.ascontiguousarray(queries)
        similarity, found = index.search(asked, count, params=parameters(**chosen))
        return similarity, found

    def look_nearby(queries: Floats, count: int, hidden: range) -> Found:
        probed = max(1, round(lists * IVF_PROBED))
        similarity, found = look(queries, count, hidden, nprobe=probed)
        few = (found < 0).any(axis=1)  # the probed lists have too few rows that are not hidden
        if few.any():
            similarity[few], found[few] = look(queries[few], count, hidden, nprobe=lists)
        return similarity, found

    return look_nearby if inverted else look  # faiss works in blocks of its own


def _in_parts(search: Search, at_once: int) -> Search:
    """Split the queries so that the similarities stay within the budget."""

    def parted(queries: Floats, count: int, hidden: range) -> Found:
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


def _overlap(hidden: range, start: int, stop: int) -> slice:
    """The hidden rows within a block, relative to its start."""
    first = min(max(hidden.start, start), stop)
    last = max(min(hidden.stop, stop), first)
    return slice(first - start, last - start)
