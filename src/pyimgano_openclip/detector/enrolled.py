"""What a patch-kNN detector has learnt, and how a checkpoint keeps it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Floats, Indices, Scores, Size
from ..bank.enrolment import near_images
from ..bank.memory_bank import MOST_SEEN, MemoryBank
from ..bank.relatives import INDEPENDENT, Relatives
from ..checks import as_list, check_count
from ..files.checkpoint import Checkpoint, CheckpointError
from ..files.tensor_file import Arrays
from ..maps.scores import ImageScores, from_file, to_file
from .learnt import Learnt, image_scores
from .saving import OVERVIEW, TRAINING_SCORES

STANDING = "standing"  # how much each image in the bank stands out
TRAINING_PATCHES = "training_patches"  # scores of the patches of all images in the bank


@dataclass(frozen=True)
class Enrolled(Learnt):
    """What a patch-kNN detector has learnt.

    Attributes:
        bank: The patch tokens of the training images; None before there are any.
        near: For each image in the bank, those that it is not compared with: itself, its near
            copies and its relatives.
        overview: Their tokens seen at once, where ``bank`` has them seen through windows; None
            otherwise.
        unit: What scores by the overview are multiplied by; see :mod:`~.maps.overview`.
        relatives: Which images in the bank are related.
        numbers: Index in the bank of each training image, in the order of learning; copies share
            one.
        scores: Scores of each image in the bank, none compared with itself or its near copies;
            fewer than images in a detector of version 0.1.0.
        standing: How much each image in the bank stands out among the others; empty if unknown.
    """

    bank: MemoryBank | None = None
    near: tuple[Indices, ...] = ()
    numbers: tuple[int, ...] = ()
    scores: tuple[ImageScores, ...] = ()
    standing: Scores = field(default_factory=lambda: np.empty(0))
    relatives: Relatives = INDEPENDENT
    overview: MemoryBank | None = None
    unit: float = 1.0

    @property
    def identities(self) -> frozenset[str]:
        """Those of the images in the bank."""
        return frozenset() if self.bank is None else self.bank.identities

    @property
    def banks(self) -> list[MemoryBank]:
        """One for each scale."""
        return [bank for bank in (self.bank, self.overview) if bank is not None]

    @property
    def filled(self) -> MemoryBank:
        """The bank.

        Raises:
            RuntimeError: Before there is one.
        """
        if self.bank is None:
            raise RuntimeError("The memory bank is empty; call fit() with normal images first.")
        return self.bank

    def region_share(self, contamination: float) -> float:
        """What the threshold of regions is as a multiple of that of images.

        As many normal images have a map with a higher peak as have a higher score.
        """
        if not self.scores:  # of version 0.1.0
            return 1.0
        scores, peaks = np.quantile(self._highest, 1 - contamination, axis=1, method="weibull")
        return float(peaks / scores) if scores > 0 else 1.0

    @cached_property
    def _highest(self) -> tuple[Scores, Scores]:
        """Scores of the images in the bank, and the peaks of their maps."""
        peaks = [scored.peak for scored in self.scores]
        return image_scores(self.scores), np.array(peaks, dtype=np.float64)

    def left_out_with(self, image: str | None) -> list[int]:
        """Images in the bank that an image is not compared with, by its identity."""
        number = self.filled.number_of(image)
        return [] if number is None else self.near[number].tolist()

    def stored(self) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint keeps: the bank, and the scores of its images."""
        arrays, facts = self.filled.state()
        if not self.scores:
            return arrays, facts
        patches = to_file(np.concatenate([scored.details.ravel() for scored in self.scores]))
        facts = {**facts, "numbers": self.numbers, "relatives": asdict(self.relatives)}
        arrays = {**arrays, TRAINING_PATCHES: patches}
        if self.overview is not None:
            state, facts[OVERVIEW] = self.overview.state()
            at_once = [scored.by_scale[1].ravel() for scored in self.scores]
            more = {**state, TRAINING_PATCHES: to_file(np.concatenate(at_once))}
            arrays = {**arrays, **{OVERVIEW + name: array for name, array in more.items()}}
        if len(self.standing):
            arrays = {**arrays, STANDING: self.standing}
        return arrays, facts


def restored(
    checkpoint: Checkpoint,
    canvas: Size | None,
    banks: Sequence[MemoryBank],
    views: int,
    scored: Callable[
        [Sequence[tuple[Floats, ...]], MemoryBank], tuple[tuple[ImageScores, ...], float]
    ],
    *,
    one_length: bool,
) -> Enrolled:
    """What :meth:`Enrolled.stored` wrote.

    Args:
        checkpoint: The file.
        canvas: (height, width) in pixels to which images are resized.
        banks: Empty banks, one for each scale at which images on the canvas are seen.
        views: Number of views that a bank has of each image.
        scored: Gives the scores of the images in a bank by the distances of their patches, and the
            unit of the overview.
        one_length: Whether tokens of all scales have the same length.

    Raises:
        CheckpointError: If it is inconsistent.
        ValueError: If a fact is out of range.
    """
    bank, *others = banks
    bank.restore(checkpoint)
    if bank.origins[:, 1].max() >= views:
        raise CheckpointError(f"{checkpoint.path} is damaged: it has views of another kind.")
    state, images = checkpoint.header["state"], len(bank.images)
    if TRAINING_PATCHES not in checkpoint.arrays:  # of version 0.1.0
        return Enrolled(canvas, bank, tuple(near_images(bank)), tuple(range(images)))
    numbers = as_list("numbers", state["numbers"], MOST_SEEN)
    for number in numbers:
        check_count("numbers", number, least=0, most=images - 1)
    if len(numbers) != len(training_scores(checkpoint)):
        raise CheckpointError(f"{checkpoint.path} is damaged: not one score per image.")
    scales = [_training_patches(checkpoint, bank)]
    for other in others:
        apart = checkpoint.under(OVERVIEW)
        other.restore(apart)
        scales.append(_training_patches(apart, other))
        same = [image.size for image in other.images] == [image.size for image in bank.images]
        if one_length:
            same = same and other.tokens.shape[1] == bank.tokens.shape[1]
        if not same:
            raise CheckpointError(f"{checkpoint.path} is damaged: its scales do not match.")
    scores, unit = scored(list(zip(*scales, strict=True)), bank)
    relatives = Relatives.restored(state.get("relatives"), images)
    near = tuple(relatives.left_out(near_images(bank, relatives), bank.sketches))
    standing, overview = _standing_in(checkpoint, images), others[0] if others else None
    return Enrolled(canvas, bank, near, numbers, scores, standing, relatives, overview, unit)


def training_scores(checkpoint: Checkpoint) -> Scores:
    """The training scores in a checkpoint, one per image."""
    scores: Scores = checkpoint.numbers(TRAINING_SCORES, 1, "float64")  # with every bank
    if TRAINING_PATCHES in checkpoint.arrays:
        return scores
    alone = len(checkpoint.header["state"]["images"]) == 1
    return scores.max(keepdims=True) if alone else scores  # version 0.1.0 kept all its views


def _training_patches(checkpoint: Checkpoint, bank: MemoryBank) -> list[Floats]:
    """The scores of the patches of each image in a bank."""
    patches = from_file(checkpoint.numbers(TRAINING_PATCHES, 1, "float32"))
    ends = np.cumsum([image.patches for image in bank.images])
    if ends[-1] != len(patches):
        raise CheckpointError(f"{checkpoint.path} is damaged: not one score per image.")
    each = zip(np.split(patches, ends[:-1]), bank.images, strict=True)
    return [part.reshape(image.grid) for part, image in each]


def _standing_in(checkpoint: Checkpoint, images: int) -> Scores:
    """How much each image stands out; unknown in files of version 0.1.0."""
    if STANDING not in checkpoint.arrays:
        return np.empty(0)
    scores: Scores = checkpoint.numbers(STANDING, 1, "float64")
    if len(scores) != images or scores.min() < 0:
        raise CheckpointError(f"{checkpoint.path} is damaged: not one score per image.")
    return scores
