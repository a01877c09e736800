"""The base class of all detectors: the methods that they share with the host.

The arguments are in ``arguments.py``, the way of an image in ``scoring.py``, what is learnt in
``learnt.py``, how it is saved and shown in ``saving.py`` and ``showing.py``, and where a score
lies among the training scores in ``probabilities.py``.
"""

from __future__ import annotations

import math
import os
import threading
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

import numpy as np
from pyimgano.models.base_detector import BaseDetector

from ..arrays import Floats, Scores, Size
from ..checks import check_count, check_number, check_sides, one_of
from ..encoder.tokens import InjectedEmbedder
from ..files.checkpoint import Checkpoint, read_checkpoint
from ..images.areas import Area
from ..images.items import Item, as_items, as_stream, describe
from ..images.roi import Roi, anchored, area_of, for_sizes, roi_of
from ..maps.regions import Region, explained, hottest_spot
from ..maps.scores import ImageScores
from ..maps.spread import SMOOTHING
from ..memory import out_of_memory_explained
from ..recent import Recent
from ..version import __version__
from . import saving, showing, spans
from .arguments import Arguments
from .drift import Usual
from .learnt import Calibration, Learnt, Lesson, image_scores
from .probabilities import Labels, Probabilities, confidence_of
from .scoring import Scorer, Scoring, score_all
from .suspects import Suspect, stand_out

if TYPE_CHECKING:
    from typing_extensions import Self

# Registry tags and metadata of all detectors; the host interprets some of the tags.
TAGS = ("vision", "deep", "clip", "openclip", "numpy", "pixel_map")
METADATA = {
    "backend": "openclip",
    "supports_save_load": True,
    "provider": "pyimgano-openclip",
    "provider_version": __version__,
}
# What the host sets and reads, too.
FITTED = ("threshold_", "labels_", "decision_scores_", "pot_info_")
AT_FIRST = 64  # images of a list from which a canvas is chosen


@dataclass(kw_only=True, eq=False, repr=False)
class OpenCLIPDetector(Arguments, Probabilities, BaseDetector):  # type: ignore[misc]  # the host is untyped
    """Base class of all detectors, which document the arguments; safe to score with in threads.

    Attributes:
        decision_scores_: Image scores of the training images, shape (N,), after :meth:`fit`.
        threshold_: Image score above which an image is anomalous. Can be set by the caller to a
            number up to the largest score that patches can give; it then stays when images are
            added, and in checkpoints, until :meth:`fit`, :meth:`set_params` or an assigned
            ``contamination`` or ``confidence``. Not set before :meth:`fit`, since the host takes a
            detector that has it for a fitted one; by what :meth:`predict` labels until then,
            :meth:`label_threshold` tells.
        labels_: 1 for each training image above the threshold, else 0, shape (N,).
        registry_tags: Tags in the host's registry.
        registry_metadata: Metadata in the host's registry.
    """

    registry_tags: ClassVar[tuple[str, ...]]
    registry_metadata: ClassVar[Mapping[str, Any]]

    def __post_init__(self) -> None:
        super().__post_init__()
        BaseDetector.__init__(self, contamination=self.contamination)
        self._put("roi", anchored(self.roi))
        self._roi = roi_of(self.roi)
        self._learnt: Any = Learnt()
        self._cache: Recent[ImageScores] = Recent()
        self._threshold_chosen = False

    @abstractmethod
    def _scorer(self, learnt: Any) -> Scorer:
        """Everything that scores depend on; raise if there is nothing to compare with yet."""

    @abstractmethod
    def _from_checkpoint(self, checkpoint: Checkpoint, canvas: Size | None) -> Learnt:
        """What was learnt by the detector that saved a checkpoint, with equal settings.

        Raises:
            ValueError: If the checkpoint does not fit.
        """

    def _training_scores(self, checkpoint: Checkpoint) -> Scores | None:
        """The training scores in a checkpoint, one per image; None without any."""
        if saving.TRAINING_SCORES not in checkpoint.arrays:
            return None
        return checkpoint.numbers(saving.TRAINING_SCORES, 1, "float64")

    def _largest_score(self, learnt: Any) -> float:  # noqa: ARG002 - see subclasses
        """The largest score that the patches of an image can give."""
        return spans.DISTANCE

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "threshold_":
            return super().__setattr__(name, value)
        with self._lock:  # labels and largest score of the same fit
            value = spans.check_threshold(name, value, self._largest_score(self._learnt))
            self._threshold_chosen = True  # unless who computes it says otherwise afterwards
            if hasattr(self, "decision_scores_"):
                self.labels_ = (np.asarray(self.decision_scores_) > value).astype(np.int64)
            return super().__setattr__(name, value)

    def _thresholds_follow(self) -> None:
        if hasattr(self, "decision_scores_"):
            self._process_decision_scores()
        elif self.threshold_chosen_:
            self._forget("threshold_")

    def _shares(self) -> dict[str, Any]:
        """What a checkpoint keeps of the arguments that a threshold follows from."""
        return {"contamination": self.contamination}

    def _settings_of_no_score(self) -> frozenset[str]:
        """Arguments of this class on which no score depends, or that are in a checkpoint anyway."""
        return frozenset()

    def _learnt_facts(self) -> dict[str, str]:
        """What has been learnt, in words; see ``showing.py``."""
        return showing.learnt_facts(self)

    @property
    def canvas_(self) -> Size | None:
        """(height, width) in pixels to which images are resized; None until it is chosen."""
        return self._learnt.canvas

    @property
    def map_smoothing(self) -> float:
        """Standard deviation of the Gaussian of anomaly maps in patches; 0 for none."""
        return SMOOTHING

    def usual(self) -> Usual | None:
        """What images that pass are compared with; None without normal images."""
        return None

    @property
    def model_identity(self) -> str | None:
        """What changes with the model and its weights; None with a custom embedder.

        Loads a model from the Hugging Face hub, since only that tells its revision.
        """
        return getattr(self._embedder, "identity", None)

    def _teach(
        self,
        items: Sequence[Item],
        learn: Callable[[Sequence[Item]], Lesson],
        *,
        adding: bool = False,
    ) -> Self:
        """Learn from images, and put the result in place.

        Args:
            items: The images.
            learn: What learns from them, and changes nothing.
            adding: Whether they are added to others; a threshold that is chosen then stays.
        """
        with out_of_memory_explained(f"what is learnt from {len(items)} images"):
            lesson = learn(items)
        known = adding and showing.stretched(self) is not None
        with self._lock:
            keep = adding and self.threshold_chosen_
            self._take_over(lesson.keeping_threshold() if keep else lesson)
        showing.tell_learnt(self, known=known)
        return self

    def suspects(self) -> list[Suspect]:
        """Name the training images that stand out among the others: are they normal?

        Patch-kNN and the detector of unlabelled images compare them with each other, so that two
        alike defects do not hide each other, patch-kNN through their moved copies as well; prompt
        scoring compares them with words. Of 30 normal images about one is named, of products that
        vary much up to three.

        Returns:
            What stands out, most first; two standard deviations above the median of the logarithms
            of the scores. Empty for fewer than five images, and for a bank that was thinned before
            images were added.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        with self._lock:
            return stand_out(self._standing(), self._refused_from)

    def _standing(self) -> Scores:
        """How little each training image resembles normal ones, shape (N,)."""
        return self._known_scores()

    def _take_over(self, lesson: Lesson) -> None:
        """Put the result of learning in place, completely or not at all."""
        threshold: Any = self.__dict__.get("threshold_")
        facts, calibration = None, lesson.calibration
        chosen = calibration is None and self._threshold_chosen
        if calibration is None:
            calibration = lesson.learnt.calibration
        else:
            threshold, facts = self._threshold(calibration)
        threshold = min(threshold, self._largest_score(lesson.learnt))
        with self._lock:
            self._learnt = replace(lesson.learnt, calibration=calibration)
            self.decision_scores_, self.threshold_ = lesson.scores, threshold
            self._threshold_chosen = chosen
            if lesson.calibration is not None:
                self._tell_peaks(facts)
            self._cache = Recent()  # passes under way keep theirs, with what it refers to

    def _process_decision_scores(self) -> Self:
        """Set threshold and labels by the training scores again; the host calls it."""
        threshold, facts = self._computed_threshold()
        self.threshold_, self._threshold_chosen = threshold, False
        self._tell_peaks(facts)
        return self

    def _tell_peaks(self, facts: Any) -> None:
        """Keep what the host tells of peaks over threshold; None if it was not asked."""
        self._forget("pot_info_")
        if facts is not None:
            self.pot_info_ = facts

    @property
    def threshold_chosen_(self) -> bool:
        """Whether the caller has set ``threshold_``, so that it stays when images are added."""
        return self._threshold_chosen and hasattr(self, "threshold_")

    def computed_threshold(self) -> float:
        """The threshold that follows from the training scores, also if another one is chosen.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        with self._lock:
            return self._computed_threshold()[0]

    def _computed_threshold(self) -> tuple[float, Any]:
        """That, and the facts of the host about it."""
        threshold, facts = self._threshold(self._calibration())
        return min(threshold, self._largest_score(self._learnt)), facts

    def _calibration(self) -> Calibration:
        """What the threshold follows from; the training scores in a file of version 0.1.0."""
        scores, known = self._known_scores(), self._learnt.calibration
        return Calibration.of(scores) if known is None else known

    @abstractmethod
    def _threshold(self, calibration: Calibration) -> tuple[float, Any]:
        """The threshold that follows from training scores, and the facts of the host about it."""

    def _score(
        self, items: Iterable[Item], *, at_first: int, with_tokens: bool = False
    ) -> Generator[ImageScores, None, None]:
        """Score images in order; see :func:`~.scoring.score_all`."""
        return score_all(items, self._freeze, at_first=at_first, with_tokens=with_tokens)

    def _ready(self, items: Sequence[Item]) -> Any:
        """What has been learnt; the first images choose the canvas, for good."""
        with self._lock:
            if self._learnt.canvas is None:
                # Unreadable images are reported when it is their turn.
                canvas = self._embedder.choose_canvas(items, skip_unreadable=True)
                self._learnt = replace(self._learnt, canvas=canvas)
            return self._learnt

    def _freeze(self, items: Sequence[Item]) -> Scoring:
        """How the images of one call are scored."""
        with self._lock:
            learnt = self._ready(items)
            return Scoring(
                self._embedder,
                learnt.canvas,
                learnt.canvas is not None or isinstance(self._embedder, InjectedEmbedder),
                self._scorer(learnt),
                self.channel_order,
                self.on_error,
                self._cache,
                learnt.whole,
                for_sizes(self._roi, learnt.sizes),
                type(self).__name__,
            )

    def choose_canvas(self, x: object) -> Self:
        """Choose by some images what all are resized to, unless that has been chosen already.

        Otherwise the first images scored decide; see the argument ``resize``.

        Args:
            x: Images, as for :meth:`fit`; unreadable ones are ignored.

        Returns:
            The detector itself; :attr:`canvas_` is None if no image can be read.

        Raises:
            ValueError: If there is no image.
        """
        self._ready(as_items(x))
        return self

    def use_canvas(self, canvas: Size) -> None:
        """Resize images to a canvas that was chosen earlier, instead of choosing one.

        Args:
            canvas: (height, width) in pixels, as :attr:`canvas_` was.

        Raises:
            ValueError: If the model never resizes images to it, or another one is in use.
        """
        canvas = check_sides("canvas", canvas)
        with self._lock:
            if self._learnt.canvas == canvas:
                return
            if self._learnt.canvas is not None:
                raise ValueError(
                    f"canvas={canvas}, but what is learnt so far is on a canvas of "
                    f"{self._learnt.canvas}; use a new detector."
                )
            saving.check_canvas(self._embedder, canvas)
            self._learnt = replace(self._learnt, canvas=canvas)

    def decision_function(self, x: object = None, *, X: object = None) -> Scores:
        """Compute image scores; higher is more anomalous.

        An image that is no case for its patches scores above every threshold: one that is unlike
        the training images as a whole (black, blurred, of another size, ...), or on which nothing
        can be seen. The width of the range of patch scores, 1 or 2, is added to its score, and
        :attr:`~..maps.scores.ImageScores.unlike` of :meth:`score_iter` says why.

        Args:
            x: Images in any form that the README names, in a list or one stacked array
                (N, H, W, 3), or the path of a folder of them.
            X: Alias for ``x``.

        Returns:
            Image scores, shape (N,), float64; NaN for unreadable images with ``on_error="nan"``.

        Raises:
            ValueError: If there is no image, or one cannot be read; the message names it.
        """
        items = as_items(one_of(x, X))
        return image_scores(self._score(items, at_first=len(items)))

    def score_iter(self, x: Iterable[Item], *, with_tokens: bool = False) -> Iterator[ImageScores]:
        """Score images one by one, for folders and streams that do not fit into memory.

        A detector that has not chosen the aspect ratio to resize images to yet chooses it from the
        readable ones of the first 64 in a list, or of the first batch of a generator; see the
        argument ``resize``. A detector of unlabelled images without a pool compares all of ``x``
        with each other, so it takes all at once, and its results carry no tokens.

        Args:
            x: Images, as for :meth:`decision_function`, or a generator of them. Of that at most one
                batch of images is taken ahead of the results that were asked for (``batch_size``;
                one image with a custom embedder).
            with_tokens: Whether each result carries its patch tokens, so that it can be passed to
                :meth:`explain` and its like, which then read no image again.

        Yields:
            For each image, in order, its ``image`` score, ``patches`` scores and ``size``;
            :meth:`~..maps.scores.ImageScores.anomaly_map` is computed on request. With
            ``on_error="nan"`` the scores of an unreadable image are NaN, and ``error`` says why.

        Raises:
            ValueError: If ``x`` is an empty list or a single image, or an image cannot be read; the
                message names it. All images before it have been yielded.
            Exception: What the generator raises, after all images before it have been yielded.
        """
        items = as_stream(x)
        at_first = AT_FIRST if isinstance(items, Sequence) else self._embedder.batch
        return self._score(items, at_first=at_first, with_tokens=with_tokens)

    @overload
    def predict(
        self, x: object = None, return_confidence: Literal[False] = False, *, X: object = None
    ) -> Labels: ...

    @overload
    def predict(
        self, x: object = None, *, return_confidence: Literal[True], X: object = None
    ) -> tuple[Labels, Scores]: ...

    @overload
    def predict(
        self, x: object, return_confidence: Literal[True], *, X: object = None
    ) -> tuple[Labels, Scores]: ...

    @overload
    def predict(
        self, x: object = None, return_confidence: bool = False, *, X: object = None
    ) -> Labels | tuple[Labels, Scores]: ...

    def predict(
        self, x: object = None, return_confidence: bool = False, *, X: object = None
    ) -> Labels | tuple[Labels, Scores]:
        """Label images: 1 if the score is above the threshold, else 0.

        With ``on_error="nan"`` an unreadable image gets the label 1 with a confidence of 0: a part
        that was not inspected does not pass.

        Args:
            x: Images, as for :meth:`decision_function`.
            return_confidence: Whether to return the confidence of each label in [0, 1] as well.
            X: Alias for ``x``.

        Returns:
            Labels, shape (N,), int64; with ``return_confidence`` a tuple (labels, confidence).

        Raises:
            RuntimeError: If there is no threshold yet, or no training scores that
                ``return_confidence`` needs.
            ValueError: As for :meth:`decision_function`.
        """
        items = as_items(one_of(x, X))
        with self._lock:  # training scores, a threshold and scores of the same fit
            formulas = self._formulas() if return_confidence else None
            scoring = self._freeze(items)
            threshold = self.label_threshold()
        scores = image_scores(score_all(items, lambda _: scoring, at_first=1))
        labels = (~(scores <= threshold)).astype(np.int64)  # 1 for NaN
        return labels if formulas is None else (labels, confidence_of(formulas, scores, labels))

    def fit_predict(self, x: object = None, y: object = None, *, X: object = None) -> Labels:
        """Fit the detector, and label the training images as :meth:`predict` does.

        Args:
            x: Paths or arrays, as for :meth:`fit`; also a generator of them.
            y: As for :meth:`fit`.
            X: Alias for ``x``.

        Returns:
            Labels, shape (N,), int64.

        Raises:
            ValueError: As for :meth:`fit`.
        """
        items = as_items(one_of(x, X))
        labels: Labels = self.fit(items, y).predict(items)
        return labels

    def get_anomaly_map(self, image: Item) -> Floats:
        """Compute the anomaly map of one image; higher is more anomalous.

        Args:
            image: An image in any form that the README names.

        Returns:
            Map of shape (H, W) of the original image, float32; see :meth:`iter_anomaly_maps` for
            unreadable images.

        Raises:
            ValueError: If the image cannot be read; the message names it.
        """
        (found,) = self.iter_anomaly_maps([image])
        return found

    def predict_anomaly_map(self, x: object = None, *, X: object = None) -> Floats:
        """Compute the anomaly maps of images of equal size; higher is more anomalous.

        Args:
            x: Images, as for :meth:`decision_function`.
            X: Alias for ``x``.

        Returns:
            Maps, shape (N, H, W), float32. With ``on_error="nan"`` the map of an unreadable image
            is all NaN, with the size of the others.

        Raises:
            ValueError: If the images differ in size (use :meth:`iter_anomaly_maps` for those),
                there is no image, or one cannot be read.
        """
        items = as_items(one_of(x, X))
        scored, first = [], None
        with closing(self._score(items, at_first=len(items))) as results:
            for place, (item, result) in enumerate(zip(items, results, strict=True)):
                scored.append(result)
                if result.error is not None:
                    continue
                first = place if first is None else first
                if result.size != scored[first].size:
                    raise ValueError(
                        f"The images differ in size: {describe(items[first])} is "
                        f"{_by(scored[first].size)}, {describe(item)} is {_by(result.size)} "
                        "(height x width). One array cannot hold both maps; use "
                        "iter_anomaly_maps(), or one image at a time."
                    )
        size = scored[first or 0].size
        return np.stack([replace(result, size=size).anomaly_map() for result in scored])

    def iter_anomaly_maps(self, x: object) -> Iterator[Floats]:
        """Compute anomaly maps one by one, for images of any sizes, in constant memory.

        Args:
            x: Images, as for :meth:`decision_function`, or a generator of them, as for
                :meth:`score_iter`.

        Yields:
            For each image, in order, a map of shape (H, W) of that image, float32. With
            ``on_error="nan"`` the map of an unreadable image is all NaN; its size is taken from the
            file header or the array's shape, or is 1 x 1 if neither is known.

        Raises:
            ValueError: As for :meth:`decision_function`.
        """
        if isinstance(x, Iterator):
            stream = self._score(x, at_first=self._embedder.batch)
        else:
            items = as_items(x)
            stream = self._score(items, at_first=len(items))
        with closing(stream) as results:
            for scored in results:
                yield scored.anomaly_map()

    def explain(
        self, image: Item | ImageScores, *, threshold: float | None = None, limit: int = 10
    ) -> list[Region]:
        """Find the anomalous regions of an image and, if defects are named, what they resemble.

        Args:
            image: An image in any form that the README names; or a result of :meth:`score_iter`,
                of which nothing is read again, with tokens if defects are named.
            threshold: Map value that a hot pixel exceeds; None for :meth:`region_threshold`.
            limit: Maximum number of regions, at least 1.

        Returns:
            Connected hot regions, hottest first. A pixel is hot if it is above the threshold and at
            least 70 % of the way up to the peak of the region around it, so that boxes are tight
            around strong defects and weak ones count beside them. Without ``threshold`` an
            anomalous image that has none gets its :meth:`hottest_spot`, and otherwise the list is
            empty if no pixel is hot.
            If defects are named, the first has the name of the one that the image resembles, where
            it leads clearly.
            An unreadable image gives an empty list and a warning with ``on_error="nan"``.

        Raises:
            RuntimeError: If the detector has no threshold yet; never for the zero-shot detector.
            ValueError: If the image cannot be read, or a number is out of range.
        """
        check_count("limit", limit)
        if threshold is not None:
            check_number("threshold", threshold, above=-math.inf, most=math.inf)
        with self._lock:  # scores and a threshold of the same fit
            scoring = self._freeze(items_of(image))
            hot = self.region_threshold() if threshold is None else threshold
            flagged_above = math.inf if threshold is not None else self.label_threshold()
        named = self._names(scoring.scorer)
        scored = self._look(image, scoring, with_tokens=named)
        if scored.error is not None:
            return []
        regions = explained(scored, hot, flagged_above, limit)
        if not named:
            return regions
        return self._name_regions(regions, scored.tokens, scoring.scorer)

    def hottest_spot(self, scored: ImageScores) -> Region:
        """What :meth:`explain` finds in an anomalous image that has no hot region.

        Args:
            scored: A result of :meth:`score_iter`, with tokens if defects are named.

        Returns:
            The patch around the map's highest value, with an area of 0.

        Raises:
            ValueError: If it is something else, of an unreadable image, or without tokens that are
                needed.
        """
        if not isinstance(scored, ImageScores) or scored.error is not None:
            what = scored.error if isinstance(scored, ImageScores) else describe(scored)
            raise ValueError(
                f"hottest_spot() was given {what}; a result of score_iter() was expected, of an "
                "image that can be read."
            )
        scoring = self._freeze([])
        named = self._names(scoring.scorer)
        scored = self._look(scored, scoring, with_tokens=named)
        spot = hottest_spot(scored.anomaly_map(), scored.grid, scored.inside)
        return self._name_regions([spot], scored.tokens, scoring.scorer)[0] if named else spot

    @property
    def roi_(self) -> Roi | None:
        """Where to look, as it was read from ``roi``; None for everywhere."""
        return self._roi

    @property
    def identities_(self) -> frozenset[str]:
        """What tells images that were learnt from others; see :mod:`~.images.identity`.

        Empty before there are any, and with a custom embedder that sees no files or arrays.
        """
        return self._learnt.identities

    def area_of(self, image: Item) -> Area | None:
        """Where in an image to look, by ``roi``; None for everywhere.

        Raises:
            ValueError: If ``roi`` is a folder without a mask of this image.
        """
        with self._lock:
            roi = for_sizes(self._roi, self._learnt.sizes)
        return area_of(roi, image)

    def _look(
        self, image: Item | ImageScores, scoring: Scoring, *, with_tokens: bool
    ) -> ImageScores:
        """The scores of one image, with its tokens if they are wanted and it can be read.

        Raises:
            ValueError: If the image cannot be read, or is a result without the tokens, or of
                another kind of detector.
        """
        if not isinstance(image, ImageScores):
            (scored,) = score_all([image], lambda _: scoring, at_first=1, with_tokens=with_tokens)
            return scored
        scoring.check(image, with_tokens=with_tokens)
        return image

    def label_threshold(self) -> float:
        """Image score above which :meth:`predict` returns 1.

        Raises:
            RuntimeError: If there is no threshold yet.
        """
        if (threshold := getattr(self, "threshold_", None)) is None:  # of one moment
            raise RuntimeError("There is no threshold yet; call fit() first.")
        return float(threshold)

    def region_threshold(self) -> float:
        """Map value that a pixel has to exceed to be hot in :meth:`explain`.

        Raises:
            RuntimeError: If there is no threshold yet.
        """
        if (threshold := getattr(self, "threshold_", None)) is None:
            raise RuntimeError("There is no threshold yet; call fit(), or pass threshold=.")
        return self.region_share() * float(threshold)

    def region_share(self) -> float:
        """Tell what :meth:`region_threshold` is as a multiple of ``threshold_``; 0 if set apart."""
        return 1.0

    def _names(self, scorer: Any) -> bool:  # noqa: ARG002 - see subclasses
        """Whether regions get the names of defects, which takes tokens."""
        return False

    def _name_regions(self, regions: list[Region], patches: Any, scorer: Any) -> list[Region]:
        raise NotImplementedError

    def set_params(self, **params: Any) -> Self:
        """Change settings.

        ``on_error`` and ``channel_order`` can be changed at any time, the latter unless there are
        arrays among ``references``. Any other setting resets the detector: everything that was
        fitted or loaded is discarded, including a ``threshold_`` set by the caller and the choice
        of ``use_pot_thresholding()``. By assignment ``contamination`` and ``confidence`` can be
        changed as well, which the thresholds follow, and ``batch_size``; the others raise an
        AttributeError.

        Raises:
            ValueError: If a name is unknown or a value is out of range; nothing changes then.
        """
        current = self.get_params(deep=False)
        unknown = sorted(set(params) - set(current))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameter {', '.join(unknown)}.")
        if set(params) <= self._live_settings():
            checked = {name: self._checked(name, value) for name, value in params.items()}
            with self._lock:
                self.__dict__.update(checked)
            return self
        changed = {**current, **params}
        type(self)(**changed)  # raises before anything has changed
        with self._lock:
            self._forget(*FITTED, *changed)
            self.__init__(**changed)  # type: ignore[misc]
        return self

    def _forget(self, *names: str) -> None:
        for name in names:
            self.__dict__.pop(name, None)

    def save_checkpoint(self, path: str | os.PathLike[str]) -> Path:
        """Save the detector to one safetensors file, without the model's weights.

        An existing file is replaced completely or not at all, even if the process is killed.

        Args:
            path: Path of the file; its folder is created if needed.

        Returns:
            The path.

        Raises:
            RuntimeError: If there is nothing to save; call ``fit`` first.
            ValueError: If the path ends in ``.onnx``, as exported detectors do.
            OSError: If the file cannot be written.
        """
        return saving.save(self, Path(path))

    def load_checkpoint(self, path: str | os.PathLike[str]) -> Self:
        """Load the state of a detector that was saved with equal settings and an equal model.

        Scores, maps and threshold are then equal to those of the saved detector, scores and maps up
        to rounding where the tower computes in another precision; ``contamination``,
        ``confidence``, ``use_pot_thresholding()`` and whether the threshold was chosen are loaded
        as well. The model's weights
        are loaded for comparison. ``channel_order`` stays that of this detector: it tells where
        arrays come from, not what was learnt.

        A loaded patch-kNN detector recognises its training images, which keep their training
        scores, unless the file is from version 0.1.0: then they find their own patches in the bank,
        and their scores are near zero.

        Args:
            path: File written by :meth:`save_checkpoint`.

        Returns:
            The detector itself, unchanged if anything fails.

        Raises:
            ValueError: If the file is damaged or not a checkpoint, or was saved with another model
                or with other settings that change scores; the message says what was found and
                expected.
            OSError: If the file cannot be opened.
        """
        return self._restore(read_checkpoint(Path(path)))

    def _restore(self, checkpoint: Checkpoint) -> Self:
        """Take over what is in a checkpoint, completely or not at all."""
        restored = saving.restored(self, checkpoint)
        with self._lock:
            self._learnt, self._embedder = restored.learnt, restored.embedder
            self._put("contamination", restored.contamination)
            self._forget(*FITTED)
            self.__dict__.update(restored.fitted)
            self._threshold_chosen = restored.chosen
            self._cache = Recent()
        return self

    def _to_save(self) -> Any:
        """What has been learnt, complete; what is still missing is read and encoded now.

        Raises:
            RuntimeError: If there is nothing to save.
        """
        return self._learnt

    def tower_facts(self) -> dict[str, str]:
        """The tower, its device and precision, and the canvas once it is chosen."""
        return showing.tower_facts(self)

    def __repr__(self) -> str:
        """Class, arguments that differ from their defaults, and state, on one line."""
        return showing.line(self)

    def _repr_html_(self) -> str:
        """A small table for notebooks, without colours of its own to fit any theme."""
        return showing.table(self)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn 1.6 and later asks of the steps of a pipeline."""
        from sklearn.utils import InputTags, Tags, TargetTags

        images = InputTags(two_d_array=False, three_d_array=False, string=True)
        target = TargetTags(required=False)
        return Tags(estimator_type="outlier_detector", target_tags=target, input_tags=images)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether images can be scored."""
        return hasattr(self, "threshold_")

    def __getstate__(self) -> dict[str, Any]:
        with self._lock:  # what was learnt and a threshold of the same fit
            return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())


def items_of(image: Item | ImageScores) -> list[Item]:
    """The image as a list, to choose a canvas by; empty for a result."""
    return [] if isinstance(image, ImageScores) else [image]


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
