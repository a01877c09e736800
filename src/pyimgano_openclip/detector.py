"""What both detectors share: the flow of the data, fit, threshold, and the host's interface.

frame -> patch tokens (rows, cols, D) -> patch scores (rows, cols) -> map (H, W) and image score
-> decision. Each image is decoded and encoded once per call, and once for a score and a map.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pyimgano.models.base_detector import BaseDetector
from pyimgano.utils.optional_deps import require

from . import __version__
from .checks import check_choice, check_number, one_of
from .embedding import (
    Floats,
    InjectedEmbedder,
    PatchEmbedder,
    PatchTokens,
    Precision,
    Size,
)
from .items import Item, as_items, content_key, describe
from .maps import AGGREGATIONS, Aggregation, ImageScores
from .saving import SavedDetector
from .score_cache import ScoreCache
from .showing import ShownDetector

if TYPE_CHECKING:
    from .regions import Region

DEFAULT_MODEL = "ViT-B-16-plus-240"
DEFAULT_PRETRAINED = "laion400m_e31"
# What the host's registry tells of both detectors; the host looks at some of the tags.
TAGS = ("vision", "deep", "clip", "openclip", "numpy", "pixel_map")
METADATA = {
    "backend": "openclip",
    "supports_save_load": True,
    "provider": "pyimgano-openclip",
    "provider_version": __version__,
}
CHUNK = 64  # images that are looked up and read together while streaming

Scores = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


class Scorer(Protocol):
    """Everything a score depends on, frozen for the length of one call."""

    @property
    def key(self) -> Hashable:
        """Changes whenever the scores of an unchanged image would."""

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Score one image."""


class OpenCLIPDetector(SavedDetector, ShownDetector, BaseDetector):  # type: ignore[misc]  # the host is untyped
    """Base of both detectors; see there for the arguments.

    Attributes:
        decision_scores_: Image scores of the training images, shape (N,), after :meth:`fit`.
        threshold_: An image is anomalous if its score is higher. Unset before :meth:`fit`; may be
            set from outside.
        labels_: 1 for each training image above the threshold, else 0.
        canvas_: (height, width) in pixels to which every image is resized, or None before the
            first image and with an embedder of the caller's.
        registry_tags: What the host's registry is searched for.
        registry_metadata: What it tells of the detector.
    """

    registry_tags: ClassVar[tuple[str, ...]]
    registry_metadata: ClassVar[Mapping[str, Any]]

    def __init__(
        self,
        *,
        tokens: Literal["aligned", "features"],
        embedder: PatchEmbedder | None,
        openclip_model_name: str,
        openclip_pretrained: str | None,
        pretrained: bool,
        device: str,
        force_image_size: int | Size | None,
        resize: Literal["keep", "squash"],
        max_tokens: int | None,
        batch_size: int | None,
        precision: Precision,
        contamination: float,
        aggregation_method: Aggregation,
        aggregation_topk: float,
        random_seed: int,
        **reading: Any,
    ) -> None:
        check_number("contamination", contamination, above=0, most=0.5)
        check_choice("aggregation_method", aggregation_method, AGGREGATIONS)
        check_number("aggregation_topk", aggregation_topk, above=0, most=1)
        super().__init__(contamination=contamination)
        self.embedder = embedder
        self.openclip_model_name = openclip_model_name
        self.openclip_pretrained = openclip_pretrained
        self.pretrained = pretrained
        self.device = device
        self.force_image_size = force_image_size
        self.resize = resize
        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self.precision = precision
        self.aggregation_method = aggregation_method
        self.aggregation_topk = aggregation_topk
        self.random_seed = random_seed
        self.canvas_: Size | None = None
        self._cache: ScoreCache[ImageScores] = ScoreCache()
        self._canvas_choice = threading.Lock()
        self._embedder: Any = (
            self._build_embedder(tokens, reading)
            if embedder is None
            else InjectedEmbedder(embedder)
        )

    def _build_embedder(self, tokens: Literal["aligned", "features"], reading: Any) -> Any:
        require("open_clip", extra="clip", purpose="OpenCLIP detectors")
        # Importing torch takes seconds; registering and listing models must stay instant.
        from .encoder import OpenCLIPPatchEmbedder

        return OpenCLIPPatchEmbedder(
            self.openclip_model_name,
            self.openclip_pretrained,
            tokens=tokens,
            device=self.device,
            image_size=self.force_image_size,
            resize=self.resize,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
            precision=self.precision,
            random_seed=self.random_seed,
            download=self.pretrained,
            **reading,
        )

    @abstractmethod
    def _scorer(self, canvas: Size | None) -> Scorer:
        """Freeze what scores on a canvas depend on; raises if the detector cannot score yet."""

    @abstractmethod
    def _learn(self, items: Sequence[Item], canvas: Size | None) -> Scores:
        """Learn from normal images and return their scores, none compared with itself."""

    def fit(
        self,
        x: object = None,
        y: object = None,  # noqa: ARG002 - scikit-learn's signature
        *,
        X: object = None,
    ) -> OpenCLIPDetector:
        """Learn from normal images and set the threshold.

        The threshold is the score that a further normal image exceeds with a chance of
        ``contamination``: of n training scores the one of rank (n + 1)(1 - ``contamination``),
        interpolated (Weibull, 1939), but at most the highest. If anything fails, the detector is
        left as it was.

        Args:
            x: Paths, or RGB arrays (H, W, 3) of uint8, or one stacked array (N, H, W, 3).
            y: Ignored; all images are taken as normal.
            X: Another name of ``x``.

        Returns:
            The detector itself.

        Raises:
            ValueError: If there is no image, or one cannot be read; the message names it.
        """
        items = as_items(one_of(x, X))
        canvas = self._embedder.choose_canvas(items)
        scores = self._learn(items, canvas)
        self.canvas_ = canvas
        self._cache.clear()
        self.decision_scores_ = scores
        self._process_decision_scores()
        return self

    def decision_function(self, x: object = None, *, X: object = None) -> Scores:
        """Image scores; higher is more anomalous.

        Args:
            x: Paths, or RGB arrays (H, W, 3) of uint8, or one stacked array (N, H, W, 3).
            X: Another name of ``x``.

        Returns:
            Shape (N,), float64.

        Raises:
            ValueError: If there is no image, or one cannot be read; the message names it.
        """
        items = as_items(one_of(x, X))
        return np.array([scored.image for scored in self._scored(items)], dtype=np.float64)

    def score_iter(self, x: Iterable[Item]) -> Iterator[ImageScores]:
        """Score images one by one, for folders and streams that do not fit into memory.

        Args:
            x: Paths or arrays; a generator is read as it is used, a few images ahead.

        Yields:
            For every image, in order, its image score, patch scores and size; its
            :meth:`~.maps.ImageScores.anomaly_map` is made when asked for.

        Raises:
            ValueError: If an image cannot be read; the message names it. Those before it have been
                given.
        """
        if isinstance(x, (str, bytes, os.PathLike)):
            as_items(x)  # says what is wrong with a single path
        source, first = iter(x), 0
        while chunk := list(islice(source, CHUNK)):
            yield from self._scored(chunk, first)
            first += len(chunk)

    def predict(
        self, x: object = None, return_confidence: bool = False, *, X: object = None
    ) -> Labels | tuple[Labels, Scores]:
        """Labels: 1 for an image whose score is above the threshold, else 0.

        Args:
            x: Paths or arrays, as for :meth:`decision_function`.
            return_confidence: Also return how sure each label is, in [0, 1].
            X: Another name of ``x``.

        Raises:
            RuntimeError: If there is no threshold yet.
        """
        found: Labels | tuple[Labels, Scores] = super().predict(one_of(x, X), return_confidence)
        return found

    def score_percentile(self, scores: npt.ArrayLike) -> Scores:
        """Share of the training scores below each score, comparable across detectors.

        Args:
            scores: Image scores as of :meth:`decision_function`, shape (N,).

        Returns:
            Shape (N,), float64, in [0, 1]; higher is more anomalous.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        if not hasattr(self, "decision_scores_"):
            raise RuntimeError("There are no training scores yet; call fit() first.")
        known = np.sort(self.decision_scores_)
        return np.searchsorted(known, np.asarray(scores, dtype=np.float64)) / len(known)

    def get_anomaly_map(self, image: Item) -> Floats:
        """Anomaly map of one image; higher is more anomalous.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.

        Returns:
            Shape (H, W) of the original image, float32.
        """
        return next(self.iter_anomaly_maps([image]))

    def predict_anomaly_map(self, x: object = None, *, X: object = None) -> Floats:
        """Anomaly maps of images of one size; higher is more anomalous.

        Args:
            x: Paths or arrays, as for :meth:`decision_function`.
            X: Another name of ``x``.

        Returns:
            Shape (N, H, W), float32.

        Raises:
            ValueError: If the images differ in size; :meth:`iter_anomaly_maps` takes those.
        """
        items = as_items(one_of(x, X))
        scored = []
        for item, result in zip(items, self._scored(items), strict=True):
            scored.append(result)
            if result.size != scored[0].size:
                raise ValueError(
                    f"The images differ in size: {describe(items[0])} is {_by(scored[0].size)}, "
                    f"{describe(item)} is {_by(result.size)} (height x width). One array cannot "
                    "hold both maps; use iter_anomaly_maps(), or one image at a time."
                )
        return np.stack([result.anomaly_map() for result in scored])

    def iter_anomaly_maps(self, x: object) -> Iterator[Floats]:
        """Anomaly maps one by one, for images of any sizes.

        Args:
            x: Paths or arrays, as for :meth:`decision_function`.

        Yields:
            For every image, in order, shape (H, W) of that image, float32.
        """
        for scored in self._scored(as_items(x)):
            yield scored.anomaly_map()

    def explain(
        self, image: Item, *, threshold: float | None = None, limit: int = 10
    ) -> list[Region]:
        """Say where an image is anomalous, and what was found there if the detector can tell.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.
            threshold: Map value above which a pixel is hot; None for the detector's own.
            limit: Most regions to return.

        Returns:
            The connected hot regions, hottest first; an empty list if no pixel is hot.

        Raises:
            RuntimeError: If the detector has no threshold yet.
        """
        self._fix_canvas([image])
        scorer = self._scorer(self.canvas_)
        (patches,) = self._stream([image], self.canvas_)
        scored = scorer(patches)
        found = scored.anomaly_map()
        hot = self._region_threshold() if threshold is None else threshold
        # OpenCV is loaded where images are, not where models are listed.
        from .regions import find_regions

        return [self._name_region(region, patches) for region in find_regions(found, hot, limit)]

    def _region_threshold(self) -> float:
        if not hasattr(self, "threshold_"):
            raise RuntimeError("There is no threshold yet; call fit(), or pass threshold=.")
        return float(self.threshold_)

    def _name_region(self, region: Region, _patches: PatchTokens) -> Region:
        return region

    def set_params(self, **params: Any) -> OpenCLIPDetector:
        """Change settings. The detector starts anew with them and has to be fitted again.

        Raises:
            ValueError: If a name is unknown or a value out of range; nothing is changed then.
        """
        current = self.get_params(deep=False)
        unknown = sorted(set(params) - set(current))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameter {', '.join(unknown)}.")
        self.__dict__ = type(self)(**{**current, **params}).__dict__
        return self

    def _process_decision_scores(self) -> OpenCLIPDetector:
        """Set threshold and training labels; without the host's bias on few images.

        The host takes ``np.percentile``, which 17 % of further normal images exceed instead of 10 %
        with ten training images.
        """
        super()._process_decision_scores()
        if self.threshold_method in ("quantile", "percentile"):
            scores, share = self.decision_scores_, 1 - self.contamination
            self.threshold_ = float(np.quantile(scores, share, method="weibull"))
            self.labels_ = (scores > self.threshold_).astype(np.int64)
        return self

    def _scored(self, items: Sequence[Item], first: int = 0) -> Iterator[ImageScores]:
        """Score images in order, each in one pass, recently scored ones in none.

        ``first`` is the place of the first one among all that the caller gave, for messages.
        """
        self._fix_canvas(items)
        canvas = self.canvas_
        scorer = self._scorer(canvas)
        keys = [(content_key(item), canvas, scorer.key) for item in items]
        known = [None if key[0] is None else self._recall(key) for key in keys]
        missing = [item for item, hit in zip(items, known, strict=True) if hit is None]
        fresh = self._stream(missing, canvas)
        for place, (key, hit) in enumerate(zip(keys, known, strict=True), start=first):
            scored = hit
            if scored is None:
                try:
                    scored = scorer(next(fresh))
                except ValueError as error:
                    raise ValueError(f"x[{place}]: {error}") from error
                if key[0] is not None:
                    self._cache.put(key, scored)
            yield scored

    def _recall(self, key: tuple[Hashable, Size | None, Hashable]) -> ImageScores | None:
        """Scores that need no pass, by the key of the image, canvas and scorer."""
        return self._cache.get(key)

    def _stream(self, items: Sequence[Item], canvas: Size | None) -> Iterator[PatchTokens]:
        """Everything that this detector reads of its images, in one pass."""
        stream: Iterator[PatchTokens] = self._embedder.stream(items, canvas)
        return stream

    def _fix_canvas(self, items: Sequence[Item]) -> None:
        """Choose the canvas once, so that all scores of a detector can be compared."""
        with self._canvas_choice:
            if self.canvas_ is None:
                self.canvas_ = self._embedder.choose_canvas(items)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_canvas_choice"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _canvas_choice=threading.Lock())


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
