"""A bank of normal patch tokens: add, thin, nearest distance. NumPy in, NumPy out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .embedding import Floats

SearchBackend = Literal["auto", "numpy", "torch", "sklearn", "faiss"]
SEARCH_BACKENDS: tuple[str, ...] = get_args(SearchBackend)

CHUNK = 32 * 2**20  # similarities held at once; 128 MiB in float32
CORESET_DIMENSION = 128  # of the random projection on which the coreset is chosen

Integers = npt.NDArray[np.int64]


class MemoryBank:
    """Unit-length patch tokens of normal images and the search for the nearest of them.

    Args:
        tokens: Unit-length tokens of every image, each of shape (P, D), float32.
        backend: What searches: ``"numpy"``, ``"torch"``, ``"sklearn"`` or ``"faiss"``; all
            exactly.
        device: Device of torch that ``"torch"`` searches on.

    Raises:
        ValueError: If there are no tokens or their lengths differ.
        ImportError: If the library of the backend is missing.
    """

    def __init__(
        self, tokens: Sequence[Floats], backend: str = "numpy", device: str = "cpu"
    ) -> None:
        widths = {image.shape[1] for image in tokens}
        if len(widths) != 1:
            raise ValueError(f"The images' patch tokens have the lengths {sorted(widths)}.")
        self.tokens: Floats = np.concatenate(tokens)
        self.image_of: Integers = np.repeat(np.arange(len(tokens)), [len(t) for t in tokens])
        self.backend = backend
        self.device = device
        self._index: Any = None

    def __len__(self) -> int:
        return len(self.tokens)

    def thin(self, size: int, seed: int) -> float:
        """Keep a coreset that covers the bank: greedy k-center (PatchCore, Roth et al., 2022).

        Every step keeps the token farthest from those already kept, on a random projection to
        128 numbers. Equal seeds keep equal tokens.

        Args:
            size: Number of tokens to keep; the bank is left alone if it has no more.
            seed: Seed of the projection and of the first token.

        Returns:
            The covering radius on the projection: the largest Euclidean distance from a token of
            the old bank to the nearest one kept.
        """
        if size >= len(self):
            return 0.0
        kept, radius = k_center(self.tokens, size, seed)
        self.tokens, self.image_of = self.tokens[kept], self.image_of[kept]
        self._index = None
        return radius

    def nearest_distance(self, queries: Floats, n_neighbors: int = 1) -> Floats:
        """Mean cosine distance from each query to its closest stored tokens.

        Args:
            queries: Unit-length tokens, shape (P, D), float32.
            n_neighbors: How many stored tokens to average over.

        Returns:
            Distances in [0, 2], shape (P,), float32; larger is more anomalous.

        Raises:
            ValueError: If D differs from the bank's.
        """
        if queries.shape[1] != self.tokens.shape[1]:
            raise ValueError(
                f"The tokens have {queries.shape[1]} numbers, the memory bank's have "
                f"{self.tokens.shape[1]}; they come from different embedders."
            )
        count = min(n_neighbors, len(self))
        similarity = self._highest_similarity(np.ascontiguousarray(queries), count)
        return _as_distance(similarity)

    def distance_to_other_images(self, image: int, queries: Floats, n_neighbors: int = 1) -> Floats:
        """Like :meth:`nearest_distance`, but without the tokens that came from one image.

        Args:
            image: Index of the image to leave out.
            queries: Unit-length tokens of that image, shape (P, D).
            n_neighbors: How many stored tokens to average over.

        Raises:
            ValueError: If all tokens of the bank come from that image.
        """
        others = self.image_of != image
        available = int(others.sum())
        if not available:
            raise ValueError("The memory bank holds tokens of this image alone.")
        count = min(n_neighbors, available)
        hidden = np.where(others, np.float32(0), np.float32(-np.inf))
        return _as_distance(_search_numpy(queries, self.tokens, count, hidden))

    def _highest_similarity(self, queries: Floats, count: int) -> Floats:
        """The ``count`` highest cosines per query, shape (P, count), in any order."""
        if self.backend == "sklearn":
            distances, _ = self._sklearn_index().kneighbors(queries, count)
            return np.asarray(1 - distances, dtype=np.float32)
        if self.backend == "faiss":
            similarity, _ = self._faiss_index().search(queries, count)
            return np.asarray(similarity, dtype=np.float32)
        if self.backend == "torch":
            return _search_torch(queries, self._tensor(), count)
        return _search_numpy(queries, self.tokens, count)

    def _tensor(self) -> Any:
        if self._index is None:
            import torch

            self._index = torch.from_numpy(self.tokens).to(self.device)
        return self._index

    def _sklearn_index(self) -> Any:
        if self._index is None:
            from sklearn.neighbors import NearestNeighbors

            self._index = NearestNeighbors(metric="cosine", algorithm="brute").fit(self.tokens)
        return self._index

    def _faiss_index(self) -> Any:
        if self._index is None:
            try:
                import faiss
            except ImportError as error:
                raise ImportError(
                    "knn_backend='faiss' needs faiss: pip install 'pyimgano-openclip[faiss]'"
                ) from error
            index = faiss.IndexFlatIP(self.tokens.shape[1])
            index.add(self.tokens)
            self._index = index
        return self._index

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_index": None}


def k_center(tokens: Floats, size: int, seed: int) -> tuple[Integers, float]:
    """Indices of a greedy k-center selection, ascending, and its covering radius.

    Args:
        tokens: Shape (N, D).
        size: How many to select, at most N.
        seed: Seed of the projection and of the first token.
    """
    generator = np.random.default_rng(seed)
    points = tokens
    if tokens.shape[1] > CORESET_DIMENSION:
        projection = generator.standard_normal((tokens.shape[1], CORESET_DIMENSION))
        points = tokens @ (projection / np.sqrt(CORESET_DIMENSION)).astype(np.float32)
    squared_length = np.einsum("nd,nd->n", points, points)
    chosen = np.empty(size, dtype=np.int64)
    farthest = int(generator.integers(len(points)))
    distance = np.full(len(points), np.inf, dtype=np.float32)
    for step in range(size):
        chosen[step] = farthest
        to_new = squared_length + squared_length[farthest] - 2 * (points @ points[farthest])
        np.minimum(distance, to_new, out=distance)
        distance[farthest] = 0
        farthest = int(distance.argmax())
    return np.sort(chosen), float(np.sqrt(max(0.0, float(distance[farthest]))))


def distance_within(tokens: Floats, n_neighbors: int = 1) -> Floats:
    """Cosine distance of every patch of one image to its closest patches that are not its own.

    The patch and the eight around it are left out, since neighbouring tokens overlap.

    Args:
        tokens: Unit-length tokens, shape (rows, cols, D).
        n_neighbors: How many patches to average over.

    Returns:
        Shape (rows * cols,); 0 where a patch has no others.
    """
    rows, cols, width = tokens.shape
    flat = tokens.reshape(-1, width)
    place = np.stack(np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij"), -1)
    place = place.reshape(-1, 2)
    distance = np.zeros(len(flat), dtype=np.float32)
    for patch, position in enumerate(place):
        others = flat[np.abs(place - position).max(axis=1) > 1]
        if len(others):
            query, count = flat[patch : patch + 1], min(n_neighbors, len(others))
            distance[patch] = _as_distance(_search_numpy(query, others, count))[0]
    return distance


def _search_numpy(
    queries: Floats, tokens: Floats, count: int, penalty: Floats | None = None
) -> Floats:
    step = max(1, CHUNK // len(tokens))
    best = []
    for start in range(0, len(queries), step):
        similarity = queries[start : start + step] @ tokens.T
        if penalty is not None:
            similarity += penalty
        if count == 1:
            best.append(similarity.max(axis=1, keepdims=True))
        else:
            best.append(np.partition(similarity, -count, axis=1)[:, -count:])
    return np.concatenate(best)


def _search_torch(queries: Floats, tokens: Any, count: int) -> Floats:
    import torch

    with torch.inference_mode():
        chunks = torch.from_numpy(queries).to(tokens.device).split(max(1, CHUNK // len(tokens)))
        best = [(chunk @ tokens.T).topk(count, dim=1).values for chunk in chunks]
        found: Floats = torch.cat(best).float().cpu().numpy()
    return found


def _as_distance(similarity: Floats) -> Floats:
    distance: Floats = np.clip(1 - similarity.mean(axis=1, dtype=np.float32), 0, 2)
    return distance
