"""A bank of normal patch tokens that grows within a limit and finds nearest neighbours.

NumPy in, NumPy out. Its peak memory is the bank itself, half of it more or 40,000 rows until it is
thinned, and one image.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices, rounded
from ..checks import check_count, check_length
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.tensor_file import Arrays
from ..memory import out_of_memory_explained
from .blocks import Found
from .copies import restored_sketches, sketch, stored_sketches
from .coreset import BLOCK, k_center, project
from .origins import Origin, Origins, StoredImage, in_order, stored_image
from .search import Search, build_search

RowType = Literal["float32", "float16"]
ROW_TYPES: tuple[str, ...] = get_args(RowType)

MOST_SEEN = 2**53  # tokens; largest count that a float represents exactly
WIDEST = 100.0  # far above any distance between projected unit vectors
# By how much a growing bank may exceed its limit before it is thinned: a share of it, or so many
# rows if that is more. To thin seldom is faster, and keeps nearer to a coreset of all tokens.
SLACK, ROOM = 0.5, 40_000


class MemoryBank:
    """Unit-length patch tokens of normal images, with nearest-neighbour search.

    The rows of an image are contiguous, in the order in which images were added.

    Args:
        backend: Search backend; see :func:`~.search.build_search`.
        device: Torch device for the backend ``"torch"``.
        row_type: ``"float32"``, or ``"float16"`` for half the memory and slightly slower search.
        limit: Maximum number of rows; None for no limit. A full bank keeps a coreset, see
            :meth:`thin`.
        seed: Seed of the coreset.

    Attributes:
        images: The images that rows came from.
        sketches: A sketch of each image's token map; see :mod:`~.copies`. Fewer than images in a
            bank of version 0.1.0.
        origins: Image, view and patch of each row, shape (N, 3), int32.
        seen: Number of tokens ever added.
        covering_radius: Largest distance from any token ever added to its nearest row, Euclidean on
            the projection of :mod:`~.coreset`; 0 while all tokens are kept.
        spread: Covering radius of the last thinning; rows kept then are at least as far apart.
    """

    def __init__(
        self,
        backend: str = "numpy",
        device: str = "cpu",
        *,
        row_type: RowType = "float32",
        limit: int | None = None,
        seed: int = 0,
    ) -> None:
        self.backend = backend
        self.device = device
        self.limit = limit
        self.seed = seed
        self.images: list[StoredImage] = []
        self.sketches: list[Floats] = []
        self._numbers: dict[str, int] = {}
        self.seen = 0
        self._n = 0
        self._tokens: npt.NDArray[Any] = np.empty((0, 0), dtype=row_type)
        self._origins: Origins = np.empty((0, 3), dtype=np.int32)
        self._reach: Floats = np.empty(0, dtype=np.float32)
        self._points: Floats = np.empty((0, 0), dtype=np.float32)
        self.spread = 0.0  # covering radius of the last thinning
        self._search: Search | None = None

    def __len__(self) -> int:
        return self._n

    @property
    def tokens(self) -> npt.NDArray[Any]:
        """The rows, shape (N, D), float32 or float16."""
        return self._tokens[: self._n]

    @property
    def origins(self) -> Origins:
        """Image, view and patch of each row; see the class."""
        return self._origins[: self._n]

    @property
    def covering_radius(self) -> float:
        """Largest distance from any token to its nearest row; see the class."""
        return float(self._reach[: self._n].max(initial=0))

    @property
    def is_complete(self) -> bool:
        """Whether every token that was ever added is still a row."""
        return self._n == self.seen

    def origin(self, row: int) -> Origin:
        """Where a row comes from."""
        image, view, patch = self.origins[row].tolist()
        return Origin(image, view, patch)

    def copy(self) -> MemoryBank:
        """Return a copy that can grow independently."""
        twin = copy.copy(self)  # by way of __getstate__
        twin._move(self._n)
        return twin

    def reserve(self, images: int, tokens: Floats) -> None:
        """Allocate room for so many images with tokens like these, within the limit."""
        rows = self._n + images * len(tokens)
        if self.limit is not None:
            rows = min(rows, max(self._n, self._most()) + len(tokens))
        self._move(rows, tokens.shape[1])

    def add(
        self,
        image: StoredImage,
        tokens: Floats,
        view: int = 0,
        patches: Indices | None = None,
        sketched: Floats | None = None,
    ) -> None:
        """Add the tokens of an image, or of a copy of the last image, turned or moved.

        Args:
            image: Geometry and path of the image.
            tokens: Unit-length tokens, shape (P, D), float32.
            view: 0 for a new image, otherwise the index of the copy of the last one.
            patches: Indices of the patches in the grid, shape (P,); None for 0 to P - 1.
            sketched: The sketch of a new image; None for one of its tokens alone.

        Raises:
            ValueError: If D differs from that of the bank.
        """
        self._check_width(tokens)
        if view == 0:
            if image.identity is not None:
                self._numbers[image.identity] = len(self.images)
            self.images.append(image)
            if sketched is None:
                sketched = sketch(tokens, patches, image.patches)
            self.sketches.append(sketched)
        origins = np.empty((len(tokens), 3), dtype=np.int32)
        origins[:, 0], origins[:, 1] = len(self.images) - 1, view
        origins[:, 2] = np.arange(len(tokens)) if patches is None else patches
        self.seen += len(tokens)
        self._append(tokens, origins)
        if self.limit is not None and self._n > self._most():
            self.thin(self.limit)

    def thin(self, size: int) -> float:
        """Reduce the bank to a coreset by greedy k-center; see :mod:`~.coreset`.

        Args:
            size: Number of rows to keep; a bank that has no more is not changed.

        Returns:
            The :attr:`covering_radius`.
        """
        if size < self._n:
            coreset = k_center(self._projected(), size, self.seed)
            reach = coreset.distance + self._reach[: self._n]
            for start in range(0, size, BLOCK):  # in place: kept rows only move forward
                rows = coreset.kept[start : start + BLOCK]
                for array in (self._tokens, self._origins, self._points):
                    array[start : start + len(rows)] = array[rows]
            self._n, self._search = size, None
            self._reach[:size] = 0
            np.maximum.at(self._reach, coreset.owner, reach)
            self._points = self._points[:size]
            self.spread = coreset.radius
        return self.covering_radius

    def nearest_distance(
        self,
        queries: Floats,
        n_neighbors: int = 1,
        *,
        leave_out: Sequence[int] = (),
    ) -> Floats:
        """Mean cosine distance from each query to its nearest stored tokens.

        Args:
            queries: Unit-length tokens, shape (P, D), float32.
            n_neighbors: Number of stored tokens to average over.
            leave_out: Indices of images whose rows, and those of their copies, are left out.

        Returns:
            Distances in [0, 2], shape (P,), float32; higher is more anomalous.

        Raises:
            ValueError: If D differs from that of the bank, or no rows are left.
        """
        similarity, _ = self.nearest(queries, n_neighbors, leave_out)
        return mean_distance(similarity)

    def nearest_rows(
        self, queries: Floats, n_neighbors: int = 1, *, leave_out: Sequence[int] = ()
    ) -> tuple[Floats, Indices]:
        """Like :meth:`nearest_distance`, with the rows, nearest first, shape (P, n_neighbors)."""
        similarity, rows = self.nearest(queries, n_neighbors, leave_out)
        return mean_distance(similarity), rows

    def nearest(self, queries: Floats, n_neighbors: int, leave_out: Sequence[int] = ()) -> Found:
        """The highest cosines and their rows, best first, both of shape (P, n_neighbors)."""
        self._check_width(queries)
        hidden = [self.rows_of(image) for image in leave_out]
        available = self._n - sum(map(len, hidden))
        if not available:
            raise ValueError(
                "The memory bank has no patches of other images to compare with; "
                "fit with more images, or increase max_patches or coreset_sampling_ratio."
            )
        with out_of_memory_explained(f"a search in {self._n} patches"):
            if self._search is None:
                self._search = build_search(self.backend, self.tokens, self.device)
            asked = np.ascontiguousarray(queries, dtype=np.float32)
            found = self._search(asked, min(n_neighbors, available), hidden)
        blank = np.flatnonzero(~asked.any(axis=1))
        return self._prefer_blank(found, blank, hidden) if len(blank) else found

    def _prefer_blank(self, found: Found, blank: Indices, hidden: Sequence[range]) -> Found:
        """Put zero rows first for zero queries, since any token has distance 0 to itself.

        The cosine of a zero token with any token is 0.
        """
        similarity, rows = found
        zeros = np.flatnonzero(~self.tokens.any(axis=1))
        for own in hidden:
            zeros = zeros[(zeros < own.start) | (zeros >= own.stop)]
        zeros = zeros[: similarity.shape[1]]
        similarity[blank, : len(zeros)] = 1
        rows[blank, : len(zeros)] = zeros
        return similarity, rows

    @property
    def identities(self) -> frozenset[str]:
        """What tells the images from others, as far as known."""
        return frozenset(self._numbers)

    def number_of(self, identity: str | None) -> int | None:
        """Index of the image of this identity; None if there is none."""
        return None if identity is None else self._numbers.get(identity)

    def rows_of(self, image: int) -> range:
        """Rows of an image and its copies."""
        first, last = np.searchsorted(self.origins[:, 0], (image, image + 1))
        return range(int(first), int(last))

    def tokens_of(self, image: int, view: int = 0) -> Floats:
        """Rows of one view of an image, usually of the image itself, shape (P, D), float32."""
        rows = self.rows_of(image)
        own = self.origins[rows.start : rows.stop, 1] == view
        return self.tokens[rows.start : rows.stop][own].astype(np.float32)

    def places_of(self, image: int) -> Indices:
        """Indices in the grid of the patches that :meth:`tokens_of` gives, shape (P,)."""
        rows = self.rows_of(image)
        origins = self.origins[rows.start : rows.stop]
        return origins[origins[:, 1] == 0, 2].astype(np.int64)

    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """The complete state, as arrays and as JSON values."""
        arrays = {"rows": self.tokens, "origins": self.origins, "reach": self._reach[: self._n]}
        if len(self.sketches) == len(self.images):
            arrays["sketches"] = stored_sketches(self.sketches)
        images = [image.as_json() for image in self.images]
        return arrays, {"images": images, "seen": self.seen, "spread": self.spread}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore the bank whose :meth:`state` is in a checkpoint.

        Raises:
            CheckpointError: If the state is invalid.
        """
        rows = checkpoint.unit_vectors("rows", 2, *ROW_TYPES)
        origins = checkpoint.numbers("origins", 2, "int32")
        reach = checkpoint.numbers("reach", 1, "float32")
        facts = checkpoint.header["state"]
        images = [stored_image(values) for values in facts["images"]]
        seen, spread = facts["seen"], float(facts["spread"])
        check_count("seen", seen)
        fitting = origins.shape == (len(rows), 3) and reach.shape == (len(rows),)
        sound = fitting and len(rows) <= seen <= MOST_SEEN and 0 <= spread <= WIDEST
        whole = seen == len(rows)
        partly = checkpoint.header["settings"].get("roi") is not None
        if (
            not sound
            or reach.min() < 0
            or not in_order(origins, images, whole=whole, partly=partly)
        ):
            raise CheckpointError(f"{checkpoint.path} is damaged: its memory bank is inconsistent.")
        self.images, self.seen, self.spread = images, seen, spread
        self._numbers = {
            image.identity: n for n, image in enumerate(images) if image.identity is not None
        }
        self._tokens, self._origins, self._reach = rows, origins, reach
        self._n, self._search = len(rows), None
        self.sketches = _sketches(checkpoint, len(images))
        if not self.sketches and self.is_complete:
            self.sketches = [sketch(self.tokens_of(image)) for image in range(len(images))]

    def _most(self) -> int:
        """Number of rows at which a growing bank is thinned to its limit."""
        limit = self.limit or 0
        return limit + max(int(limit * SLACK), ROOM)

    def _check_width(self, tokens: Floats) -> None:
        if self.seen:
            check_length(tokens.shape[1], self._tokens.shape[1], "the memory bank")

    def _projected(self) -> Floats:
        """The projected rows; projects only those added since the last call."""
        known = len(self._points)
        if known < self._n:
            new = project(self._tokens[known : self._n], self.seed)
            self._points = np.concatenate([self._points, new]) if known else new
        return self._points

    def _append(self, tokens: Floats, origins: Origins) -> None:
        total = self._n + len(tokens)
        if total > len(self._tokens):
            self._move(max(total, self._n + self._n // 2), tokens.shape[1])
        self._tokens[self._n : total] = rounded(tokens, self._tokens.dtype)
        self._origins[self._n : total] = origins
        self._reach[self._n : total] = 0
        self._n, self._search = total, None

    def _move(self, room: int, width: int | None = None) -> None:
        """Copy the rows to arrays with room for so many."""
        shapes = {"_tokens": (room, width or self._tokens.shape[1]), "_origins": (room, 3)}
        for name in ("_tokens", "_origins", "_reach"):
            old = getattr(self, name)
            moved = np.empty(shapes.get(name, (room,)), dtype=old.dtype)
            if self._n:
                moved[: self._n] = old[: self._n]
            setattr(self, name, moved)

    def __getstate__(self) -> dict[str, Any]:
        names = ("_tokens", "_origins", "_reach")
        own = {name: getattr(self, name)[: self._n] for name in names}
        own |= {"images": self.images.copy(), "sketches": self.sketches.copy()}
        own |= {"_numbers": self._numbers.copy(), "_points": self._points[:0], "_search": None}
        return {**self.__dict__, **own}


def _sketches(checkpoint: Checkpoint, count: int) -> list[Floats]:
    """Those in a checkpoint; version 0.1.0 wrote none."""
    if "sketches" not in checkpoint.arrays:
        return []
    return list(restored_sketches(checkpoint.numbers("sketches", 2, "float32"), count))


def mean_distance(similarity: Floats) -> Floats:
    """Convert the highest cosines, shape (P, K), to mean cosine distances, shape (P,)."""
    return np.clip(1 - similarity.mean(axis=1, dtype=np.float32), 0, 2)
