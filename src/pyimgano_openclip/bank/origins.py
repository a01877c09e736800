"""Records where the tokens of a memory bank come from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arrays import Size
from ..checks import check_count

if TYPE_CHECKING:
    from ..encoder.tokens import PatchTokens
    from ..images.items import Item

LARGEST_SIDE = 2**31 - 1  # pixels; limit of OpenCV and Pillow
Origins = npt.NDArray[np.int32]  # image, view and patch of each row, (N, 3)


class StoredImage(NamedTuple):
    """Geometry and path of a training image, to show what a patch was compared with.

    Attributes:
        grid: (rows, cols) of its patches.
        size: (height, width) of the image in pixels.
        path: Path of the file; None if it was an array.
        identity: What tells the image from others; None if that is unknown, as in files of version
            0.1.0.
    """

    grid: Size
    size: Size
    path: str | None = None
    identity: str | None = None

    @classmethod
    def of(cls, item: Item, patches: PatchTokens) -> StoredImage:
        """That of an item by its tokens."""
        path = os.fspath(item) if isinstance(item, (str, os.PathLike)) else None
        return cls(patches.grid, patches.size, path, patches.identity)

    @property
    def patches(self) -> int:
        """Number of its patches."""
        return self.grid[0] * self.grid[1]

    def as_json(self) -> tuple[Any, ...]:
        """What :func:`stored_image` takes."""
        return (*self.grid, *self.size, self.path, self.identity)


class Origin(NamedTuple):
    """Where a stored token comes from.

    Attributes:
        image: Index of the image in the order of fitting, from 0.
        view: Index of the turned or moved copy; 0 for the image itself.
        patch: Index of the patch in its grid, row by row from the top left.
    """

    image: int
    view: int
    patch: int


def stored_image(values: Any) -> StoredImage:
    """Restore a stored image from JSON values: rows, columns, height, width, path, identity.

    Raises:
        ValueError: If they are invalid.
    """
    sides, (path, identity) = values[:4], [*values[4:], None][:2]
    for side in sides:
        check_count("a side of a stored image", side)
    rows, cols, height, width = sides
    texts = all(text is None or isinstance(text, str) for text in (path, identity))
    if max(sides) > LARGEST_SIDE or len(values) > 6 or not texts:
        raise ValueError("a stored image has an impossible size, path or identity")
    return StoredImage((rows, cols), (height, width), path, identity)


def as_identities(saved: Any) -> frozenset[str]:
    """Restore identities of images from JSON values; none if they were not saved.

    Raises:
        ValueError: If they are no list of texts.
    """
    if saved is None:
        return frozenset()
    if not isinstance(saved, list) or not all(isinstance(text, str) for text in saved):
        raise ValueError("the identities of images are no list of texts")
    return frozenset(saved)


def in_order(
    origins: Origins, images: Sequence[StoredImage], *, whole: bool, partly: bool = False
) -> bool:
    """Whether rows are ordered by image and refer to patches that exist.

    Args:
        origins: Origins of the rows.
        images: The images that they came from.
        whole: Whether all patches of the original images have to be present.
        partly: Whether only some of them were looked at, so that there may be gaps between them.
    """
    image, view, patch = origins.T
    if image.min() < 0 or image.max() >= len(images) or (np.diff(image) < 0).any():
        return False
    patches = np.array([stored.patches for stored in images])
    if view.min() < 0 or patch.min() < 0 or (patch >= patches[image]).any():
        return False
    own = view == 0
    if whole and partly:
        steps = np.diff(image[own].astype(np.int64) * patches.max() + patch[own])
        return bool((steps > 0).all()) and len(np.unique(image[own])) == len(images)
    return not whole or (
        np.array_equal(np.bincount(image[own], minlength=len(images)), patches)
        and bool((patch[own] == _counted(patches)).all())
    )


def _counted(patches: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Concatenate 0 to n - 1 for each n."""
    return np.concatenate([np.arange(n) for n in patches])
