"""Tells near copies among images: bursts, frames of a video, the same photograph saved again.

A score that leaves out one image but not its near copies is too low. So each image has a sketch of
its token map and of its relief. Two images are near copies if their tokens, place by place, are
much closer than those of most pairs of images, or than those of different places in one image; or
if their reliefs differ by no more than the noise of a camera, whatever their tokens, which on even
surfaces differ as much between frames as between places.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Indices, Scores, Size
from ..encoder.tokens import PatchTokens
from ..images.items import Item, describe
from ..images.notices import callers_level
from ..images.relief import still
from .masked import LENGTH as MASKED
from .masked import NO_MASK, of_one_photograph, of_one_scene, under_mask

LENGTH = 256  # of a sketch; squared distances between sketches are right to about 9 %
# Cosine distance at equal places, as a share of that between different places of one image, and of
# its median over all pairs of images. With the bundled tower on four generated products, solar
# cells and textiles, the same photograph as a JPEG of quality 75 or with noise of 2 grey levels was
# at 0.0001 to 0.06 and 0.0002 to 0.18, moved by a pixel at 0.03 to 0.2 and 0.05 to 0.29; of
# different photographs the closest were at 0.06 and 0.17 (solar cells), the others at 0.2 to 0.7
# and 0.34 to 0.87. To leave out what may be alike by chance costs half of the asked false alarms on
# monocrystalline cells. So likely copies are left out only where images are dependent in other
# ways, or all are copies of one.
SURELY, LIKELY = (0.03, 0.12), (0.06, 0.25)
RELIEF = 128  # numbers of the sketch of a relief
SURFACE = slice(LENGTH + 1, LENGTH + 1 + RELIEF)
# Numbers of a sketch of tokens, with a relief, and with what is told under a mask.
WIDTHS = LENGTH + 1, SURFACE.stop, SURFACE.stop + MASKED
WIDEST = 100.0  # far above any number in a sketch
COMPARED = 500  # images, from whose pairs the median is taken
BLOCK = 512  # images compared at once
AT_ONCE = 256 * LENGTH  # numbers of a token map
NAMED = 3  # maximum number of copies that the warning names


class CopiesWarning(RuntimeWarning):
    """Some images to learn from are copies of others; each is learnt once."""


def sketch_of(patches: PatchTokens) -> Floats:
    """The :func:`sketch` of an image, by the tokens that compare images with images."""
    rows, cols = patches.grid
    return sketch(patches.flat, patches.places, rows * cols, patches.relief, under_mask(patches))


def sketch(
    tokens: Floats,
    places: Indices | None = None,
    patches: int = 0,
    relief: Floats | None = None,
    masked: Floats = NO_MASK,
) -> Floats:
    """A short vector of an image, of which distances tell near copies (Charikar et al., 2002).

    Args:
        tokens: Unit-length tokens in the order of the grid, shape (P, D).
        places: Indices in the grid of the patches that they are of; None for 0 to P - 1.
        patches: Number of patches of the grid, if they are not of all.
        relief: The relief of the image, if it is known; see :func:`~..images.relief.relief_of`.
        masked: What is told of an image with a mask of its own; see :mod:`~.masked`.

    Returns:
        Shape (516,), float32: 256 numbers, of which the squared distance to those of another image
        is about the mean cosine distance of the tokens at equal places; the mean cosine distance of
        the tokens at all pairs of places in the image; 128 numbers, of which the squared distance
        is about the mean square of the difference of reliefs, 0 if that is not known; and 131 of
        :func:`~.masked.under_mask`.
    """
    every = tokens
    if places is not None:
        every = np.zeros((patches, tokens.shape[1]), dtype=np.float32)
        every[places] = tokens
    sums = signed_sums(every.reshape(-1))
    spread = 1 - np.square(tokens.mean(axis=0, dtype=np.float64)).sum()
    surface = np.zeros(RELIEF) if relief is None else signed_sums(relief.ravel(), RELIEF)
    parts = [sums / (2 * len(tokens)) ** 0.5, [spread], surface, masked]
    return np.concatenate(parts).astype(np.float32)


def stored_sketches(sketches: Sequence[Floats] | Floats) -> Floats:
    """The sketches as a file keeps them, without what is known of none."""
    every = np.array(sketches)
    if (every[:, WIDTHS[1] :] != NO_MASK).any():
        return every
    return every[:, : WIDTHS[1]] if every[:, SURFACE].any() else every[:, : WIDTHS[0]]


def restored_sketches(saved: Floats, count: int) -> Floats:
    """The sketches of so many images in a file; earlier versions knew no relief and no mask.

    Raises:
        ValueError: If there is not one for each, or one that no image has.
    """
    width = saved.shape[1]
    if width not in WIDTHS or len(saved) != count:
        raise ValueError(f"there are sketches of shape {saved.shape} of {count} images")
    if np.abs(saved).max(initial=0) > WIDEST:
        raise ValueError("a sketch has a number that no image has")
    unknown = np.concatenate([np.zeros(WIDTHS[1], np.float32), NO_MASK])
    return np.concatenate([saved, np.tile(unknown[width:], (count, 1))], axis=1)


def signed_sums(values: Floats, length: int = LENGTH) -> npt.NDArray[np.float64]:
    """Sums of numbers with random signs, always the same ones, which keep distances.

    Args:
        values: Shape (M,).
        length: Number of sums.
    """
    sums = np.zeros(length, dtype=np.float64)
    for start, signs in zip(range(0, values.size, AT_ONCE), _signs(), strict=False):
        part = values[start : start + AT_ONCE]
        signed = np.zeros(-(-part.size // length) * length, dtype=np.float32)
        np.multiply(part, signs[: part.size], out=signed[: part.size])
        sums += signed.reshape(-1, length).sum(axis=0)
    return sums


def _signs() -> Iterator[Floats]:
    """Random signs, always the same ones, in blocks without end."""
    yield _first_signs()
    draws = np.random.default_rng(0)
    _drawn(draws)  # the first again
    while True:
        yield _drawn(draws)


@lru_cache(maxsize=1)
def _first_signs() -> Floats:
    return _drawn(np.random.default_rng(0))


def _drawn(draws: np.random.Generator) -> Floats:
    return (draws.integers(0, 2, AT_ONCE, dtype=np.int8) * 2 - 1).astype(np.float32)


def near_copies(
    sketches: Floats, grids: Sequence[Size], within: tuple[float, float] = SURELY
) -> list[Indices]:
    """For each image, the images that have to be left out together with it, itself included.

    Args:
        sketches: Shape (N, 516).
        grids: (rows, cols) of each image's patches; only equal ones can be compared.
        within: Shares of distances below which they are copies, ``SURELY`` or ``LIKELY``.
    """
    shapes, found, usual = np.array(grids), list[Indices](), usual_distance(sketches)
    for start in range(0, len(sketches), BLOCK):
        part = slice(start, start + BLOCK)
        close = _close(sketches[part], sketches, within, usual)
        close &= (shapes[part, None] == shapes).all(axis=2)
        for image, row in enumerate(close, start=start):
            row[image] = True
            found.append(np.flatnonzero(row))
    if all_copies(found):
        return found
    # An image that is near all others, which are not near each other, leaves out its photograph.
    own = one_photograph(sketches)
    return [near if len(near) < len(found) else own[n] for n, near in enumerate(found)]


def one_photograph(sketches: Floats) -> list[Indices]:
    """For each image, itself and the same photograph under other masks."""
    masked, found = sketches[:, WIDTHS[1] :], list[Indices]()
    for number in range(len(masked)):
        same = of_one_photograph(masked[[number]], masked)[0]
        same[number] = True
        found.append(np.flatnonzero(same))
    return found


def copies_among(
    sketch: Floats,
    grid: Size,
    sketches: Floats,
    grids: Sequence[Size],
    usual: float,
) -> Indices:
    """Of known images, the near copies, sure ones, of one that is not among them.

    Args:
        sketch: Of that image, shape (516,).
        grid: (rows, cols) of its patches.
        sketches: Of the known images, shape (N, 516).
        grids: (rows, cols) of the patches of each of these.
        usual: The :func:`usual_distance` of the known images.
    """
    close = _close(sketch[None], sketches, SURELY, usual)[0]
    return np.flatnonzero(close & (np.array(grids) == grid).all(axis=1))


def distinct(copies: Sequence[Indices], scores: Scores) -> Indices:
    """Images of which none is a near copy of another; of copies the one with the highest score.

    So neither their number nor their scores depend on the order of images.

    Args:
        copies: For each image, itself and its near copies.
        scores: One of each image.
    """
    left = np.ones(len(copies), dtype=bool)
    kept = np.zeros(len(copies), dtype=bool)
    for image in np.argsort(-scores, kind="stable"):
        kept[image] = left[image]
        if kept[image]:
            left[copies[image]] = False
    return np.flatnonzero(kept)


def all_copies(copies: Sequence[Indices]) -> bool:
    """Whether all images are near copies of each other, so that they show one scene."""
    return all(len(near) == len(copies) for near in copies)


def tell_copies(
    items: Sequence[Item],
    numbers: Sequence[int],
    learnt: Sequence[str | None] = (),
    places: Sequence[int] | None = None,
    argument: str = "x",
) -> None:
    """Warn of images that are copies of others, or of images that were learnt before.

    Args:
        items: The images.
        numbers: An index of each, which copies share.
        learnt: Path, if it is known, of each image that was learnt before; they have the first
            indices.
        places: Index of each item in what the caller was given; None for the order of items.
        argument: Name of the caller's list, for messages.
    """
    first = {number: path or f"training image {number}" for number, path in enumerate(learnt)}
    copies = []
    places = range(len(items)) if places is None else places
    for place, item, number in zip(places, items, numbers, strict=True):
        name = f"{argument}[{place}] ({describe(item)})"
        if number in first:
            copies.append(f"{name} is a copy of {first[number]}")
        first.setdefault(number, name)
    if not copies:
        return
    more = f"; and {len(copies) - NAMED} more" if len(copies) > NAMED else ""
    are = "is a copy of another and is" if len(copies) == 1 else "are copies of others and are"
    warnings.warn(
        f"{len(copies)} of {len(items)} images to learn from {are} learnt once: "
        f"{'; '.join(copies[:NAMED])}{more}",
        CopiesWarning,
        stacklevel=callers_level(),
    )


def _close(
    some: Floats, others: Floats, within: tuple[float, float], usual: float
) -> npt.NDArray[np.bool_]:
    """Whether images are so close to others that they are copies if their grids are equal."""
    inside = np.minimum(some[:, None, LENGTH], others[:, LENGTH])
    apart = distances(some[:, :LENGTH], others[:, :LENGTH])
    close: npt.NDArray[np.bool_] = apart < np.maximum(within[0] * inside, within[1] * usual)
    a, b = (sketches[:, SURFACE].astype(np.float64) for sketches in (some, others))
    squares = np.square(a).sum(axis=1)[:, None], np.square(b).sum(axis=1)
    close |= still(a @ b.T, squares)
    own, masked = some[:, WIDTHS[1] :], others[:, WIDTHS[1] :]
    if (masked[:, -1] == 0).all():  # none has a mask of its own
        return close
    return close | of_one_scene(own, masked) | of_one_photograph(own, masked)


def usual_distance(sketches: Floats) -> float:
    """The median distance of pairs of images, by their sketches; 0 for fewer than three images."""
    places = sketches[:, :LENGTH]
    few = places[:: -(-len(places) // COMPARED)]
    pairs = distances(few, few)[np.triu_indices(len(few), 1)]
    return float(np.median(pairs)) if len(pairs) > 1 else 0.0


def distances(some: Floats, others: Floats) -> npt.NDArray[np.float64]:
    """Squared distances, shape (len(some), len(others))."""
    # Images of even colour differ by a small part of their length, which float32 would lose.
    a, b = some.astype(np.float64), others.astype(np.float64)
    lengths = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("nd,nd->n", b, b)
    return lengths - 2 * (a @ b.T)
