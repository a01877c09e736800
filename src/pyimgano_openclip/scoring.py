"""Scoring, shared by both detectors: images in; scores, labels and maps out.

frame -> patch tokens (rows, cols, D) -> patch scores (rows, cols) -> map (H, W) and image score
-> decision. Each image is decoded and encoded once per call, and once for both score and map.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
from pyimgano.models.base_detector import BaseDetector

from .checks import one_of
from .embedding import Floats, PatchTokens, Size
from .gaps import Gaps, OnError, gap
from .items import ChannelOrder, Item, as_items, content_key, describe, in_rgb
from .maps import ImageScores
from .memory import memory_for
from .score_cache import ScoreCache
from .unreadable import UnreadableError, or_raise

if TYPE_CHECKING:
    from .regions import Region

HALF_PEAK = 0.5  # of the highest map value; weaker pixels surround a defect
CHUNK = 64  # images looked up and read together while streaming

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Scorer(Protocol):
    """Everything a score depends on, frozen for the length of one call."""

    @property
    def key(self) -> Hashable:
        """Changes whenever the scores of an unchanged image would change."""

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Score one image."""


class ScoringDetector(BaseDetector):  # type: ignore[misc]  # the host is untyped
    """The part of a detector that scores; safe to use from several threads at once."""

    on_error: OnError
    channel_order: ChannelOrder
    canvas_: Size | None
    _embedder: Any
    _cache: ScoreCache[ImageScores]
    _last: tuple[Hashable | None, PatchTokens | None]  # key and tokens of the image scored last
    _canvas_choice: threading.Lock

    @abstractmethod
    def _scorer(self, canvas: Size | None) -> Scorer:
        """Freeze everything that scores on a canvas depend on; raise if there is nothing yet."""

    def decision_function(self, x: object = None, *, X: object = None) -> Scores:
        """Compute image scores; higher is more anomalous.

        Args:
            x: Paths, RGB arrays (H, W, 3) of uint8, or one stacked array (N, H, W, 3).
            X: Alias for ``x``.

        Returns:
            Image scores, shape (N,), float64; NaN for unreadable images with ``on_error="nan"``.

        Raises:
            ValueError: If there is no image, or one cannot be read; the message names it.
        """
        items = as_items(one_of(x, X))
        return np.array([scored.image for scored in self._scored([items])], dtype=np.float64)

    def score_iter(self, x: Iterable[Item]) -> Iterator[ImageScores]:
        """Score images one by one, for folders and streams that do not fit into memory.

        A detector that has not chosen the aspect ratio to resize images to yet chooses it from the
        readable ones of the first 64; see the argument ``resize``.

        Args:
            x: Paths or arrays; a generator is consumed lazily, a few images ahead.

        Yields:
            For each image, in order, its image score, patch scores and size;
            :meth:`~.maps.ImageScores.anomaly_map` is computed on request. With ``on_error="nan"``
            the scores of an unreadable image are NaN, and ``error`` says why.

        Raises:
            ValueError: If an image cannot be read; the message names it. All images before it have
                been yielded.
        """
        if isinstance(x, (str, bytes, os.PathLike)):
            as_items(x)  # raises for a single path
        source = iter(x)
        return self._scored(iter(lambda: list(islice(source, CHUNK)), []))

    def predict(
        self, x: object = None, return_confidence: bool = False, *, X: object = None
    ) -> Labels | tuple[Labels, Scores]:
        """Label images: 1 if the score is above the threshold, else 0.

        With ``on_error="nan"`` an unreadable image gets the label 1 with a confidence of 0: a part
        that was not inspected does not pass.

        Args:
            x: Paths or arrays, as for :meth:`decision_function`.
            return_confidence: Whether to return the confidence of each label in [0, 1] as well.
            X: Alias for ``x``.

        Returns:
            Labels, shape (N,), int64; with ``return_confidence`` a tuple (labels, confidence).

        Raises:
            RuntimeError: If there is no threshold yet.
            ValueError: As for :meth:`decision_function`.
        """
        threshold = self.label_threshold()
        scores = self.decision_function(x, X=X)
        labels = (~(scores <= threshold)).astype(np.int64)  # 1 for NaN
        if not return_confidence:
            return labels
        return labels, self._label_confidence_from_scores(scores, labels=labels)

    def score_percentile(self, scores: npt.ArrayLike) -> Scores:
        """Compute the share of training scores below each score, comparable across detectors.

        Args:
            scores: Image scores from :meth:`decision_function`, shape (N,).

        Returns:
            Shares in [0, 1], shape (N,), float64; higher is more anomalous; NaN for NaN.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        if not hasattr(self, "decision_scores_"):
            raise RuntimeError("There are no training scores yet; call fit() first.")
        known, asked = np.sort(self.decision_scores_), np.asarray(scores, dtype=np.float64)
        return np.where(np.isnan(asked), np.nan, np.searchsorted(known, asked) / len(known))

    def get_anomaly_map(self, image: Item) -> Floats:
        """Compute the anomaly map of one image; higher is more anomalous.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.

        Returns:
            Map of shape (H, W) of the original image, float32; see :meth:`iter_anomaly_maps` for
            unreadable images.
        """
        (found,) = self.iter_anomaly_maps([image])
        return found

    def predict_anomaly_map(self, x: object = None, *, X: object = None) -> Floats:
        """Compute the anomaly maps of images of equal size; higher is more anomalous.

        Args:
            x: Paths or arrays, as for :meth:`decision_function`.
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
        for place, (item, result) in enumerate(zip(items, self._scored([items]), strict=True)):
            scored.append(result)
            if result.error is not None:
                continue
            first = place if first is None else first
            if result.size != scored[first].size:
                raise ValueError(
                    f"The images differ in size: {describe(items[first])} is "
                    f"{_by(scored[first].size)}, {describe(item)} is {_by(result.size)} (height x "
                    "width). One array cannot hold both maps; use iter_anomaly_maps(), or one "
                    "image at a time."
                )
        size = scored[first or 0].size
        return np.stack([replace(result, size=size).anomaly_map() for result in scored])

    def iter_anomaly_maps(self, x: object) -> Iterator[Floats]:
        """Compute anomaly maps one by one, for images of any sizes.

        Args:
            x: Paths or arrays, as for :meth:`decision_function`.

        Yields:
            For each image, in order, a map of shape (H, W) of that image, float32. With
            ``on_error="nan"`` the map of an unreadable image is all NaN; its size is taken from the
            file header or the array's shape, or is 1 x 1 if neither is known.

        Raises:
            ValueError: As for :meth:`decision_function`.
        """
        for scored in self._scored([as_items(x)]):
            yield scored.anomaly_map()

    def explain(
        self, image: Item, *, threshold: float | None = None, limit: int = 10
    ) -> list[Region]:
        """Find the anomalous regions of an image and, if defects are named, what they resemble.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.
            threshold: Map value above which a pixel is hot. None for :meth:`hot_above`:
                :meth:`region_threshold`, or half of the map's peak if that is higher, which gives
                tight boxes around strong defects; pass a threshold to find much weaker regions in
                the same image.
            limit: Maximum number of regions.

        Returns:
            Connected hot regions, hottest first; empty if no pixel is hot. An unreadable image
            gives an empty list and a warning with ``on_error="nan"``.

        Raises:
            RuntimeError: If the detector has no threshold yet; never for the zero-shot detector.
            ValueError: If the image cannot be read.
        """
        if threshold is None:
            self.region_threshold()  # before anything is read
        canvas, scorer = self._frozen([image])
        content = self._content_key(image)
        known = self._recall((content, canvas, scorer.key))
        patches = self._look(image, canvas)
        if patches is None:
            return []
        found = (known or self._score(scorer, patches, image, content)).anomaly_map()
        hot = self.hot_above(found) if threshold is None else threshold
        # Imports OpenCV, which listing models does not need.
        from .regions import find_regions

        with memory_for(f"the regions of {_by(patches.size)} pixels"):
            regions = find_regions(found, hot, limit)
        return [self._name_region(region, patches, scorer) for region in regions]

    def label_threshold(self) -> float:
        """Image score above which :meth:`predict` returns 1.

        Raises:
            RuntimeError: If there is no threshold yet.
        """
        if not hasattr(self, "threshold_"):
            raise RuntimeError("There is no threshold yet; call fit() first.")
        return float(self.threshold_)

    def region_threshold(self) -> float:
        """Map value that a pixel has to exceed to be hot in :meth:`explain`.

        Raises:
            RuntimeError: If there is no threshold yet.
        """
        if not hasattr(self, "threshold_"):
            raise RuntimeError("There is no threshold yet; call fit(), or pass threshold=.")
        return float(self.threshold_)

    def hot_above(self, anomaly_map: Floats) -> float:
        """Map value above which :meth:`explain` counts a pixel of this map as hot.

        Args:
            anomaly_map: Shape (H, W).

        Returns:
            :meth:`region_threshold`, or half of the highest map value if that is higher.

        Raises:
            RuntimeError: If there is no threshold yet.
        """
        return max(self.region_threshold(), HALF_PEAK * float(anomaly_map.max()))

    def _name_region(self, region: Region, _patches: PatchTokens, _scorer: Any) -> Region:
        return region

    def _label_confidence_from_scores(self, scores: Any, *, labels: Any = None) -> Scores:
        """The host's confidence in a label, and 0 for unreadable images."""
        sure = super()._label_confidence_from_scores(scores, labels=labels)
        return np.where(np.isnan(np.asarray(scores, dtype=np.float64).ravel()), 0.0, sure)

    def _scored(self, chunks: Iterable[Sequence[Item]]) -> Generator[ImageScores, None, None]:
        """Score images in order, each in one pass, recently scored ones without any.

        All are scored in the same way, whatever happens to the detector in the meantime.
        """
        gaps, done, on_error = Gaps(), 0, self.on_error
        try:
            for chunk in chunks:
                if gaps.count == done:  # nothing has been scored so far
                    canvas, scorer = self._frozen(chunk)
                with closing(self._score_chunk(chunk, canvas, scorer)) as outcomes:
                    for place, outcome in enumerate(outcomes, start=done):
                        if not isinstance(outcome, UnreadableError):
                            yield outcome
                        elif on_error == "nan":
                            gaps.add(outcome.at(place))
                            yield gap(chunk[place - done], outcome)
                        else:
                            raise outcome.at(place)
                done += len(chunk)
        except GeneratorExit:  # the caller has seen enough
            gaps.warn()
            raise
        gaps.warn()

    def _score_chunk(
        self, items: Sequence[Item], canvas: Size | None, scorer: Scorer
    ) -> Generator[ImageScores | UnreadableError, None, None]:
        keys = [(self._content_key(item), canvas, scorer.key) for item in items]
        known = [self._recall(key) for key in keys]
        missing = [item for item, hit in zip(items, known, strict=True) if hit is None]
        with memory_for("an image's scores"), closing(self._outcomes(missing, canvas)) as fresh:
            for item, key, hit in zip(items, keys, known, strict=True):
                outcome = next(fresh) if hit is None else hit
                if isinstance(outcome, PatchTokens):
                    self._last = self._look_key(key[0], canvas), outcome
                    outcome = self._score(scorer, outcome, item, key[0])
                    if key[0] is not None:
                        self._cache.put(key, outcome)
                yield outcome

    def _score(
        self,
        scorer: Any,
        patches: PatchTokens,
        _item: Item,
        _content: Hashable | None,
    ) -> ImageScores:
        """Score the tokens of an image; subclasses recognise some images by content key."""
        scored: ImageScores = scorer(patches)
        return scored

    def _recall(self, key: tuple[Hashable, Size | None, Hashable]) -> ImageScores | None:
        """Scores that are already known, by key of image, canvas and scorer."""
        return self._cache.get(key)

    def _content_key(self, item: Item) -> Hashable | None:
        key = content_key(item)
        return None if key is None else (key, self.channel_order)

    def _look_key(self, content: Hashable | None, canvas: Size | None) -> Hashable | None:
        """Everything that the tokens of an image depend on; None if that is unknown."""
        return None if content is None else (content, canvas, *sorted(self._reading().items()))

    def _look(self, image: Item, canvas: Size | None) -> PatchTokens | None:
        """The tokens of one image; None, with a warning, if it is unreadable.

        An image that was just scored is not read again.
        """
        key, patches = self._last
        if key is not None and key == self._look_key(self._content_key(image), canvas):
            return patches
        with memory_for("an image's tokens"):
            (outcome,) = self._outcomes([image], canvas)
        if not isinstance(outcome, UnreadableError):
            return outcome
        if self.on_error != "nan":
            raise outcome
        gaps = Gaps()
        gaps.add(outcome)
        gaps.warn()
        return None

    def _stream(
        self, items: Sequence[Item], canvas: Size | None, argument: str = "x"
    ) -> Generator[PatchTokens, None, None]:
        """The tokens of images in one pass; raises for the first unreadable image."""
        return or_raise(self._outcomes(items, canvas), argument)

    def _outcomes(
        self, items: Sequence[Item], canvas: Size | None
    ) -> Generator[PatchTokens | UnreadableError, None, None]:
        """Like :meth:`_stream`, with errors in place of unreadable images."""
        found: Generator[PatchTokens | UnreadableError, None, None]
        in_order = map(self._in_rgb, items)
        found = self._embedder.outcomes(in_order, canvas, **self._reading())
        return found

    def _reading(self) -> dict[str, Any]:
        """What to request from the embedder in addition to the tokens."""
        return {}

    def _in_rgb(self, item: Item) -> Item:
        return in_rgb(item) if self.channel_order == "bgr" else item

    def _frozen(self, items: Sequence[Item]) -> tuple[Size | None, Scorer]:
        """The canvas and the scorer of one call."""
        self._fix_canvas(items)
        canvas = self.canvas_
        return canvas, self._scorer(canvas)

    def _fix_canvas(self, items: Sequence[Item]) -> None:
        """Choose the canvas once, so that all scores of a detector are comparable."""
        with self._canvas_choice:
            if self.canvas_ is None:
                # Unreadable images are reported when it is their turn.
                self.canvas_ = self._embedder.choose_canvas(items, skip_unreadable=True)


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
