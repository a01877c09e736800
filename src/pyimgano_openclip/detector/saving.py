"""Saves detectors to checkpoints and reads them back, completely or not at all."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import Scores, Size
from ..bank.whole import Whole
from ..checks import check_count, check_number
from ..encoder.tokens import InjectedEmbedder
from ..files.checkpoint import (
    Checkpoint,
    CheckpointError,
    digest_of,
    header_text,
    plain,
    short,
    write_checkpoint,
)
from ..files.exported import is_exported
from ..files.tensor_file import Arrays
from ..images.roi import in_words, is_folder
from ..images.unreadable import or_raise
from ..version import __version__
from .learnt import Calibration, Learnt
from .thresholds import HOSTS, QUANTILE

if TYPE_CHECKING:
    from .base import OpenCLIPDetector

# Constructor arguments that affect where and how to compute, not the scores.
WORKING = {
    "embedder", "device", "batch_size", "precision", "contamination", "confidence", "on_error",
}  # fmt: skip
MODEL = {
    "openclip_model_name",
    "openclip_pretrained",
    "pretrained",
}  # identified by the weights instead
# Those by which more is learnt and arrays are read; no score of what was learnt depends on them.
# They are saved, but a loaded detector may have others.
LEARNING = {
    "coreset_sampling_ratio", "max_patches", "memory_bank_dtype", "max_comparisons",
    "threshold_rule", "random_seed", "channel_order",
}  # fmt: skip
TRAINING_SCORES = "training_scores"
OVERVIEW = "overview_"  # before the names of what a bank of images seen at once keeps
THRESHOLD_CHOSEN = "threshold_chosen"
POT = "peaks_over_threshold"  # the host's numbers for it; absent with quantiles
CALIBRATION, PARTS = "calibration_scores", "calibration_parts"
PEAKS = "calibration_peaks"  # the highest values of their maps, with prompts
# In the state of prompts: thresholds of images and of regions, and whether references set them.
THRESHOLDS, BY_REFERENCES = "thresholds", "by_references"
FITTED_ON = "fitted_on"  # what tells the images of fit from others


class Restored(NamedTuple):
    """What a checkpoint holds, not yet in place.

    Attributes:
        learnt: What scores depend on.
        contamination: The argument of that name.
        fitted: The attributes that the host sets and reads, as far as there were any.
        chosen: Whether the threshold is one that the caller had set.
        embedder: The detector's, with the projection of tokens that the file was made with.
    """

    learnt: Learnt
    contamination: float
    fitted: dict[str, Any]
    chosen: bool
    embedder: Any


def save(detector: OpenCLIPDetector, path: Path) -> Path:
    """Write a checkpoint; see ``OpenCLIPDetector.save_checkpoint``."""
    if is_exported(path):
        raise ValueError(
            f"{path} has the suffix of exported detectors, which export_onnx() writes; save to "
            f"another, such as {path.stem}.safetensors."
        )
    write_checkpoint(path, *_content(detector))
    return path


def digest(detector: OpenCLIPDetector) -> str:
    """Digest of the checkpoint that a detector would write."""
    header, arrays = _content(detector)
    return digest_of(header_text(header), arrays)


def _content(detector: OpenCLIPDetector) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a checkpoint."""
    with detector._lock:  # all of the same fit
        learnt = detector._to_save()
        header = {
            "package_version": __version__,
            "detector": type(detector).__name__,
            "model": _model(detector),
            "settings": _scoring_settings(detector),
            "learning": _settings_for_more(detector),
            **detector._shares(),
            "canvas": learnt.canvas,
            "threshold": getattr(detector, "threshold_", None),
            THRESHOLD_CHOSEN: detector.threshold_chosen_,
            **_pot(detector),
        }
        scores: Scores | None = getattr(detector, "decision_scores_", None)
    arrays, header["state"] = learnt.stored()
    if scores is not None:
        arrays = {**arrays, TRAINING_SCORES: scores}
    if learnt.whole is not None:
        arrays = {**arrays, **learnt.whole.arrays()}
    if learnt.calibration is not None:
        arrays = {**arrays, CALIBRATION: learnt.calibration.scores, PARTS: learnt.calibration.parts}
    return plain(header), arrays


def restored(detector: OpenCLIPDetector, checkpoint: Checkpoint) -> Restored:
    """Check a checkpoint against a detector, try it out, and return what it holds.

    Raises:
        ValueError: If it does not fit, or no detector would have written it.
    """
    with _refusing(checkpoint):
        _expect_settings(detector, checkpoint)
    mine = _model(detector)
    with _refusing(checkpoint):
        _expect_model(checkpoint, mine)
        learnt = detector._from_checkpoint(checkpoint, as_canvas(checkpoint.header["canvas"]))
        whole = Whole.restored(checkpoint)
        learnt = replace(learnt, calibration=saved_calibration(checkpoint), whole=whole)
        scores, most = detector._training_scores(checkpoint), detector._largest_score(learnt)
        contamination, fitted = _fitted(checkpoint, scores, most)
        fitted |= saved_method(checkpoint)
        chosen = threshold_chosen(checkpoint)
        embedder = _embedder(detector, checkpoint)
    _try_out(detector, embedder, checkpoint, learnt)
    return Restored(learnt, contamination, fitted, chosen, embedder)


def check_canvas(embedder: Any, canvas: Size | None) -> None:
    """Raise a ValueError unless an embedder would choose this canvas for some images."""
    injected = isinstance(embedder, InjectedEmbedder)
    if canvas is None if injected else canvas and embedder.canvases.may_choose(canvas):
        return
    raise ValueError(f"this detector never resizes images to {canvas}.")


def as_canvas(saved: Any) -> Size | None:
    """Check (height, width) read from JSON."""
    if saved is None:
        return None
    height, width = saved
    check_count("canvas", height)
    check_count("canvas", width)
    return height, width


def _expect_settings(detector: OpenCLIPDetector, checkpoint: Checkpoint) -> None:
    """Raise a ValueError unless the checkpoint's settings are equal to the detector's."""
    header, name = checkpoint.header, type(detector).__name__
    checkpoint.expect("detector", header["detector"], name, "Load it with that class.")
    saved, own = header["settings"], _scoring_settings(detector)
    for name in sorted({*saved, *own} - WORKING - LEARNING):
        if name == "roi":
            _expect_roi(saved.get(name), own[name], checkpoint)
            continue
        remedy = f"Create the detector with {name}={short(saved.get(name))}, or fit again."
        checkpoint.expect(name, saved.get(name), own.get(name), remedy)


def _expect_roi(saved: Any, own: Any, checkpoint: Checkpoint) -> None:
    """Raise an error unless the same is looked at; of masks the run lengths would fill a page."""
    if saved == plain(own) or (is_folder(saved) and is_folder(own)):
        return  # the masks of other images may be elsewhere
    there, here = in_words(saved), in_words(own)
    raise CheckpointError(
        f"{checkpoint.path} was saved with roi = {there}, but this detector has "
        f"{'another' if there == here else here}. Create the detector with the same roi, or fit "
        "again."
    )


def _expect_model(checkpoint: Checkpoint, mine: Mapping[str, Any]) -> None:
    """Raise a ValueError unless the weights, or the classes of custom embedders, are the same."""
    saved = checkpoint.header["model"]
    if any(saved.get(key) != mine.get(key) for key in ("weights", "embedder")):
        checkpoint.expect("model", saved, mine, "Create the detector with the saved model.")


def _embedder(detector: OpenCLIPDetector, checkpoint: Checkpoint) -> Any:
    """The detector's embedder, with the projection that a checkpoint was made with."""
    if isinstance(detector._embedder, InjectedEmbedder):
        return detector._embedder
    saved = checkpoint.header["model"].get("projection", "gaussian")  # version 0.1.0 knew only that
    return detector._embedder.with_projection(saved)


def _scoring_settings(detector: OpenCLIPDetector) -> dict[str, Any]:
    free = WORKING | MODEL | LEARNING | detector._settings_of_no_score()
    settings: Mapping[str, Any] = detector.get_params(deep=False)
    scoring = {name: value for name, value in settings.items() if name not in free}
    scoring["roi"] = None if detector._roi is None else detector._roi.stored()
    # Not an argument of every detector, but another version may change the default.
    return {**scoring, "dimension": getattr(detector._embedder, "dimension", None)}


def _settings_for_more(detector: OpenCLIPDetector) -> dict[str, Any]:
    """What a loaded detector has unless it is told otherwise."""
    found = {name: getattr(detector, name) for name in LEARNING if hasattr(detector, name)}
    # Float32 can be computed everywhere, and whoever chose it has a threshold of its scores.
    return {**found, **({"precision": "float32"} if detector.precision == "float32" else {})}


def _pot(detector: OpenCLIPDetector) -> dict[str, Any]:
    """How peaks over a threshold set that of images, if they do."""
    method, *numbers = HOSTS
    if getattr(detector, method) in QUANTILE:
        return {}
    return {POT: {name: getattr(detector, name) for name in numbers}}


def _model(detector: OpenCLIPDetector) -> dict[str, Any]:
    embedder = detector._embedder
    if isinstance(embedder, InjectedEmbedder):
        return {"embedder": type(detector.embedder).__qualname__}
    return {
        "name": embedder.model_name,
        "pretrained": embedder.pretrained,
        "weights": embedder.fingerprint,
        "projection": embedder.projection,
    }


def _fitted(
    checkpoint: Checkpoint, scores: Scores | None, most: float
) -> tuple[float, dict[str, Any]]:
    """Contamination, and the attributes that the host sets and reads.

    Args:
        checkpoint: The file.
        scores: The training scores in it.
        most: The largest score of patches; earlier versions stored thresholds above it as well.
    """
    threshold, contamination = checkpoint.header["threshold"], checkpoint.header["contamination"]
    check_number("contamination", contamination, above=0, most=0.5)
    fitted: dict[str, Any] = {}
    if threshold is not None:
        check_number("threshold", threshold, above=-math.inf, most=sys.float_info.max)
        fitted["threshold_"] = min(float(threshold), most)
    if scores is not None:
        fitted["decision_scores_"] = scores
        fitted["labels_"] = (scores > fitted["threshold_"]).astype(np.int64)
    return float(contamination), fitted


def threshold_chosen(checkpoint: Checkpoint) -> bool:
    """Whether the threshold was set by the caller; files that do not tell are taken as computed.

    Raises:
        CheckpointError: If it is damaged.
    """
    chosen = checkpoint.header.get(THRESHOLD_CHOSEN, False)
    if type(chosen) is not bool:
        raise CheckpointError(
            f"{checkpoint.path} is damaged: {THRESHOLD_CHOSEN} is {short(chosen)}; expected true "
            "or false."
        )
    return chosen


def saved_method(checkpoint: Checkpoint) -> dict[str, Any]:
    """The attributes by which the host computes a threshold; quantiles in earlier versions.

    Raises:
        CheckpointError: If they are damaged.
    """
    method, *numbers = HOSTS
    if POT not in checkpoint.header:
        return {method: QUANTILE[0]}
    with _refusing(checkpoint):
        saved = checkpoint.header[POT]
        found = {
            name: check_number(name, saved[name], above=-math.inf, most=sys.float_info.max)
            for name in numbers
        }
    share, count = numbers
    return {method: "pot", share: found[share], count: int(found[count])}


def saved_calibration(checkpoint: Checkpoint) -> Calibration | None:
    """What the threshold follows from; version 0.1.0 kept the training scores only.

    Raises:
        CheckpointError: If it is damaged.
    """
    if CALIBRATION not in checkpoint.arrays:
        return None
    scores = checkpoint.numbers(CALIBRATION, 1, "float64")
    parts = checkpoint.numbers(PARTS, 1, "int64")
    if parts.shape != scores.shape:
        raise CheckpointError(f"{checkpoint.path} is damaged: not one part for each score.")
    return Calibration.of(scores, parts)


def saved_peaks(checkpoint: Checkpoint) -> Scores | None:
    """The highest map value of each image that the threshold follows from; None if not saved.

    Raises:
        CheckpointError: If it is damaged.
    """
    if PEAKS not in checkpoint.arrays:
        return None
    peaks: Scores = checkpoint.numbers(PEAKS, 1, "float64")
    if peaks.shape != checkpoint.numbers(CALIBRATION, 1, "float64").shape:
        raise CheckpointError(f"{checkpoint.path} is damaged: not one peak for each score.")
    return peaks


def _try_out(
    detector: OpenCLIPDetector, embedder: Any, checkpoint: Checkpoint, learnt: Learnt
) -> None:
    """Score a small grey image with what was learnt, unless the embedder is a custom one.

    Raises:
        CheckpointError: If that fails, or the detector would never choose the canvas.
    """
    try:
        if learnt.canvas is not None or checkpoint.header["state"]:
            check_canvas(embedder, learnt.canvas)
        if isinstance(embedder, InjectedEmbedder):
            return
        small, scorer = embedder.canvases.smallest(embedder.windows), detector._scorer(learnt)
        grey = [np.full((8, 8), 127, np.uint8)]
        outcomes = embedder.outcomes(grey, small, with_features=scorer.with_features)
        (patches,) = or_raise(outcomes)
        scorer(patches)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path} is damaged: {error}") from error


@contextmanager
def _refusing(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn any error caused by a file's content into one that names the file."""
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{checkpoint.path} is damaged: {error!r}") from error
