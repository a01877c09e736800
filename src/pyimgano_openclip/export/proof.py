"""Proves an exported file against its detector: the same images, scored by both."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from ..bank.whole import Whole, judged, portrait
from ..detector.base import OpenCLIPDetector
from ..detector.scoring import Scoring
from ..encoder.tokens import PatchTokens, outcomes_within
from ..images.items import Item, describe, in_rgb
from ..images.unreadable import or_raise
from ..maps.scores import ImageScores
from ..pool.scorer import PoolScorer
from ..runtime.detector import OnnxDetector
from ..runtime.network import distance_of

SCORES, MAPS = 1e-4, 1e-3  # largest difference that passes, for image scores and for map values
DISTANCES = 1e-2  # the same for distances to the training images as a whole, as a share of them


@dataclass(frozen=True)
class Comparison:
    """How an exported file differs from its detector on some images.

    Attributes:
        images: Number of images.
        score: Largest difference of image scores.
        map: Largest difference of map values, at the size of the images.
        distance: Largest difference of distances to the training images as a whole, as a share of
            those above 1.
        labels: Names of the images whose labels differ.
        known: Number of images that the detector was fitted on, or that are near copies of one in
            its pool. It does not compare them with themselves, so that their scores are higher than
            those that the file gives; here they are compared as if they were new.
    """

    images: int
    score: float
    map: float
    distance: float
    labels: tuple[str, ...]
    known: int = 0

    @property
    def passed(self) -> bool:
        """Whether no label differs, and nothing else by more than what is promised."""
        near = self.score <= SCORES and self.map <= MAPS and self.distance <= DISTANCES
        return near and not self.labels


def compare(
    detector: OpenCLIPDetector, exported: OnnxDetector, items: Sequence[Item]
) -> Comparison:
    """Score images with a detector and with its exported file, all as if they were new.

    Raises:
        ValueError: If an image cannot be read; the message names it.
    """
    threshold, images, score, maps, distance = detector.label_threshold(), 0, 0.0, 0.0, 0.0
    scoring, labels, known = detector._freeze(items), [], 0
    theirs = exported.score_iter(items, with_tokens=True)
    with closing(_as_new(scoring, items)) as ours:
        pairs = zip(items, ours, theirs, strict=True)
        for images, (item, own, other) in enumerate(pairs, start=1):  # noqa: B007
            score = _worse(score, abs(own.image - other.image))
            apart = np.abs(own.anomaly_map() - other.anomaly_map()).max()
            maps = _worse(maps, float(apart))
            distance = _worse(distance, _apart(cast(Whole | None, scoring.whole), own, other))
            if (own.image <= threshold) != (other.image <= exported.threshold_):
                labels.append(describe(item))
            known += _is_known(scoring.scorer, cast(PatchTokens, own.tokens))
    return Comparison(images, score, maps, distance, tuple(labels), known)


def _is_known(scorer: Any, patches: PatchTokens) -> bool:
    """Whether a detector compares an image otherwise than a new one; see :class:`Comparison`."""
    if isinstance(scorer, PoolScorer):
        return len(scorer.pool.copies_of(patches)) > 0
    return scorer.known(patches.identity) is not None


def _apart(whole: Whole | None, own: ImageScores, other: ImageScores) -> float:
    """Difference of distances to the training images as a whole; see :class:`Comparison`."""
    if whole is None:
        return 0.0
    expected = whole.distance(portrait(cast(PatchTokens, own.tokens)))
    found = distance_of(cast(PatchTokens, other.tokens))
    return abs(found - expected) / max(1.0, expected)


def _worse(known: float, found: float) -> float:
    """The larger of two differences; NaN is the largest."""
    return known if found <= known else found


def _as_new(scoring: Scoring, items: Sequence[Item]) -> Generator[ImageScores, None, None]:
    """Scores as of images that were never learnt from, of which the file knows nothing."""
    scorer = scoring.scorer
    if isinstance(scorer, PoolScorer):
        scorer = replace(scorer, with_copies=True)
    in_order = [in_rgb(item, scoring.channel_order) for item in items]
    outcomes = outcomes_within(
        scoring.embedder,
        scoring.roi,
        in_order,
        scoring.canvas,
        with_features=scorer.with_features,
    )
    with closing(outcomes):
        for patches in or_raise(outcomes):
            scored = scorer(replace(patches, identity=None))
            found = judged(scored, patches, scoring.whole, scorer.span)
            yield replace(found, tokens=patches, area=patches.area)
