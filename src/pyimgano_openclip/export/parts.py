"""Builds the network of a detector from what it has learnt, one function for each detector."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from ..arrays import Size
from ..bank.scorer import NearestScorer
from ..bank.whole import Whole
from ..detector.base import OpenCLIPDetector
from ..encoder.neutral import neutral
from ..pool.scorer import PoolScorer
from ..prompts.scorer import PromptScorer
from .looked_at import LookedAt, looked_at
from .nearest import BlockSearch, ImageScore, NearestScoring
from .network import Network
from .places import Places, Spread
from .pooled import PoolScoring
from .portraits import PortraitDistance
from .prompted import prompt_scoring
from .sight import build_sight
from .twofold import Finer, TwofoldScoring


def build_network(detector: OpenCLIPDetector) -> Network:
    """The network of a detector that :func:`~.refusals.check_exportable` accepts."""
    scoring = detector._freeze([])
    embedder, canvas = scoring.embedder, cast(Size, scoring.canvas)
    looked = looked_at(detector)
    request = embedder._request(with_features=scoring.scorer.with_features)
    with neutral(), torch.no_grad():
        places = Places(looked.inside)
        whole = cast(Whole | None, scoring.whole)
        network = Network(
            build_sight(embedder, canvas, request),
            _head(scoring.scorer, places, looked),
            places,
            Spread(looked.grid, canvas, detector.map_smoothing, looked.inside, looked.pixels),
            detector.label_threshold(),
            None if whole is None else PortraitDistance(whole, looked.inside),
        )
        return network.eval()


def _head(scorer: object, places: Places, looked: LookedAt) -> nn.Module:
    if isinstance(scorer, PromptScorer):
        return prompt_scoring(scorer, places)
    if isinstance(scorer, PoolScorer):
        return PoolScoring(scorer, places)
    scorer = cast(NearestScorer, scorer)
    search, *others = (
        BlockSearch(bank.tokens, min(scorer.n_neighbors, len(bank)))
        for bank in (scorer.bank, scorer.overview)
        if bank is not None
    )
    aggregation = ImageScore(scorer.aggregation, scorer.topk)
    if not others:
        return NearestScoring(search, aggregation, places)
    finer = Finer(cast(Size, looked.overview_grid), looked.grid, looked.overview_inside)
    return TwofoldScoring(search, others[0], aggregation, places, finer, scorer.unit)
