"""Patch tokens of an image, and custom embedders.

NumPy only: a detector with a custom embedder needs neither torch nor open_clip.
"""

from __future__ import annotations

import reprlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices, Size, unit
from ..files.digest import digest_of_file
from ..images.areas import Area, Inside, patches_inside
from ..images.identity import Recall, Recalled, nothing_known, of_item
from ..images.items import Item, describe
from ..images.look import Look, look_of
from ..images.once import DecodedOnce
from ..images.relief import relief_of
from ..images.roi import MaskFolder, Roi, area_of, identity_within, within
from ..images.unreadable import UnreadableError, attempt
from ..images.within import Within

Attention = Literal["auto", "vv", "qq", "kk", "none"]  # of the side path; see towers/base.py
ATTENTIONS: tuple[str, ...] = get_args(Attention)
Positions = Literal["bicubic", "bilinear"]  # interpolation of position embeddings
Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[str, ...] = get_args(Precision)

T = TypeVar("T")


@dataclass(frozen=True)
class PatchTokens:
    """The patch tokens of one image.

    Attributes:
        tokens: One token per patch, shape (rows, cols, D), float32.
        size: (height, width) of the original image.
        identity: What tells the image from others; see :mod:`~..images.identity`.
        pooled: Unit-length embedding of the whole image, shape (D,), if the embedder has one.
        features: Further tokens for comparison with reference images, shape (rows, cols, E), if
            requested.
        windows: Unit-length embeddings of square windows by side length in patches, each of shape
            (rows - side + 1, cols - side + 1, D).
        pages: Number of pages or frames of the image's file, of which this is the first.
        range_used: Highest value as a share of the range of its type or file, in [0, 1]; None
            unless it is deeper than 8 bits.
        small: The image at the size at which its look is told, shape (H, W, 3); None with a custom
            embedder.
        area: Where in the image to look; None for everywhere.
        inside: The patches that are looked at, shape (rows, cols); None for all.
        photograph: What the identity is without a mask, if each image has one of its own; None
            otherwise.
        overview: The same image seen at once, where ``tokens`` are seen through windows alone; None
            otherwise.
    """

    tokens: Floats
    size: Size
    identity: str | None
    pooled: Floats | None = None
    features: Floats | None = None
    windows: Mapping[int, Floats] = field(default_factory=dict)
    pages: int = 1
    range_used: float | None = None
    small: npt.NDArray[np.uint8] | None = None
    area: Area | None = None
    inside: Inside | None = None
    photograph: str | None = None
    overview: PatchTokens | None = None

    @property
    def scales(self) -> tuple[PatchTokens, ...]:
        """The image through windows and at once, or the latter alone."""
        return (self,) if self.overview is None else (self, self.overview)

    @cached_property
    def look(self) -> Look | None:
        """What the image looks like where it is looked at; None with a custom embedder."""
        return None if self.small is None else look_of(self.small, self.inside_small)

    @property
    def relief(self) -> Floats | None:
        """The relief of the image where it is looked at.

        None with a custom embedder, and of an image seen through windows: at the size of the
        relief its details are no longer there.
        """
        if self.small is None or self.overview is not None:
            return None
        return relief_of(self.small, self.inside_small)

    @property
    def inside_small(self) -> Inside | None:
        """The pixels of the small image that are looked at; None for all."""
        if self.area is None or self.small is None:
            return None
        rows, cols, _ = self.small.shape
        return patches_inside(self.area, (rows, cols), self.size)

    @property
    def grid(self) -> Size:
        """(rows, cols) of the patches."""
        rows, cols, _ = self.tokens.shape
        return rows, cols

    @property
    def features_or_tokens(self) -> Floats:
        """The tokens for comparing images with images; a custom embedder returns only one kind."""
        return self.tokens if self.features is None else self.features

    @property
    def places(self) -> Indices:
        """Indices of the P patches that are looked at, row by row."""
        rows, cols = self.grid
        return np.arange(rows * cols) if self.inside is None else np.flatnonzero(self.inside)

    @property
    def flat(self) -> Floats:
        """The tokens for comparing images with images, of patches looked at, shape (P, D)."""
        tokens = self.features_or_tokens
        every = tokens.reshape(-1, tokens.shape[-1])
        return every if self.inside is None else every[self.places]

    def on_grid(self, scores: Floats) -> Floats:
        """Scores of the patches that are looked at, on the grid; see :func:`on_grid`."""
        return on_grid(scores, self.places, self.grid)

    def only_inside(self, scores: Floats) -> Floats:
        """Scores of all patches, shape (rows, cols), NaN for those that are not looked at."""
        return scores if self.inside is None else np.where(self.inside, scores, np.float32(np.nan))

    def within(self, item: Item, roi: Roi | None) -> PatchTokens:
        """The same tokens, of which only those within a region of interest are looked at.

        Args:
            item: The image, whose name a mask may have.
            roi: Where to look; None for everywhere.

        Raises:
            UnreadableError: If the image has no mask, or one that does not fit it.
        """
        area = area_of(roi, item)
        if area is None or self.area is not None:  # the scores of an exported file have theirs
            return self
        try:
            inside, *others = (patches_inside(area, one.grid, one.size) for one in self.scales)
        except ValueError as error:
            raise UnreadableError(f"{describe(item)}: {error}") from error
        overview = self.overview
        if overview is not None and not others[0].all():
            overview = replace(overview, inside=others[0])
        image = self.identity
        if image is not None:
            image = identity_within(image, roi, area)
        looked = replace(
            self, area=area, inside=None if inside.all() else inside, overview=overview
        )
        masked = isinstance(roi, MaskFolder)
        return replace(looked, identity=image, photograph=self.identity if masked else None)


def on_grid(scores: Floats, places: Indices, grid: Size) -> Floats:
    """Put scores of some patches on the grid.

    Args:
        scores: Shape (P,).
        places: Indices of these patches, shape (P,).
        grid: (rows, cols) of all patches.

    Returns:
        Shape (rows, cols), float32; NaN for all others.
    """
    found = np.full(grid[0] * grid[1], np.nan, dtype=np.float32)
    found[places] = scores
    return found.reshape(grid)


def outcomes_within(
    embedder: Any, roi: Roi | None, items: Iterable[Item], canvas: Size | None, **how: Any
) -> Generator[Any, None, None]:
    """The outcomes of an embedder, to which only a region of interest of each image is shown.

    A custom embedder sees whole images.

    Args:
        embedder: A detector's.
        roi: Where to look; None for everywhere.
        items: The images.
        canvas: (height, width) in pixels to which they are resized.
        how: Further arguments of the embedder's ``outcomes``.

    Yields:
        What the embedder yields, with an error in place of an image that has no mask, or one that
        does not fit it.
    """
    taken: deque[Item] = deque()

    def remembered() -> Iterator[Item]:
        for item in items:
            taken.append(item)
            yield within(item, roi)

    with closing(embedder.outcomes(remembered(), canvas, **how)) as outcomes:
        for outcome in outcomes:
            item = taken.popleft()
            if isinstance(outcome, PatchTokens):
                yield attempt(partial(outcome.within, roi=roi), item)
            else:
                yield outcome


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

    batch = 1  # images at once

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

    def outcomes(
        self,
        items: Iterable[Item],
        canvas: None,  # noqa: ARG002 - the signature of OpenCLIPPatchEmbedder
        *,
        with_features: bool = False,  # noqa: ARG002
        recall: Recall[T] = nothing_known,
        lazily: bool = True,  # noqa: ARG002
    ) -> Generator[PatchTokens | UnreadableError | Recalled[T], None, None]:
        """Yield the tokens of images in order, scaled to unit length.

        Args:
            items: Anything the embedder accepts.
            canvas: None: the embedder itself decides how to resize images.
            with_features: Ignored: it returns one kind of tokens.
            recall: What is known of an image by its identity, yielded in place of its tokens; None
                to encode it.
            lazily: Ignored: items are taken one at a time.

        Yields:
            Tokens, or an error where the embedder fails or its result is inconsistent, not finite
            or zero throughout.
        """
        for given in items:
            item = given.item if isinstance(given, Within) else given
            if isinstance(item, DecodedOnce):
                item.digest = digest_of_file(Path(item.path))
                item = item.path
            image = of_item(item)
            known = recall(image)
            yield (
                attempt(partial(self._embed, image=image), item)
                if known is None
                else Recalled(known)
            )

    def _embed(self, item: Item, image: str | None) -> PatchTokens:
        try:
            return _checked(self._embedder.embed(item), image)
        except (MemoryError, RuntimeError, ImportError):  # not the image's fault
            raise
        except Exception as error:  # a custom embedder may raise anything
            reason = str(error) or type(error).__name__
            raise UnreadableError(f"{describe(item)}: {reason}") from error


def _checked(found: Any, image: str | None) -> PatchTokens:
    """What an embedder returned for an image."""
    try:
        tokens, (rows, cols), (height, width) = found
        patches = np.asarray(tokens, dtype=np.float32)
        rows, cols, height, width = map(int, (rows, cols, height, width))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"embed() returned {reprlib.repr(found)}; expected (patches (N, D), (rows, cols), "
            "(height, width))."
        ) from error
    if patches.ndim != 2:
        raise ValueError(f"the embedder returned patches of shape {patches.shape}, not (N, D).")
    if rows < 1 or cols < 1 or len(patches) != rows * cols:
        raise ValueError(
            f"the embedder returned {len(patches)} patches for a grid of {rows} x {cols}."
        )
    if height < 1 or width < 1:
        raise ValueError(
            f"the embedder returned the image size {(height, width)}; both sides must be positive."
        )
    if not np.isfinite(patches).all():
        raise ValueError("the embedder returned patches that are not finite.")
    if not patches.any():  # which would be like each other and unlike all else
        raise ValueError("the embedder returned patches that are all 0, which have no direction.")
    return PatchTokens(unit(patches).reshape(rows, cols, -1), (height, width), image)
