"""Base class of both detectors: settings, fit, threshold, and registry metadata.

Scoring is in ``scoring.py``, saving in ``saving.py``.
"""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pyimgano.utils.optional_deps import require

from . import __version__
from .checks import check_choice, check_count, check_number, check_seed, one_of
from .embedding import InjectedEmbedder, PatchEmbedder, Precision, Size
from .gaps import ON_ERROR, OnError
from .items import ORDERS, ChannelOrder, Item, as_items
from .maps import AGGREGATIONS, Aggregation, ImageScores
from .memory import memory_for
from .saving import SavedDetector
from .score_cache import ScoreCache
from .scoring import Scores, ScoringDetector
from .showing import ShownDetector

DEFAULT_MODEL = "ViT-B-16-plus-240"
DEFAULT_PRETRAINED = "laion400m_e31"
# Registry tags and metadata of both detectors; the host interprets some of the tags.
TAGS = ("vision", "deep", "clip", "openclip", "numpy", "pixel_map")
METADATA = {
    "backend": "openclip",
    "supports_save_load": True,
    "provider": "pyimgano-openclip",
    "provider_version": __version__,
}
LIVE = {"on_error"}  # settings that can be changed without fitting again


class OpenCLIPDetector(SavedDetector, ShownDetector, ScoringDetector):
    """Base class of both detectors, which document the arguments.

    Attributes:
        decision_scores_: Image scores of the training images, shape (N,), after :meth:`fit`.
        threshold_: Image score above which an image is anomalous. Not set before :meth:`fit`; can
            be set by the caller.
        labels_: 1 for each training image above the threshold, else 0, shape (N,).
        canvas_: (height, width) in pixels to which images are resized; None before the first image
            and with a custom embedder.
        registry_tags: Tags in the host's registry.
        registry_metadata: Metadata in the host's registry.
    """

    registry_tags: ClassVar[tuple[str, ...]]
    registry_metadata: ClassVar[Mapping[str, Any]]

    def __init__(
        self,
        *,
        tokens: Literal["aligned", "features"],
        embedder: PatchEmbedder | None,
        openclip_model_name: str,
        openclip_pretrained: str | os.PathLike[str] | None,
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
        channel_order: ChannelOrder,
        on_error: OnError,
        **reading: Any,
    ) -> None:
        contamination = check_number("contamination", contamination, above=0, most=0.5)
        check_choice("aggregation_method", aggregation_method, AGGREGATIONS)
        aggregation_topk = check_number("aggregation_topk", aggregation_topk, above=0, most=1)
        if batch_size is not None:
            check_count("batch_size", batch_size)
        check_choice("channel_order", channel_order, ORDERS)
        check_choice("on_error", on_error, ON_ERROR)
        check_seed(random_seed)
        super().__init__(contamination=contamination)
        self.embedder = embedder
        self.openclip_model_name = openclip_model_name
        if isinstance(openclip_pretrained, os.PathLike):
            openclip_pretrained = os.fspath(openclip_pretrained)
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
        self.channel_order = channel_order
        self.on_error = on_error
        self.canvas_: Size | None = None
        self._cache: ScoreCache[ImageScores] = ScoreCache()
        self._last = None, None
        self._canvas_choice = threading.Lock()
        self._embedder: Any = (
            self._build_embedder(tokens, reading)
            if embedder is None
            else InjectedEmbedder(embedder)
        )

    def _build_embedder(self, tokens: Literal["aligned", "features"], reading: Any) -> Any:
        require("open_clip", extra="clip", purpose="OpenCLIP detectors")
        # Importing torch takes seconds; registering and listing models must be instant.
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
    def _learn(self, items: Sequence[Item], canvas: Size | None) -> tuple[Scores, dict[str, Any]]:
        """Learn from normal images.

        Returns:
            Their scores, none compared with itself, and the attributes that hold the result.
        """

    def fit(
        self,
        x: object = None,
        y: object = None,  # noqa: ARG002 - scikit-learn's signature
        *,
        X: object = None,
    ) -> OpenCLIPDetector:
        """Learn from normal images and set the threshold.

        The threshold is the score that a new normal image exceeds with probability
        ``contamination``: of n training scores the one of rank (n + 1)(1 - ``contamination``),
        interpolated (Weibull, 1939), but at most the highest. If anything fails or is interrupted,
        the detector is left unchanged.

        Patch-kNN keeps the tokens of all images until the end, which takes number of images x
        patches per image x token length (384 for open_clip's towers) x 4 bytes, or 2 with
        ``memory_bank_dtype="float16"``. Beyond 64 MiB they are kept in an unnamed file in the
        temporary directory, which the environment variable ``TMPDIR`` sets.

        Args:
            x: Paths, RGB arrays (H, W, 3) of uint8, or one stacked array (N, H, W, 3).
            y: Ignored; all images are assumed to be normal.
            X: Alias for ``x``.

        Returns:
            The detector itself.

        Raises:
            ValueError: If there is no image, or one cannot be read, regardless of ``on_error``; the
                message names it.
            OSError: If the disk with the temporary directory is full.
        """
        items = as_items(one_of(x, X))
        canvas = self._fit_canvas(items)
        with memory_for(f"what is learnt from {len(items)} images"):
            scores, learnt = self._learn(items, canvas)
        self._accept(scores, {**learnt, "canvas_": canvas})
        return self

    def _fit_canvas(self, items: Sequence[Item]) -> Size | None:
        canvas: Size | None = self._embedder.choose_canvas(items)
        return canvas

    def _accept(self, scores: Scores, learnt: Mapping[str, Any]) -> None:
        """Take over the result of learning and set the threshold, completely or not at all."""
        before = dict(self.__dict__)
        try:
            self.__dict__.update(learnt, _cache=ScoreCache(), decision_scores_=scores)
            self._process_decision_scores()
        except BaseException:
            self.__dict__ = before
            raise

    def set_params(self, **params: Any) -> OpenCLIPDetector:
        """Change settings.

        ``on_error`` can be changed at any time. Any other setting resets the detector: everything
        that was fitted or loaded is discarded, including a ``threshold_`` set by the caller and the
        choice of ``use_pot_thresholding()``.

        Raises:
            ValueError: If a name is unknown or a value is out of range; nothing changes then.
        """
        current = self.get_params(deep=False)
        unknown = sorted(set(params) - set(current))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameter {', '.join(unknown)}.")
        if set(params) <= LIVE:
            check_choice("on_error", params.get("on_error", self.on_error), ON_ERROR)
            self.__dict__.update(params)
            return self
        self.__dict__ = type(self)(**{**current, **params}).__dict__
        return self

    def _process_decision_scores(self) -> OpenCLIPDetector:
        """Set the threshold and the training labels without the host's bias for few images.

        The host uses ``np.percentile``: with ten training images, 17 % of new normal images exceed
        it instead of 10 %.
        """
        super()._process_decision_scores()
        if self.threshold_method in ("quantile", "percentile"):
            self.threshold_ = self._upper_quantile(self.decision_scores_)
            self.labels_ = (self.decision_scores_ > self.threshold_).astype(np.int64)
        return self

    def _upper_quantile(self, scores: Scores) -> float:
        """The value that a new score exceeds with probability ``contamination``."""
        return float(np.quantile(scores, 1 - self.contamination, method="weibull"))

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_canvas_choice", "_last")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _canvas_choice=threading.Lock(), _last=(None, None))
