"""A model of open_clip that is loaded on first use, and of which only the image tower stays."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import open_clip
import torch

from ..arrays import Floats
from . import weights
from .context import is_cut, warn_of_cut
from .hardware import heed_fork
from .neutral import neutral
from .towers import Tower, make_tower

TEXT_BATCH = 64  # sentences


class Loaded(NamedTuple):
    """A loaded image tower.

    Attributes:
        tower: The tower with what its family needs.
        preprocessing: Mean, standard deviation and interpolation that it was trained with.
    """

    tower: Tower
    preprocessing: dict[str, Any]


class LazyModel:
    """A model on a device; safe to use in threads, and loaded anew after pickling.

    Args:
        source: Where it comes from.
        device: Where it computes.
        dtype: Data type in which its image tower computes.
    """

    def __init__(self, source: weights.Source, device: torch.device, dtype: torch.dtype) -> None:
        self.source = source
        self._device, self._dtype = device, dtype
        self._loaded: Loaded | None = None
        self._identity: str | None = None
        self._loading = threading.RLock()

    @property
    def is_loaded(self) -> bool:
        """Whether the image tower is in memory."""
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """The image tower and its preprocessing, loaded on first use."""
        heed_fork()
        with self._loading:
            if self._loaded is None:
                self._load()
            return cast(Loaded, self._loaded)

    @property
    def identity(self) -> str:
        """What changes with the model and its weights; loads those from the Hugging Face hub."""
        with self._loading:
            if self._identity is None:
                if self.source.on_hub:
                    _ = self.loaded  # only loading fetches the revision that is used
                self._identity = self.source.identity
            return self._identity

    def encode(self, sentences: Sequence[str]) -> tuple[Floats, set[str]]:
        """The vectors of sentences as the text tower gives them, and those that were cut.

        The text tower is loaded for this and released afterwards.
        """
        heed_fork()
        vectors = []
        with neutral(self._device), torch.inference_mode():
            tokenizer = weights.get_tokenizer(self.source)
            cut = [text for text in sentences if is_cut(tokenizer, text)]
            text_tower = self._load().to(self._device)
            for start in range(0, len(sentences), TEXT_BATCH):
                ids = tokenizer(list(sentences[start : start + TEXT_BATCH])).to(self._device)
                vectors.append(text_tower.encode_text(ids).float().cpu().numpy())
        warn_of_cut(cut, tokenizer)
        return np.concatenate(vectors), set(cut)

    def _load(self) -> Any:
        """Load the model, keep its image tower unless there is one, and return the rest."""
        # The host scores in inference_mode; a tower converted there could not be used outside.
        with self._loading, neutral(self._device), torch.inference_mode(False):
            model = cast(Any, weights.load_model(self.source))
            if self._loaded is None:
                preprocessing = open_clip.get_model_preprocess_cfg(model.visual)
                tower = make_tower(model.visual.to(self._device, self._dtype))
                self._loaded = Loaded(tower, preprocessing)
            model.visual = None
            return model

    def __getstate__(self) -> dict[str, Any]:
        # The weights are loaded again after unpickling, which keeps the pickle small.
        return {**self.__dict__, "_loaded": None, "_identity": None, "_loading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _loading=threading.RLock())
