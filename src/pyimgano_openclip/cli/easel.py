"""Draws images while others are scored, so that their pixels need not be decoded again."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from ..arrays import Floats
from ..images.once import DecodedOnce
from .drawing import Drawing, choose, drawn, job_of, paint_one, settle
from .judging import Judge, labelled
from .results import Record, Results

SAMPLE = 16  # images by which colours are chosen while no more are scored
WAITING = 64 * 2**20  # pixels of images that may wait for these colours without being read again
AHEAD = 2  # images a thread that wait to be drawn


class Easel:
    """Draws images soon after they were scored; to be used as a context manager.

    At the end, :func:`~.drawing.draw_all` draws what is missing, and draws anew if the colours turn
    out not to do for all images.

    Args:
        results: Results folder to draw into.
        detector: Detector that computes the scores.
        count: Number of all images.
        maps: See :class:`~.drawing.Drawing`.
        overlays: See :class:`~.drawing.Drawing`.
    """

    def __init__(
        self, results: Results, detector: Judge, count: int, maps: str, overlays: str
    ) -> None:
        self._results, self._detector, self._count = results, detector, count
        self._kinds = {"maps": maps, "overlays": overlays}
        self._drawing: Drawing | None = None
        self._waiting: list[tuple[Record, Floats, DecodedOnce | None]] = []
        self._room = WAITING
        threads = os.cpu_count() or 1
        self._most = AHEAD * threads
        self._pending: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pyimgano-openclip-draw")

    def __enter__(self) -> Easel:  # noqa: PYI034 - as in TokenSpool
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        try:
            if failed is None:
                if self._waiting:
                    self._draw_waiting()
                while self._pending:
                    self._pending.popleft().result()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def draw(self, record: Record, patches: Floats, image: DecodedOnce | None) -> None:
        """Draw an image in its turn.

        Args:
            record: Of the image, as the results have it.
            patches: Its patch scores, shape (rows, cols).
            image: Where its pixels may still be.

        Raises:
            Exception: What drawing one of the images before has raised, such as a full disk.
        """
        if self._drawing is None and not self._waiting:
            self._drawing = drawn(self._results.folder, **self._kinds)
        self._room -= record["height"] * record["width"]
        self._waiting.append((record, patches, image if self._room > 0 else None))
        if self._drawing is not None or len(self._waiting) == SAMPLE:
            self._draw_waiting()

    def _draw_waiting(self) -> None:
        results, detector = self._results, self._detector
        if self._drawing is None:
            sample = [record for record, *_ in self._waiting]
            self._drawing = choose(results, detector, sample, self._count, **self._kinds)
            scored = [record for record in results.records.values() if "score" in record]
            settle(results, self._drawing, scored)
        for record, patches, image in self._waiting:
            fresh = labelled(results, record, detector)
            job = job_of(results, detector, self._drawing, fresh)
            if len(self._pending) >= self._most:
                self._pending.popleft().result()
            job = job._replace(scores=patches, image=image)
            self._pending.append(self._pool.submit(paint_one, self._drawing, job))
        self._waiting.clear()
        self._room = WAITING
