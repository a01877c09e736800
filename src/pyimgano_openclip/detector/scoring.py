"""The way of an image through a detector, the same for all of them.

item -> frame -> patch tokens (rows, cols, D) -> patch scores (rows, cols) and image score. Each
image is decoded and encoded once per call; maps are computed from the patch scores on request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

from ..arrays import Size
from ..bank.whole import Likeness, judged
from ..encoder.tokens import PatchTokens, outcomes_within
from ..images.identity import Recalled, nothing_known
from ..images.items import ChannelOrder, Item, in_rgb
from ..images.notices import FlatFrames, Pages, Ranges, Sizes
from ..images.roi import MaskFolder, Roi
from ..images.unreadable import UnreadableError
from ..maps.gaps import Gaps, OnError, gap
from ..maps.scores import ImageScores
from ..memory import out_of_memory_explained
from ..recent import Recent


class Scorer(Hashable, Protocol):
    """Everything that a score depends on but the image; equal scorers give equal scores."""

    @property
    def span(self) -> float:
        """Width of the range of image scores."""

    @property
    def with_features(self) -> bool:
        """Whether it needs feature tokens in addition to aligned ones."""

    def known(self, image: str | None) -> ImageScores | None:
        """The scores of an image that needs no pass, with its tokens if these are kept."""

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Score an image by its tokens; their identity tells whether it was learnt from."""


@dataclass(frozen=True)
class Scoring:
    """How the images of one call are read and scored, whatever happens to the detector meanwhile.

    Attributes:
        embedder: See :class:`~..encoder.embedder.OpenCLIPPatchEmbedder`.
        canvas: (height, width) in pixels to which images are resized; None if the embedder decides.
        settled: Whether the canvas has been chosen, or the embedder decides.
        scorer: What their tokens are compared with.
        channel_order: Channel order of arrays and tensors.
        on_error: What becomes of unreadable images.
        cache: Scores of recent images.
        whole: What tells images that are unlike the training images, compared by identity; None
            without any.
        roi: Where to look; None for everywhere.
        detector: Class of the detector, by which its results are told from others.
    """

    embedder: Any
    canvas: Size | None
    settled: bool
    scorer: Scorer
    channel_order: ChannelOrder
    on_error: OnError
    cache: Recent[ImageScores]
    whole: Likeness | None = None
    roi: Roi | None = None
    detector: str | None = None

    def outcomes(
        self, items: Iterable[Item], *, with_tokens: bool = False, lazily: bool = False
    ) -> Generator[ImageScores | UnreadableError, None, None]:
        """Score images in order, in one pass; without any where all that is wanted is known."""
        in_order = (in_rgb(item, self.channel_order) for item in items)
        # What an image scores may depend on its name, too, by which its mask is found.
        unknown = isinstance(self.roi, MaskFolder)
        known_enough = self._known_with_tokens if with_tokens else self._known
        read = outcomes_within(
            self.embedder,
            self.roi,
            in_order,
            self.canvas,
            with_features=self.scorer.with_features,
            recall=nothing_known if unknown else known_enough,
            lazily=lazily,
        )
        with out_of_memory_explained("an image's scores"), closing(read) as outcomes:
            for outcome in outcomes:
                if isinstance(outcome, UnreadableError):
                    yield outcome
                    continue
                known = isinstance(outcome, Recalled)
                scored = outcome.known if known else self._score(outcome)
                tokens = (scored.tokens if known else outcome) if with_tokens else None
                area = self.roi if known else outcome.area
                told = {"pages": outcome.pages, "range_used": outcome.range_used}
                yield replace(scored, **told, tokens=tokens, area=area, detector=self.detector)

    def check(self, scored: ImageScores, *, with_tokens: bool) -> None:
        """Check a result that a caller passes.

        Raises:
            ValueError: If another kind of detector gave it, or it lacks tokens that are needed.
        """
        if scored.detector not in (None, self.detector):
            raise ValueError(
                f"This result was given by {scored.detector}; one of {self.detector} was expected. "
                "Pass the image itself."
            )
        if with_tokens and scored.tokens is None and scored.error is None:
            raise ValueError(
                "This result has no patch tokens; score with score_iter(..., with_tokens=True), "
                "or pass the image itself."
            )

    def _known(self, image: str | None) -> ImageScores | None:
        if image is None:
            return None
        return self.scorer.known(image) or self.cache.get(self._key(image))

    def _known_with_tokens(self, image: str | None) -> ImageScores | None:
        scored = self.scorer.known(image)
        return None if scored is None or scored.tokens is None else scored

    def _score(self, patches: PatchTokens) -> ImageScores:
        image = patches.identity
        scored = self._known(image)
        if scored is None:
            scored = judged(self.scorer(patches), patches, self.whole, self.scorer.span)
            scored = replace(scored, look=patches.look)
            if image is not None:
                self.cache.put(self._key(image), scored)
        return scored

    def _key(self, image: str) -> Hashable:
        """All that the scores of an image depend on; a roi by its name is part of the image."""
        return image, self.canvas, self.scorer, self.whole


def score_all(
    items: Iterable[Item],
    freeze: Callable[[Sequence[Item]], Scoring],
    *,
    at_first: int,
    with_tokens: bool = False,
) -> Generator[ImageScores, None, None]:
    """Score images in order, all in the same way; unreadable ones are counted in one warning.

    Args:
        items: The images; those of an iterator are taken as they are scored.
        freeze: Decides on the way, given images by which a canvas can be chosen.
        at_first: Number of images that are looked at together until one of them is readable.
        with_tokens: Whether results carry their patch tokens.

    Raises:
        UnreadableError: If an image cannot be read and ``on_error`` is ``"raise"``.
        Exception: What the iterator raises, after all that it gave before have been scored.
    """
    scoring, source = freeze([]), iter(items)
    roi = scoring.roi
    notices = Notices(Gaps(), Pages(), Ranges("scored images"), FlatFrames(roi), Sizes(roi))
    each = partial(_each, notices=notices, with_tokens=with_tokens)
    lazily = not isinstance(items, Sequence)
    try:
        while not scoring.settled:
            first, failure = _take(source, at_first)
            if first:
                scoring = freeze(first)
                yield from each(scoring, first, lazily=lazily)
            if failure is not None:
                raise failure
            if not first:
                break
        else:
            yield from each(scoring, source, lazily=lazily)
    except GeneratorExit:  # the caller has seen enough
        notices.warn()
        raise
    notices.warn()


class Notices(NamedTuple):
    """What is to be told of the images of one call, each in one warning."""

    gaps: Gaps
    pages: Pages
    ranges: Ranges
    flat: FlatFrames
    sizes: Sizes

    def warn(self) -> None:
        """Tell it."""
        for notice in self:
            notice.warn()


def _each(
    scoring: Scoring,
    items: Iterable[Item],
    *,
    notices: Notices,
    with_tokens: bool,
    lazily: bool,
) -> Generator[ImageScores, None, None]:
    taken: deque[Item] = deque()
    gaps = notices.gaps

    def remembered() -> Iterator[Item]:
        for item in items:
            taken.append(item)
            yield item

    found = scoring.outcomes(remembered(), with_tokens=with_tokens, lazily=lazily)
    with closing(found) as outcomes:
        for outcome in outcomes:
            item = taken.popleft()
            if not isinstance(outcome, UnreadableError):
                notices.pages.add(item, outcome.pages)
                notices.ranges.add(outcome.range_used, doubtful=outcome.unlike is not None)
                notices.flat.add(item, outcome.unlike if scoring.whole is None else None)
                notices.sizes.add(outcome.size)
                yield outcome
            elif scoring.on_error == "nan":
                gaps.add(outcome.at(gaps.seen))
                yield gap(item, outcome)
            else:
                raise outcome.at(gaps.seen)
            gaps.seen += 1


def _take(source: Iterator[Item], count: int) -> tuple[list[Item], Exception | None]:
    """The next items, and what taking them raised before there were so many."""
    items: list[Item] = []
    try:
        items.extend(islice(source, count))
    except Exception as error:  # noqa: BLE001 - raised when these have been scored
        return items, error
    return items, None
