"""Where a score lies among the training scores: percentiles, probabilities, confidence.

And by which method of the host the threshold follows from them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ..arrays import Scores
from ..checks import check_count, check_number, is_whole, one_of
from ..images.items import Item, as_items
from .learnt import image_scores
from .scoring import Scoring, score_all
from .thresholds import by_patches

if TYPE_CHECKING:
    from typing_extensions import Self

Labels = npt.NDArray[np.int64]
LABELS = 2**63  # of int64 that are negative, and that are not


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
    def predict(
        self, x: object = None, return_confidence: bool = False, *, X: object = None
    ) -> Any:
        """Label images; see the detector."""

    @abstractmethod
    def _freeze(self, items: Sequence[Item]) -> Scoring:
        """How the images of one call are scored; see the detector."""

    @abstractmethod
    def label_threshold(self) -> float:
        """The image score above which an image is anomalous."""

    def use_quantile_thresholding(self) -> Self:
        """Let the threshold follow from ``contamination`` by the ranks of training scores.

        Detectors do so unless told otherwise. It takes effect with the next :meth:`fit`, or when
        ``contamination`` or ``confidence`` is assigned.

        Returns:
            The detector itself.
        """
        self.threshold_method = "quantile"
        return self

    def use_pot_thresholding(
        self, *, tail_fraction: float = 0.1, min_exceedances: int = 20
    ) -> Self:
        """Let the threshold follow from ``contamination`` by the host's peaks over threshold.

        It fits a generalized Pareto distribution to the highest training scores. With fewer peaks
        than it takes (20 of 200 images by default) the threshold is the host's quantile, which
        ``pot_info_`` tells. It takes effect as :meth:`use_quantile_thresholding` does, and is saved
        with the detector.

        Args:
            tail_fraction: Share of the training scores, the highest, that are peaks; in (0, 1).
            min_exceedances: Number of peaks that the fit takes, at least 1.

        Returns:
            The detector itself.

        Raises:
            ValueError: If a number is out of range; nothing changes then.
        """
        share = check_number("tail_fraction", tail_fraction, above=0, most=1, below=True)
        check_count("min_exceedances", min_exceedances)
        self.threshold_method = "pot"
        self.pot_tail_fraction, self.pot_min_exceedances = share, min_exceedances
        return self

    def score_samples(self, x: object = None, *, X: object = None) -> Scores:
        """Compute image scores; scikit-learn's name of :meth:`decision_function`.

        Other than there, higher is more anomalous.

        Args:
            x: Images, as for :meth:`decision_function`.
            X: Alias for ``x``.

        Returns:
            Image scores, shape (N,), float64; NaN for unreadable images with ``on_error="nan"``.

        Raises:
            ValueError: As for :meth:`decision_function`.
        """
        return self.decision_function(x, X=X)

    def predict_confidence(self, x: object = None, *, X: object = None) -> Scores:
        """Compute how far each label of :meth:`predict` is from the threshold.

        Args:
            x: Images, as for :meth:`decision_function`.
            X: Alias for ``x``.

        Returns:
            Confidences, shape (N,), float64: 0 at the threshold, 1 from the lowest or the highest
            training score on; 0 for unreadable images with ``on_error="nan"``.

        Raises:
            RuntimeError: If there are no training scores yet.
            ValueError: As for :meth:`decision_function`.
        """
        confidence: Scores = self.predict(one_of(x, X), return_confidence=True)[1]
        return confidence

    def predict_with_rejection(
        self,
        x: object = None,
        *,
        confidence_threshold: float,
        reject_label: int = -2,
        return_confidence: bool = False,
        X: object = None,
    ) -> Labels | tuple[Labels, Scores]:
        """Label images as :meth:`predict` does, but those apart whose label is not sure.

        Args:
            x: Images, as for :meth:`decision_function`.
            confidence_threshold: In (0, 1]; below this confidence a label is not sure, as of
                unreadable images with ``on_error="nan"``.
            reject_label: Label of images whose label is not sure, a whole number of 64 bits.
            return_confidence: Whether to return the confidence of each label in [0, 1] as well.
            X: Alias for ``x``.

        Returns:
            Labels, shape (N,), int64; with ``return_confidence`` a tuple (labels, confidence).

        Raises:
            RuntimeError: As for :meth:`predict_confidence`.
            ValueError: As for :meth:`decision_function`, or if a number is out of range.
        """
        sure = check_number("confidence_threshold", confidence_threshold, above=0, most=1)
        if not is_whole(reject_label) or not -LABELS <= reject_label < LABELS:
            raise ValueError(
                f"reject_label={reject_label!r}; it must be a whole number of 64 bits."
            )
        labels, confidence = self.predict(one_of(x, X), return_confidence=True)
        labels[confidence < sure] = reject_label
        return (labels, confidence) if return_confidence else labels

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
        items = as_items(one_of(x, X))
        with self._lock:  # training scores, a threshold and scores of the same fit
            formulas, scoring = self._formulas(), self._freeze(items)
        scores = image_scores(score_all(items, lambda _: scoring, at_first=1))
        chances = formulas.predict_proba(scores, method)
        return (chances, confidence_of(formulas, scores)) if return_confidence else chances

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
        """That of :func:`confidence_of` by what is learnt now; the host calls it."""
        return confidence_of(self._formulas(), scores, labels)

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
        known: Scores | None = getattr(self, "decision_scores_", None)  # of one moment
        if known is None:
            raise RuntimeError(
                "There are no training scores yet, which promise, confidence and probabilities "
                "need; call fit() first."
            )
        return known


def confidence_of(formulas: Any, scores: Any, labels: Any = None) -> Scores:
    """The host's confidence in labels by its formulas, and 0 for unreadable images."""
    sure = formulas._label_confidence_from_scores(scores, labels=labels)
    return np.where(np.isnan(np.asarray(scores, dtype=np.float64).ravel()), 0.0, sure)
