"""A detector read from an exported file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Scores, Size
from ..checks import check_choice, check_count, check_number
from ..detector import spans
from ..detector.learnt import image_scores
from ..detector.scoring import Scoring, score_all
from ..images.items import ORDERS, ChannelOrder, Item, as_items, as_stream
from ..maps.gaps import ON_ERROR, OnError
from ..maps.names import named
from ..maps.regions import Region, explained
from ..maps.scores import ImageScores
from ..recent import Recent
from .network import LikenessInside, OnnxNetwork, ScoredInside

Labels = npt.NDArray[np.int64]


class OnnxDetector:
    """A detector that was exported with ``pyimgano-openclip export``; safe to use in threads.

    It can be copied, and pickled for other processes, which open the file again by its path.

    Reads, resizes and scores images as the exported detector does in float32: scores differ by less
    than 1e-4. Images that it has learnt from are scored like new ones, so they find their own
    patches in a memory bank.

    ```python
    detector = OnnxDetector("screw.onnx")
    labels = detector.predict(["part1.png", "part2.png"])
    ```

    Args:
        path: The ONNX file.
        batch_size: Maximum number of images per pass; one of those that are seen through windows.
        threads: Number of threads that compute; None for one per core.
        channel_order: Channel order of arrays: ``"rgb"``, or ``"bgr"`` as OpenCV reads them; None
            for that of the exported detector. Files are not affected. Can be changed at any time.
        on_error: What becomes of unreadable images: ``"raise"``, or ``"nan"`` to set their scores
            and maps to NaN and their labels to 1, with one warning that counts them. Can be changed
            at any time.

    Attributes:
        threshold_: Image score above which :meth:`predict` returns 1; can be set by the caller, to
            a number up to the largest score that patches can give, else a ValueError.
        facts: What the file says of itself; see :class:`~.facts.ExportedFacts`.

    Raises:
        ImportError: If onnxruntime is not installed.
        OSError: If the file cannot be opened.
        ValueError: If it is damaged or no exported detector, or an argument is out of range.
    """

    # Without a dictionary, whatever else is assigned is an error.
    __slots__ = ("_channel_order", "_on_error", "_scoring", "_threshold", "facts")

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int = 8,
        threads: int | None = None,
        channel_order: ChannelOrder | None = None,
        on_error: OnError = "raise",
    ) -> None:
        check_count("batch_size", batch_size)
        if threads is not None:
            check_count("threads", threads)
        self.on_error = on_error
        network = OnnxNetwork(Path(path), batch_size, threads)
        own = network.facts.channel_order
        self.channel_order = own if channel_order is None else channel_order
        self.facts, limits = network.facts, network.facts.whole
        self._threshold = network.facts.threshold
        self._scoring = Scoring(
            network,
            network.facts.canvas,
            settled=True,
            scorer=ScoredInside(network),
            channel_order=self.channel_order,
            on_error=on_error,
            cache=Recent(),
            whole=None if limits is None else LikenessInside(limits),
            roi=self.facts.area,
            detector=self.facts.detector,
        )

    @property
    def channel_order(self) -> ChannelOrder:
        """Channel order of arrays."""
        return self._channel_order

    @channel_order.setter
    def channel_order(self, value: ChannelOrder) -> None:
        check_choice("channel_order", value, ORDERS)
        self._channel_order = value

    @property
    def on_error(self) -> OnError:
        """What becomes of unreadable images."""
        return self._on_error

    @on_error.setter
    def on_error(self, value: OnError) -> None:
        check_choice("on_error", value, ON_ERROR)
        self._on_error = value

    @property
    def threshold_(self) -> float:
        """Image score above which :meth:`predict` returns 1."""
        return self._threshold

    @threshold_.setter
    def threshold_(self, value: float) -> None:
        most = spans.of_exported(self.facts.detector, self.facts.span)
        self._threshold = spans.check_threshold("threshold_", value, most)

    @property
    def canvas_(self) -> Size:
        """(height, width) in pixels to which images are resized."""
        return self.facts.canvas

    def score_iter(self, x: Iterable[Item], *, with_tokens: bool = False) -> Iterator[ImageScores]:
        """Score images one by one, in constant memory.

        Args:
            x: Images, as for :meth:`decision_function`, or a generator of them, of which at most
                one batch of images is taken ahead.
            with_tokens: Whether results carry what :meth:`explain` names defects by.

        Yields:
            For each image, in order, its scores; see :class:`~..maps.scores.ImageScores`.

        Raises:
            ValueError: If ``x`` is an empty list or a single image, or an image cannot be read; the
                message names it.
        """
        return score_all(as_stream(x), self._freeze, at_first=1, with_tokens=with_tokens)

    def decision_function(self, x: object) -> Scores:
        """Compute image scores; higher is more anomalous.

        Args:
            x: Images in any form that the README names, in a list or one stacked array
                (N, H, W, 3), or the path of a folder of them.

        Returns:
            Image scores, shape (N,), float64; NaN for unreadable images with ``on_error="nan"``.

        Raises:
            ValueError: If there is no image, or one cannot be read; the message names it.
        """
        return image_scores(self.score_iter(as_items(x)))

    def predict(self, x: object) -> Labels:
        """Label images: 1 if the score is above :attr:`threshold_` or unknown, else 0.

        Args:
            x: Images, as for :meth:`decision_function`.

        Returns:
            Labels, shape (N,), int64.

        Raises:
            ValueError: As for :meth:`decision_function`.
        """
        threshold = self.threshold_  # of the moment when the call began
        return (~(self.decision_function(x) <= threshold)).astype(np.int64)

    def get_anomaly_map(self, image: Item) -> Floats:
        """Compute the anomaly map of one image; higher is more anomalous.

        Args:
            image: An image in any form that the README names.

        Returns:
            Map of shape (H, W) of the original image, float32.

        Raises:
            ValueError: If the image cannot be read; the message names it.
        """
        (found,) = self.iter_anomaly_maps([image])
        return found

    def iter_anomaly_maps(self, x: object) -> Iterator[Floats]:
        """Compute anomaly maps one by one, each of shape (H, W) of its image, float32.

        Args:
            x: Images, as for :meth:`decision_function`, or a generator of them.

        Raises:
            ValueError: As for :meth:`score_iter`.
        """
        for scored in self.score_iter(x if isinstance(x, Iterator) else as_items(x)):
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
            Connected hot regions, hottest first, each down to 70 % of its own peak; without
            ``threshold`` an anomalous image that has none gets its hottest patch, with an area of
            0. Empty for an unreadable image with ``on_error="nan"``. If defects are named, the
            first has the name of the one that the image resembles, where it leads clearly.

        Raises:
            ValueError: If the image cannot be read, a number is out of range, or a result is of
                another detector or lacks tokens that are needed.
        """
        check_count("limit", limit)
        if threshold is not None:
            check_number("threshold", threshold, above=-math.inf, most=math.inf)
        names = self.facts.defect_names
        hot = self.region_threshold() if threshold is None else threshold
        flagged_above = self.threshold_ if threshold is None else math.inf
        scored = self._look(image)
        if scored.error is not None:
            return []
        regions = explained(scored, hot, flagged_above, limit)
        if not names or scored.tokens is None:
            return regions
        _, _, *logits = cast(Floats, scored.tokens.pooled)
        return named(regions, names, np.array(logits))

    def region_threshold(self) -> float:
        """Map value that a pixel has to exceed to be hot in :meth:`explain`.

        As of the exported detector, it moves in proportion to a :attr:`threshold_` that the caller
        sets, but not with prompts, where it is set apart.
        """
        hot, own = self.facts.region_threshold, self.facts.threshold
        apart = own == 0 or spans.regions_apart(self.facts.detector)
        return hot if apart else hot * (self._threshold / own)

    def _look(self, image: Item | ImageScores) -> ImageScores:
        """The scores of one image, with what names defects if there are any.

        Raises:
            ValueError: If the image cannot be read, or is a result that does not tell that.
        """
        names = self.facts.defect_names
        if not isinstance(image, ImageScores):
            (scored,) = self.score_iter([image], with_tokens=bool(names))
            return scored
        self._scoring.check(image, with_tokens=bool(names))
        told = None if image.tokens is None else image.tokens.pooled
        if names and image.tokens and (told is None or told.shape != (2 + len(names),)):
            raise ValueError(
                "This result was given by a detector that is not exported; one of an OnnxDetector "
                "was expected. Pass the image itself."
            )
        return image

    def _freeze(self, _items: Sequence[Item]) -> Scoring:
        order, on_error = self._channel_order, self._on_error
        return replace(self._scoring, channel_order=order, on_error=on_error)

    def __repr__(self) -> str:
        """Class and model of the exported detector, its canvas and the threshold, on one line."""
        facts = self.facts
        height, width = facts.canvas
        return (
            f"<OnnxDetector({facts.detector}, {facts.model_name}): images resized to {height} x "
            f"{width} pixels, threshold {self._threshold:.4g}>"
        )
