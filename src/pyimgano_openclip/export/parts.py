"""Builds the network of a detector from what it has learnt, one function for each detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from ..arrays import Size
from ..bank.scorer import NearestScorer
from ..bank.whole import Whole
from ..detector.base import OpenCLIPDetector
from ..encoder.features import fuse_features
from ..encoder.neutral import neutral
from ..prompts.references import References
from ..prompts.scorer import PromptScorer
from .baked import baked
from .network import BlockSearch, ImageScore, NearestScoring, Network, PromptScoring
from .portraits import PortraitDistance

Fuse: TypeAlias = Callable[[Sequence[Tensor]], Tensor]


def build_network(detector: OpenCLIPDetector) -> Network:
    """The network of a detector that :func:`~.refusals.check_exportable` accepts."""
    scoring = detector._freeze([])
    embedder, scorer = scoring.embedder, scoring.scorer
    request = embedder._request(with_features=scorer.with_features)
    fuse = partial(
        fuse_features, neighbourhoods=embedder.neighbourhoods, projection=embedder._projection
    )
    with neutral(), torch.no_grad():
        if isinstance(scorer, PromptScorer):
            head: nn.Module = _prompts(scorer, fuse)
        else:
            head = _nearest(cast(NearestScorer, scorer), fuse)
        tower = baked(embedder.tower, cast(Size, scoring.canvas))
        preprocessing = embedder.loaded.preprocessing
        portraits = None if scoring.whole is None else PortraitDistance(cast(Whole, scoring.whole))
        threshold = detector.label_threshold()
        return Network(tower, preprocessing, request, head, threshold, portraits).eval()


def _nearest(scorer: NearestScorer, fuse: Fuse) -> NearestScoring:
    search = BlockSearch(scorer.bank.tokens, min(scorer.n_neighbors, len(scorer.bank)))
    return NearestScoring(fuse, search, ImageScore(scorer.aggregation, scorer.topk))


def _prompts(scorer: PromptScorer, fuse: Fuse) -> PromptScoring:
    references = cast(References | None, scorer.references)
    search = None if references is None else BlockSearch(references.bank.tokens, 1)
    return PromptScoring(scorer, fuse, search, ImageScore(scorer.aggregation, scorer.topk))
