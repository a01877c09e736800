"""Detectors that learn from normal images only, so that their thresholds promise something."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bank.relatives import told_groups
from ..checks import one_of
from ..files.checkpoint import Checkpoint, CheckpointError
from ..images.items import Item, as_items, describe
from ..maps.scores import ImageScores
from .base import OpenCLIPDetector
from .drift import MEASURES, Drift, Inspected, Usual, drift
from .learnt import Calibration, Lesson
from .promises import Promise, check_confidence, promise, tell_few
from .thresholds import QUANTILE, threshold_from

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(kw_only=True, eq=False, repr=False)
class CalibratedDetector(OpenCLIPDetector):
    """Base class of the detectors that are fitted on normal images; see :mod:`~.promises`."""

    confidence: float | None = None

    def _checked(self, name: str, value: Any) -> Any:
        return check_confidence(value) if name == "confidence" else super()._checked(name, value)

    @abstractmethod
    def _learn(self, items: Sequence[Item], groups: tuple[str, ...] | None) -> Lesson:
        """Learn from normal images; changes nothing."""

    def fit(
        self,
        x: object = None,
        y: object = None,  # noqa: ARG002 - scikit-learn's signature
        *,
        X: object = None,
        groups: object = None,
    ) -> Self:
        """Learn from normal images and set the threshold.

        The threshold is the score that a new normal image exceeds with probability
        ``contamination``: of n training scores the one of rank (n + 1)(1 - ``contamination``),
        interpolated (Weibull, 1939), but at most the highest. With ``confidence`` it is the lowest
        one that at most this share of normal images exceeds, with that confidence; if there are too
        few images for that, the highest, with a warning. :meth:`promise` tells what can be expected
        of it. If anything fails or is interrupted, the detector is left unchanged.

        Patch-kNN keeps the tokens of all images until the end, which takes number of images x
        patches per image x token length (384 for open_clip's towers) x 4 bytes, or 2 with
        ``memory_bank_dtype="float16"``. Beyond 64 MiB they are kept in an unnamed file in the
        temporary directory, which the environment variable ``TMPDIR`` sets.

        Args:
            x: Images in any form that the README names, in a list or one stacked array
                (N, H, W, 3), or the path of a folder of them.
            y: Ignored; all images are assumed to be normal.
            X: Alias for ``x``.
            groups: What tells the parts that images show, such as serial numbers, one for each
                image; as in scikit-learn. Images of one part are never compared with each other,
                and each part counts as much as any other. Groups that share an image count as one,
                with a warning. Without, or if each image has a group of its own, order is looked
                at: where images that follow each other are alike, a warning says so and the
                threshold is set with more care.

        Returns:
            The detector itself.

        Raises:
            ValueError: If there is no image, or one cannot be read, regardless of ``on_error``; the
                message names it.
            OSError: If the disk with the temporary directory is full.
        """
        items = as_items(one_of(x, X))
        return self._teach(items, partial(self._learn, groups=told_groups(groups, len(items))))

    def promise(self) -> Promise:
        """Tell how many new normal images the threshold flags; ``str()`` of it is a sentence.

        It holds for new images that come from where the training images come from, and for a
        ``threshold_`` that the caller has set without looking at the training scores.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        with self._lock:
            known, threshold = self._calibration(), self.label_threshold()
            share, confidence = self.contamination, self.confidence
            chosen = self.threshold_chosen_
        return promise(known, threshold, share, confidence, chosen=chosen)

    @property
    def false_alarm_bound_(self) -> float:
        """The share of new normal images that the threshold flags at most; see :meth:`promise`.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        return self.promise().bound

    def drift(self, results: Iterable[ImageScores]) -> Drift | None:
        """Tell whether normal images have moved away from the training images.

        Scores and looks of what passed, which are brightness, contrast, detail and colour, are
        compared by ranks with those of the training images; see :mod:`~.drift`. On a line, pass the
        last 100 or so.

        Args:
            results: Of :meth:`score_iter`; those above the threshold, of unreadable images, and the
                looks of training images are ignored. Where fewer than 20 have passed, the looks of
                all are compared, and no scores.

        Returns:
            What differs most; ``str()`` of it is a sentence. None if there are fewer than 20 images
            to compare, or fewer than 10 training images that are independent of each other.

        Raises:
            RuntimeError: Before :meth:`fit`.
            ValueError: If they are anything else, such as images.
        """
        with self._lock:
            self._calibration()  # raises
            usual, threshold = self.usual(), self.label_threshold()
        return None if usual is None else drift(usual, _inspected(results), threshold)

    def usual(self) -> Usual | None:
        """What :meth:`drift` compares with; None before :meth:`fit`."""
        with self._lock:
            if not hasattr(self, "decision_scores_"):
                return None
            known, whole = self._calibration(), self._learnt.whole
        every = [one.look for one in whole.portraits] if whole else []
        looks = [look[:MEASURES] for look in every if look is not None]
        parts = len(known.highest())
        return Usual(known.scores, np.reshape(looks, (len(looks), MEASURES)), parts)

    def _thresholds_follow(self) -> None:
        super()._thresholds_follow()
        if hasattr(self, "decision_scores_"):
            self._tell_few(self._calibration())

    def _take_over(self, lesson: Lesson) -> None:
        if lesson.calibration is not None:
            self._tell_few(lesson.calibration)
        super()._take_over(lesson)

    def _tell_few(self, calibration: Calibration) -> None:
        """Warn if the threshold that follows does not promise what is asked for."""
        share, confidence = self.contamination, self.confidence
        threshold, _ = self._threshold(calibration)
        by_rank = self.threshold_method in QUANTILE
        tell_few(calibration, threshold, share, confidence, by_rank=by_rank)

    def _threshold(self, calibration: Calibration) -> tuple[float, Any]:
        return threshold_from(self, calibration, self.confidence)

    def _shares(self) -> dict[str, Any]:
        return {**super()._shares(), "confidence": self.confidence}

    def _restore(self, checkpoint: Checkpoint) -> Self:
        try:  # version 0.1.0 had none
            confidence = check_confidence(checkpoint.header.get("confidence"))
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.path} is damaged: {error}") from error
        with self._lock:
            super()._restore(checkpoint)
            self._put("confidence", confidence)
        return self


def _inspected(results: object) -> list[Inspected]:
    """What drift is told by of each result.

    Raises:
        ValueError: If they are anything else.
    """
    listed = isinstance(results, Iterable) and not isinstance(results, (str, bytes))
    found = list(results if listed else [results])  # type: ignore[call-overload]
    for one in found:
        if not (hasattr(one, "image") and hasattr(one, "look")):
            raise ValueError(
                f"drift() was given {describe(one)}; results were expected, as score_iter() "
                "yields them."
            )
    return [Inspected(one.image, one.look) for one in found]
