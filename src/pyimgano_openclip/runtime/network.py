"""Runs an exported file with ONNX Runtime, a batch of images at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from ..arrays import Floats, Size
from ..bank.limits import Limits
from ..encoder.tokens import PatchTokens
from ..images.areas import either
from ..images.identity import Recall, Recalled, nothing_known
from ..images.items import Item, describe
from ..images.look import shrunk
from ..images.pixels import Pixels
from ..images.read_ahead import in_batches
from ..images.reading import Frame, read_frame
from ..images.unreadable import UnreadableError
from ..images.within import Within
from ..maps.scores import ImageScores
from .facts import ExportedFacts

# Names of the network's inputs and outputs; some only if there is what they tell.
IMAGES, WHOLE, SCORE, LABEL = "images", "whole", "score", "label"
PATCHES, MAP = "patch_scores", "anomaly_map"
DISTANCE, DEFECTS = "distance", "defect_logits"

T = TypeVar("T")


class OnnxNetwork:
    """An exported file, opened; in the role of an embedder, see ``detector/scoring.py``.

    The token of a patch is its score; the pooled token is the image score, followed by the distance
    to the training images as a whole (0 without any) and the logits of the named defects.

    Args:
        path: The file.
        batch_size: Maximum number of images per pass.
        threads: Number of threads; None for one per core.

    Raises:
        ImportError: If onnxruntime is not installed.
        OSError: If the file cannot be opened.
        ValueError: If it is damaged, or was not written by this package.
    """

    def __init__(self, path: Path, batch_size: int, threads: int | None) -> None:
        self._session, self.facts = _open(path, threads)
        self._given = (path.absolute(), batch_size, threads)
        self.batch = 1 if self.facts.second_canvas else batch_size  # the windows are a batch
        self._outputs = [name for name in outputs_of(self.facts) if name not in (LABEL, MAP)]

    def __reduce__(self) -> tuple[Any, ...]:
        """How to open the file again, in another process; the session cannot be sent there."""
        return _reopened, (self._given, self.facts)

    def __deepcopy__(self, memo: object) -> OnnxNetwork:
        """Itself: nothing in it changes, and it is safe in threads."""
        return self

    def outcomes(
        self,
        items: Iterable[Item],
        canvas: Size | None,
        *,
        with_features: bool = False,  # noqa: ARG002 - the signature of embedders
        recall: Recall[T] = nothing_known,
        lazily: bool = False,
    ) -> Generator[PatchTokens | UnreadableError | Recalled[T], None, None]:
        """Score images in order; see ``OpenCLIPPatchEmbedder.outcomes``."""
        read = partial(self._read, canvas=canvas, recall=recall)
        return in_batches(read, self._run, items, self.batch, lazily=lazily)

    def _read(self, item: Item, canvas: Size | None, recall: Recall[T]) -> Frame | Recalled[T]:
        facts = self.facts
        frame = read_frame(item, canvas, facts.resize_filter, recall, facts.second_canvas)
        if isinstance(frame, Frame) and facts.sizes and frame.size not in facts.sizes:
            given = item.item if isinstance(item, Within) else item
            raise UnreadableError(
                f"{describe(given)} has {either([frame.size])} pixels; the roi of this exported "
                f"file is for images of {either(facts.sizes)} (height x width)."
            )
        return frame

    def _run(self, frames: Sequence[Frame]) -> Iterator[PatchTokens]:
        given = {IMAGES: np.stack([frame.pixels for frame in frames])}
        if self.facts.second_canvas is not None:
            given[WHOLE] = np.stack([cast(Pixels, frame.whole) for frame in frames])
        found = self._session.run(self._outputs, given)
        told = dict(zip(self._outputs, found, strict=True))
        score, patches = told[SCORE], told[PATCHES]
        # Patches that are not looked at are NaN, the same ones on all images.
        unseen = np.isnan(patches).all(axis=0) & bool(self.facts.roi)
        if not np.isfinite(patches[:, ~unseen]).all() or not np.isfinite(score).all():
            raise RuntimeError("The exported network returned scores that are not finite.")
        distance = told.get(DISTANCE, np.zeros_like(score))
        logits = told.get(DEFECTS, np.zeros((len(score), 0), np.float32))
        pooled = np.concatenate([score[:, None], distance[:, None], logits], axis=1)
        for index, frame in enumerate(frames):
            yield PatchTokens(
                patches[index][..., None],
                frame.size,
                frame.identity,
                pooled=pooled[index],
                pages=frame.pages,
                range_used=frame.range_used,
                small=shrunk(frame.at_once),
                area=self.facts.area,
            )


@dataclass(frozen=True)
class ScoredInside:
    """Takes the scores that the network has computed; see :class:`~..detector.scoring.Scorer`."""

    network: OnnxNetwork

    @property
    def span(self) -> float:
        """That of the exported detector."""
        return self.network.facts.span

    @property
    def with_features(self) -> bool:
        """False."""
        return False

    def known(self, image: str | None) -> ImageScores | None:  # noqa: ARG002 - every image is scored
        """None."""
        return None

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """The scores of an image by what the network returned for it."""
        score = float(cast(Floats, patches.pooled)[0])
        scores: Floats = patches.tokens[..., 0]
        smoothing = self.network.facts.map_smoothing
        return replace(ImageScores.of(scores, score, patches.size), smoothing=smoothing)


@dataclass(frozen=True, eq=False)
class LikenessInside:
    """Tells by what the network has computed; see :class:`~..bank.whole.Likeness`."""

    limits: Limits

    def unlike(self, patches: PatchTokens, scores: Floats) -> str | None:
        """Why an image is unlike the training images; None if it is like them."""
        return self.limits.unlike(patches.size, patches.look, distance_of(patches), scores)


def distance_of(patches: PatchTokens) -> float:
    """The distance of an image to the training images as a whole; 0 without any."""
    return float(cast(Floats, patches.pooled)[1])


def inputs_of(facts: ExportedFacts) -> dict[str, Size]:
    """(height, width) of the images that a network takes, by the name of the input."""
    more = facts.second_canvas
    return {IMAGES: facts.canvas, **({WHOLE: more} if more else {})}


def outputs_of(facts: ExportedFacts) -> list[str]:
    """Names of all outputs of a network, in order."""
    more = {DISTANCE: facts.limits, DEFECTS: facts.defects}
    return [SCORE, LABEL, PATCHES, MAP, *(name for name, told in more.items() if told)]


def _reopened(given: tuple[Path, int, int | None], facts: ExportedFacts) -> OnnxNetwork:
    """Open a file again.

    Raises:
        ValueError: If it is no longer the same.
    """
    network = OnnxNetwork(*given)
    if network.facts != facts:
        raise ValueError(
            f"{given[0]} has been replaced since the detector was pickled; load it again."
        )
    return network


def _open(path: Path, threads: int | None) -> tuple[Any, ExportedFacts]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("Exported files need onnxruntime: pip install onnxruntime") from error
    with path.open("rb"):  # raises what onnxruntime would only paraphrase
        options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        facts = ExportedFacts.of_metadata(session.get_modelmeta().custom_metadata_map)
    except Exception as error:  # onnxruntime's errors have no type in common
        raise ValueError(f"{path} cannot be used: {str(error).rstrip('.')}.") from error
    found = {given.name: given.shape[1:] for given in session.get_inputs()}
    expected = {name: [*size, 3] for name, size in inputs_of(facts).items()}
    if found != expected:
        raise ValueError(f"{path} is damaged: it takes images of {found}, not {expected}.")
    return session, facts
