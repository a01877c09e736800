"""The arguments that all detectors share: checked, changed later on, or refused."""

from __future__ import annotations

import os
import threading
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..arrays import Size
from ..checks import check_choice, check_count, check_number, check_seed
from ..encoder.tokens import InjectedEmbedder, PatchEmbedder, Precision
from ..images.items import ORDERS, ChannelOrder
from ..maps.gaps import ON_ERROR, OnError
from ..maps.scores import AGGREGATIONS, Aggregation
from ..progress import usable_stderr

DEFAULT_MODEL = "ViT-B-16-plus-240"
DEFAULT_PRETRAINED = "laion400m_e31"
# Settings that can be changed without fitting again, and their values.
LIVE: Mapping[str, tuple[str, ...]] = {"channel_order": ORDERS, "on_error": ON_ERROR}
SHARES = {"contamination", "confidence"}  # on which only thresholds depend
CHANGEABLE = {*LIVE, *SHARES, "batch_size"}


@dataclass(kw_only=True, eq=False, repr=False)
class Arguments:
    """The arguments, which the detectors document, and the embedder that follows from them."""

    embedder: PatchEmbedder | None = None
    openclip_model_name: str = DEFAULT_MODEL
    openclip_pretrained: str | os.PathLike[str] | None = DEFAULT_PRETRAINED
    pretrained: bool = True
    device: str = "auto"
    force_image_size: int | Size | None = None
    resize: Literal["keep", "squash"] = "keep"
    max_tokens: int | None = None
    smallest_defect: float | None = None
    roi: Any = None
    aggregation_method: Aggregation = "topk_mean"
    aggregation_topk: float | None = None
    contamination: float = 0.1
    batch_size: int | None = None
    precision: Precision = "auto"
    random_seed: int = 0
    channel_order: ChannelOrder = "rgb"
    on_error: OnError = "raise"

    _lock: ClassVar[Any]

    def __post_init__(self) -> None:
        # Until there is something anew, no threshold follows the share that the host assigns.
        self.__dict__.pop("_learnt", None)
        for name in CHANGEABLE & self.__dict__.keys():
            self._put(name, self._checked(name, self.__dict__[name]))
        check_choice("aggregation_method", self.aggregation_method, AGGREGATIONS)
        if self.aggregation_topk is not None:
            topk = check_number("aggregation_topk", self.aggregation_topk, above=0, most=1)
            self._put("aggregation_topk", topk)
        check_seed(self.random_seed)
        if isinstance(self.openclip_pretrained, os.PathLike):
            self._put("openclip_pretrained", os.fspath(self.openclip_pretrained))
        if self.embedder is not None and self.smallest_defect is not None:
            raise ValueError(
                f"smallest_defect={self.smallest_defect!r} is for the package's own towers; "
                "embedder= chooses its resolution itself. Leave out one of them."
            )
        self._embedder: Any = (
            self._build_embedder() if self.embedder is None else InjectedEmbedder(self.embedder)
        )
        # Held while what is learnt is replaced, or read together with the threshold.
        self.__dict__.setdefault("_lock", threading.RLock())

    def _build_embedder(self) -> Any:
        from pyimgano.utils.optional_deps import require

        with usable_stderr():  # the host writes to it
            require("open_clip", extra="clip", purpose="OpenCLIP detectors")
        # Importing torch takes seconds; registering and listing models must be instant.
        from ..encoder.embedder import OpenCLIPPatchEmbedder

        return OpenCLIPPatchEmbedder(
            self.openclip_model_name,
            self.openclip_pretrained,
            device=self.device,
            image_size=self.force_image_size,
            max_tokens=self.max_tokens,
            smallest_defect=self.smallest_defect,
            batch_size=self.batch_size,
            precision=self.precision,
            random_seed=self.random_seed,
            download=self.pretrained,
            **{"resize": self.resize, **self._embedder_settings()},
        )

    @abstractmethod
    def _embedder_settings(self) -> dict[str, Any]:
        """The embedder's arguments that differ between detectors."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__ or name not in self.__dataclass_fields__:
            super().__setattr__(name, value)
        elif value is not self.__dict__[name] or (name in SHARES and "_learnt" in self.__dict__):
            self._change(name, value)

    def _put(self, name: str, value: Any) -> None:
        """Set an argument to what it means, or to what a checkpoint has."""
        self.__dict__[name] = value

    def _checked(self, name: str, value: Any) -> Any:
        """An argument that can be changed later on, if it is in range."""
        if name == "contamination":
            return check_number(name, value, above=0, most=0.5)
        if name in LIVE:
            check_choice(name, value, LIVE[name])
        elif value is not None:
            check_count(name, value)
        return value

    def _change(self, name: str, value: Any) -> None:
        """Change an argument after construction, by assignment.

        Raises:
            AttributeError: If more than thresholds depends on it.
        """
        if name not in {*self._live_settings(), *SHARES, "batch_size"}:
            raise AttributeError(
                f"{name} of {type(self).__name__} cannot be assigned, since the model or what was "
                f"learnt depends on it; use set_params({name}=...), which discards what was learnt."
            )
        value = self._checked(name, value)
        with self._lock:
            self._put(name, value)
            if name == "batch_size" and not isinstance(self._embedder, InjectedEmbedder):
                self._embedder.batch_size = value
            if name in SHARES:
                self._thresholds_follow()

    def _thresholds_follow(self) -> None:
        """Set thresholds again, if there are some, by other shares."""

    def _live_settings(self) -> frozenset[str]:
        """Arguments that can be changed now without fitting again."""
        return frozenset(LIVE)
