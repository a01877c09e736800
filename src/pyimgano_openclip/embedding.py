"""Patch tokens of an image, and custom embedders.

NumPy only: a detector with a custom embedder needs neither torch nor open_clip.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .items import Item, describe
from .unreadable import UnreadableError, attempt, or_raise

Floats: TypeAlias = npt.NDArray[np.float32]
Size: TypeAlias = tuple[int, int]  # (height, width)
Attention = Literal["auto", "vv", "qq", "kk", "none"]  # of the side path; see towers/base.py
ATTENTIONS: tuple[str, ...] = get_args(Attention)
Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True)
class PatchTokens:
    """The patch tokens of one image.

    Attributes:
        tokens: One token per patch, shape (rows, cols, D), float32.
        size: (height, width) of the original image.
        pooled: Unit-length embedding of the whole image, shape (D,), if the embedder has one.
        features: Further tokens for comparison with reference images, shape (rows, cols, E), if
            requested.
        windows: Unit-length embeddings of square windows by side length in patches, each of shape
            (rows - side + 1, cols - side + 1, D).
    """

    tokens: Floats
    size: Size
    pooled: Floats | None = None
    features: Floats | None = None
    windows: Mapping[int, Floats] = field(default_factory=dict)


class PatchEmbedder(Protocol):
    """Protocol of ``embedder=``; equal to the host's protocol of the same name."""

    def embed(self, image: Any) -> tuple[npt.NDArray[Any], Size, Size]:
        """Return (patches (N, D), (grid rows, grid cols), (image height, image width))."""


class InjectedEmbedder:
    """Runs a custom embedder on one image at a time and checks what it returns.

    Args:
        embedder: Object with ``embed(image) -> (patches, grid, size)``.

    Raises:
        ValueError: If it has no method ``embed``.
    """

    def __init__(self, embedder: PatchEmbedder) -> None:
        if not callable(getattr(embedder, "embed", None)):
            raise ValueError(
                f"embedder is a {type(embedder).__name__} without a method embed(image) -> "
                "(patches (N, D), (grid_h, grid_w), (H, W))."
            )
        self._embedder = embedder

    def choose_canvas(
        self, items: Sequence[Item], *, argument: str = "x", skip_unreadable: bool = False
    ) -> None:
        """Return None: the embedder itself decides how to resize images."""

    def stream(self, items: Iterable[Item], _canvas: None) -> Generator[PatchTokens, None, None]:
        """Yield the tokens of images in order, scaled to unit length.

        Args:
            items: Anything the embedder accepts.

        Raises:
            ValueError: If the embedder fails, or its result is inconsistent or not finite.
        """
        return or_raise(self.outcomes(items, _canvas))

    def outcomes(
        self, items: Iterable[Item], _canvas: None
    ) -> Generator[PatchTokens | UnreadableError, None, None]:
        """Like :meth:`stream`, with errors in place of unreadable images."""
        for item in items:
            yield attempt(self._embed, item)

    def _embed(self, item: Item) -> PatchTokens:
        try:
            patches, grid, size = self._embedder.embed(item)
            return _checked(np.asarray(patches, dtype=np.float32), grid, size)
        except (MemoryError, RuntimeError, ImportError):  # not the image's fault
            raise
        except Exception as error:  # a custom embedder may raise anything
            reason = str(error) or type(error).__name__
            raise UnreadableError(f"{describe(item)}: {reason}") from error


def unit(vectors: npt.ArrayLike) -> Floats:
    """Scale vectors along the last axis to length 1; zero vectors stay zero."""
    array = np.asarray(vectors, dtype=np.float32)
    length = np.linalg.norm(array, axis=-1, keepdims=True)
    scaled: Floats = array / np.maximum(length, np.finfo(np.float32).tiny)
    return scaled


def _checked(patches: Floats, grid: Size, size: Size) -> PatchTokens:
    rows, cols = (int(side) for side in grid)
    height, width = (int(side) for side in size)
    if patches.ndim != 2:
        raise ValueError(f"the embedder returned patches of shape {patches.shape}, not (N, D).")
    if rows < 1 or cols < 1 or len(patches) != rows * cols:
        raise ValueError(
            f"the embedder returned {len(patches)} patches for a grid of {rows} x {cols}."
        )
    if height < 1 or width < 1:
        raise ValueError(
            f"the embedder returned the image size {size}; both sides must be positive."
        )
    if not np.isfinite(patches).all():
        raise ValueError("the embedder returned patches that are not finite.")
    return PatchTokens(tokens=unit(patches).reshape(rows, cols, -1), size=(height, width))
