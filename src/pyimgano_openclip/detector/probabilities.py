"""Where a score lies among the training scores: percentiles, probabilities, confidence."""

from __future__ import annotations

import math
from abc import abstractmethod
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..arrays import Scores
from .thresholds import by_patches


class Probabilities:
    """The methods of a detector that compare scores with those of its training images.

    Attributes:
        decision_scores_: The training scores, shape (N,), after ``fit``.
    """

    decision_scores_: Scores
    _lock: AbstractContextManager[Any]
    # Training scores from which on an image is refused as a whole.
    _refused_from: ClassVar[float] = math.inf

    @abstractmethod
    def decision_function(self, x: object = None, *, X: object = None) -> Scores:
        """Compute image scores; see the detector."""

    @abstractmethod
    def label_threshold(self) -> float:
        """The image score above which an image is anomalous."""

    def score_percentile(self, scores: npt.ArrayLike) -> Scores:
        """Compute the share of training scores below each score, comparable across detectors.

        As in :meth:`predict_proba`, those of images that are refused as a whole do not count.

        Args:
            scores: Image scores from :meth:`decision_function`, shape (N,).

        Returns:
            Shares in [0, 1], shape (N,), float64; higher is more anomalous; NaN for NaN.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        known, asked = np.sort(self._counted_scores()), np.asarray(scores, dtype=np.float64)
        return np.where(np.isnan(asked), np.nan, np.searchsorted(known, asked) / len(known))

    def predict_proba(
        self,
        x: object = None,
        method: Literal["linear", "unify"] = "linear",
        return_confidence: bool = False,
        *,
        X: object = None,
    ) -> Any:
        """Compute the host's probabilities that images are normal and anomalous.

        They tell where a score lies among the training scores, of which those of images that are
        refused as a whole do not count; none is calibrated.

        Args:
            x: Paths or arrays, as for :meth:`decision_function`.
            method: ``"linear"`` between the lowest and the highest training score, or ``"unify"``
                by their mean and standard deviation.
            return_confidence: Whether to return the confidence of each label in [0, 1] as well.
            X: Alias for ``x``.

        Returns:
            Shape (N, 2), float64, NaN for unreadable images with ``on_error="nan"``; with
            ``return_confidence`` a tuple (probabilities, confidence).

        Raises:
            RuntimeError: Before :meth:`fit`.
            ValueError: As for :meth:`decision_function`, or if there is no such method.
        """
        formulas, scores = self._formulas(), self.decision_function(x, X=X)
        chances = formulas.predict_proba(scores, method)
        if not return_confidence:
            return chances
        return chances, self._label_confidence_from_scores(scores)

    def _formulas(self) -> Any:
        """The host's formulas, apart, which take scores in place of images.

        The scores of training images that are refused as a whole have no influence on them.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        # Importing the host imports our detectors, which import this module.
        from pyimgano.models.base_detector import BaseDetector

        apart = BaseDetector()
        with self._lock:
            apart.decision_scores_ = self._counted_scores()
            apart.threshold_ = self.label_threshold()
        apart.decision_function = np.asarray
        return apart

    def _label_confidence_from_scores(self, scores: Any, *, labels: Any = None) -> Scores:
        """The host's confidence in a label, and 0 for unreadable images."""
        sure = self._formulas()._label_confidence_from_scores(scores, labels=labels)
        return np.where(np.isnan(np.asarray(scores, dtype=np.float64).ravel()), 0.0, sure)

    def _counted_scores(self) -> Scores:
        """Those of training images that are not refused as a whole; of all if there are no others.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        return by_patches(self._known_scores(), self._refused_from)

    def _known_scores(self) -> Scores:
        """The training scores, shape (N,).

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        if not hasattr(self, "decision_scores_"):
            raise RuntimeError("There are no training scores yet; call fit() first.")
        return self.decision_scores_
