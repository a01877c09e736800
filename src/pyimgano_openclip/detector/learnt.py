"""What a detector has learnt: one immutable value, put in place by one assignment."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Indices, Scores, Size
from ..bank.whole import Whole
from ..files.tensor_file import Arrays
from ..maps.scores import ImageScores


class Calibration(NamedTuple):
    """Scores like those of new normal images, from which the threshold follows.

    Attributes:
        scores: Shape (N,).
        parts: Number of the part that each image shows, from 0, shape (N,); images of one part are
            not independent of each other.
    """

    scores: Scores
    parts: Indices

    @classmethod
    def of(cls, scores: Scores, parts: Indices | None = None) -> Calibration:
        """Scores of images, and what tells the parts that they show; None if all differ."""
        if parts is None:
            return cls(scores, np.arange(len(scores)))
        return cls(scores, np.unique(parts, return_inverse=True)[1])

    def highest(self) -> Scores:
        """The highest score of each part."""
        highest = np.full(self.parts.max() + 1, -np.inf)
        np.maximum.at(highest, self.parts, self.scores)
        return highest


@dataclass(frozen=True)
class Learnt:
    """What all detectors learn; each adds what its scorer needs.

    Attributes:
        canvas: (height, width) in pixels to which images are resized; None until the first image
            has been seen, and with a custom embedder.
        calibration: What the threshold follows from; None before :meth:`fit`.
        whole: The training images as a whole; None before there are any, and from a file of version
            0.1.0.
    """

    canvas: Size | None = None
    calibration: Calibration | None = field(default=None, kw_only=True)
    whole: Whole | None = field(default=None, kw_only=True)

    @cached_property
    def sizes(self) -> frozenset[Size]:
        """(height, width) of the training images; empty if there are none, or they are unknown."""
        return frozenset(self.each_size)

    @property
    def each_size(self) -> tuple[Size, ...]:
        """(height, width) of each image that was learnt, as far as known."""
        return tuple(one.size for one in self.whole.portraits) if self.whole else ()

    @property
    def identities(self) -> frozenset[str]:
        """What tells the images that were learnt from others, as far as known."""
        return frozenset()

    def stored(self) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint keeps of it, as arrays and as JSON values."""
        return {}, {}


def image_scores(scored: Iterable[ImageScores]) -> Scores:
    """The image scores of results, shape (N,).

    Generators are closed, so that an interruption leaves no threads, whoever keeps its traceback.
    """
    with closing(scored) if isinstance(scored, Generator) else nullcontext():
        return np.array([one.image for one in scored], dtype=np.float64)


class Lesson(NamedTuple):
    """The result of learning from images, not yet in place.

    Attributes:
        learnt: What scores depend on.
        scores: Image scores of the training images, none compared with itself, shape (N,).
        calibration: Scores of the training images, or of stand-ins if there is only one; None to
            keep the threshold.
    """

    learnt: Learnt
    scores: Scores
    calibration: Calibration | None

    def keeping_threshold(self) -> Lesson:
        """The same without a new threshold."""
        if self.calibration is None:
            return self
        learnt = replace(self.learnt, calibration=self.calibration)
        return self._replace(learnt=learnt, calibration=None)
