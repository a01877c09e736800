"""The command ``score``."""

from __future__ import annotations

import argparse
import hashlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..detector.base import OpenCLIPDetector
from ..detector.saving import MODEL, WORKING
from ..detector.spans import check_threshold
from ..files.atomic import check_writable
from ..files.checkpoint import read_checkpoint
from ..files.digest import digest_of_file
from ..images.roi import digest
from ..maps.gaps import UnreadableImageWarning
from ..mutual import VisionOpenCLIPMutual
from ..pool.gathering import TooFewError
from ..promptscore import VisionOpenCLIPPromptScore
from .answer import Answer
from .cluster import Cluster, joined
from .detectors import new_detector, pool_detector, report_settings, saved_detector, settings_of
from .drawing import draw_all, paint_here
from .easel import Easel
from .images import ImageFile, most_pixels
from .judging import Stored, training_scores
from .messages import as_usage
from .outcome import Run, answer
from .places import RUN
from .relabel import remember
from .remote_images import search
from .results import Results, check_settings, check_shared
from .scoring import score_into


def run(options: argparse.Namespace) -> Answer:
    """Score images into a folder, draw the pictures and write the report."""
    with most_pixels(options.max_pixels):
        return _run(options)


def _run(options: argparse.Namespace) -> Answer:
    found = search(options)
    if not options.overwrite:
        check_shared(options.out, [image.name for image in found.images])
    detector, seconds = _detector(options, found.images)
    detector.on_error = options.on_error
    own = getattr(detector, "threshold_", None)
    if options.threshold is not None:
        most = detector._largest_score(detector._learnt)
        with as_usage():
            detector.threshold_ = check_threshold("--threshold", options.threshold, most)
    with ExitStack() as stack:
        folder = score_folder(
            detector,
            found.images,
            options.out,
            saved=options.detector,
            maps=options.maps,
            overlays=options.overlays,
            overwrite=options.overwrite,
            cluster=None if options.ray is None else stack.enter_context(joined(options)),
        )
        done = stack.enter_context(folder)
        done.tally.seconds += seconds
        if options.threshold is None:
            own = detector.label_threshold()
        remember(options, done, _stored(detector, own))
        return answer(options, found, done)


def _detector(
    options: argparse.Namespace, sources: Sequence[ImageFile]
) -> tuple[OpenCLIPDetector, float]:
    """A saved detector, or a zero-shot one, or one that compares the images with each other.

    Returns:
        The detector, and how many seconds it took to compare the images.
    """
    if options.detector is not None:
        return saved_detector(options), 0.0
    if options.class_name is not None:
        return new_detector(options), 0.0
    detector = pool_detector(options)
    _check_place(options, detector)
    paths = [source.path for source in sources if source.problem is None]
    with warnings.catch_warnings():
        # They are reported in the results and in the answer.
        warnings.simplefilter("ignore", UnreadableImageWarning)
        start = time.perf_counter()
        try:
            detector.fit(paths, skip_unreadable=options.on_error == "nan")
        except TooFewError as error:
            raise TooFewError(
                f"{error} Otherwise pass --detector FILE of 'fit', or --class-name."
            ) from error
        return detector, time.perf_counter() - start


def _check_place(options: argparse.Namespace, detector: OpenCLIPDetector) -> None:
    """Check that results can be written before all images are compared; this loads the model."""
    check_writable(options.out / RUN)
    known = _chosen(detector, settings_of(detector))
    known.pop("roi", None)  # which is read with the images
    if not options.overwrite:
        check_settings(options.out, known)


@contextmanager
def score_folder(
    detector: OpenCLIPDetector,
    sources: Sequence[ImageFile],
    out: Path,
    *,
    saved: Path | None = None,
    maps: str = "png",
    overlays: str = "all",
    overwrite: bool = False,
    cluster: Cluster | None = None,
) -> Iterator[Run]:
    """Score and draw images, keeping what an earlier run with equal settings did.

    To be used as a context manager, inside which no other run writes into the folder.

    Args:
        detector: Detector that is ready to score; see :func:`~.scoring.score_into` for its
            ``on_error``.
        sources: Images to score.
        out: Results folder; see :class:`~.results.Results`.
        saved: File that the detector was loaded from, if any.
        maps: See :class:`~.drawing.Drawing`.
        overlays: See :class:`~.drawing.Drawing`.
        overwrite: Whether to discard earlier results.
        cluster: Workers to score and draw; None for this process.
    """
    settings = settings_of(detector)
    if isinstance(detector, VisionOpenCLIPPromptScore):
        detector.read_references()  # they may set the threshold
    identity = _identity(detector, settings, saved)
    names = [source.name for source in sources if source.problem is None]
    with closing(Results(out, identity, names, overwrite=overwrite)) as results:
        if cluster:
            tally = score_into(results, detector, sources, cluster.score)
        else:
            with Easel(results, detector, len(sources), maps, overlays) as easel:
                tally = score_into(results, detector, sources, draw=easel.draw)
        drawing = draw_all(
            results,
            detector,
            tally.records,
            maps=maps,
            overlays=overlays,
            more=tally.scored > 0,
            paint=cluster.paint if cluster else paint_here,
        )
        yield Run(results, detector, drawing, tally, report_settings(detector, saved))


def _stored(detector: OpenCLIPDetector, threshold: float | None) -> Stored:
    """What labels the results by another threshold.

    Args:
        detector: The detector after scoring.
        threshold: Its own one, if it has any.
    """
    usual = detector.usual()
    return Stored(
        detector=type(detector).__name__,
        map_smoothing=detector.map_smoothing,
        threshold=threshold,
        region=None if detector.region_share() else detector.region_threshold(),
        training=tuple(float(score) for score in training_scores(detector)),
        roi=None if detector.roi_ is None else detector.roi_.stored(),
        share=detector.region_share(),
        looks=() if usual is None else tuple(map(tuple, usual.looks.tolist())),
        parts=0 if usual is None else usual.parts,
        largest=detector._largest_score(detector._learnt),
    )


def _identity(
    detector: OpenCLIPDetector, settings: Mapping[str, Any], saved: Path | None
) -> dict[str, Any]:
    """Everything that a result depends on, without settings that only affect speed."""
    identity = _chosen(detector, settings)
    identity |= _content_given(detector)
    if saved is not None:
        identity["saved"] = read_checkpoint(saved).scoring_digest
    return identity


def _chosen(detector: OpenCLIPDetector, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The part of it that is known before any image is read; loads the model."""
    working = WORKING | MODEL | {"threshold_rule"}
    chosen = {name: value for name, value in settings.items() if name not in working}
    return {**chosen, "weights": detector.model_identity}


def _content_given(detector: OpenCLIPDetector) -> dict[str, Any]:
    """Digests of what the detector was given to compare with, by argument; paths say too little."""
    given = detector.get_params(deep=False)
    found: dict[str, Any] = {}
    if isinstance(detector, VisionOpenCLIPMutual):
        images = [image.identity for image in detector.pool_.images]
        found["pool"] = hashlib.blake2b("\n".join(map(str, images)).encode()).hexdigest()
    if detector.roi_ is not None:
        found["roi"] = digest(detector.roi_)
    if given.get("references") is not None:
        found["references"] = [_digest_of(item) for item in given["references"]]
    for name in ("text_features_normal", "text_features_anomaly"):
        if given.get(name) is not None:
            found[name] = _digest_of(np.asarray(given[name], np.float32))
    return found


def _digest_of(item: Any) -> str | None:
    if isinstance(item, (str, os.PathLike)):
        return digest_of_file(Path(item))
    array = np.ascontiguousarray(item)
    return hashlib.blake2b(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()
