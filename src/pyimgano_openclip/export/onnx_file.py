"""Traces a detector's network, writes it to an ONNX file and proves that file."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from ..arrays import Size
from ..bank.whole import Whole
from ..detector import saving
from ..detector.base import OpenCLIPDetector
from ..encoder.neutral import neutral
from ..files.atomic import folder_beside, naming
from ..files.exported import SUFFIX
from ..images.items import Item, as_source
from ..images.notices import FlatFrameWarning
from ..progress import bar
from ..runtime.detector import OnnxDetector
from ..runtime.facts import FORMAT, ExportedFacts
from ..runtime.network import inputs_of, outputs_of
from ..version import __version__
from .looked_at import looked_at
from .parts import build_network
from .proof import DISTANCES, MAPS, SCORES, Comparison, compare
from .refusals import check_exportable, check_libraries

OPSET = 20  # of ONNX: the first with Gelu
BATCH = "n"  # name of the free number of images
EXAMPLES = 2  # images that are traced; one would be taken for a constant
STEPS = 4  # of a progress bar
BLACK, WHITE = np.uint8(0), np.uint8(255)
NAMED = 3  # maximum number of images that an error names
LARGEST = 2**31 - 2**24  # bytes; what protobuf can hold in one file, with room for the graph


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The ONNX file.
        data: A second file with the weights, where one file cannot hold them; None otherwise.
        size: Size in bytes of all that was written.
        seconds: Time that it took.
        proof: How it differs from the detector on generated images.
        verified: The same on the images that were passed; None without.
    """

    path: Path
    data: Path | None
    size: int
    seconds: float
    proof: Comparison
    verified: Comparison | None


def export_onnx(
    detector: OpenCLIPDetector, path: str | os.PathLike[str], *, verify: Sequence[Item] = ()
) -> Exported:
    """Write a detector to one ONNX file that gives its float32 scores, maps and labels.

    The file takes uint8 RGB images (N, H, W, 3), resized to the detector's canvas (and, where they
    are seen through windows, to that of the whole image as well), and computes in float32. It is
    scored beside the detector before it is put in place; a file that differs is not written. An
    existing file is replaced completely or not at all. Weights beyond 2 GB go to a second file
    beside it, named after it, with ``.data`` at the end.

    Args:
        detector: A fitted detector that computes in float32 on the CPU.
        path: Path of the file, ``*.onnx``; its folder is created if needed.
        verify: Images as for :meth:`~..detector.base.OpenCLIPDetector.decision_function`, to score
            with both, besides five generated ones; those that the detector has learnt from are
            scored as if they were new.

    Returns:
        What was written, and how far it is from the detector.

    Raises:
        ValueError: If the detector cannot be exported; the message says what to change. Nothing has
            been computed then.
        RuntimeError: If nothing was learnt yet, or the file does not give the detector's scores.
        ImportError: If onnx, onnxscript or onnxruntime is not installed.
        OSError: If the file cannot be written.
    """
    path, start = Path(path), time.monotonic()
    images = list(as_source(verify, "verify"))
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} must end in {SUFFIX}.")
    check_libraries()
    check_exportable(detector)
    # One folder for both files, since the first names the second.
    with folder_beside(path, ".export-") as partial:
        with bar("exporting", "step", total=STEPS) as steps:
            _write(detector, partial / path.name, steps.update)
            proof = _prove(detector, partial / path.name)
            steps.update()
            verified = _prove(detector, partial / path.name, images) if images else None
        written = sorted(partial.iterdir(), key=lambda file: file.suffix == SUFFIX)
        size = sum(file.stat().st_size for file in written)
        for file in written:
            file.replace(path.parent / file.name)
    data = None if len(written) == 1 else path.parent / written[0].name
    return Exported(path, data, size, time.monotonic() - start, proof, verified)


def _write(detector: OpenCLIPDetector, file: Path, done: Callable[[], object]) -> None:
    """Trace the network and write it with its facts; call ``done`` after each step."""
    network = build_network(detector)
    done()
    facts = _facts(detector)
    program = _traced(network, facts)
    program.model.metadata_props.update(facts.as_metadata())
    done()
    with naming(file):
        program.save(file, external_data=_size(network) > LARGEST)
    done()


def _traced(network: nn.Module, facts: ExportedFacts) -> Any:
    """The network as an ONNX program whose number of images is free."""
    inputs = inputs_of(facts)
    images = tuple(torch.zeros((EXAMPLES, *size, 3), dtype=torch.uint8) for size in inputs.values())
    free = ({0: torch.export.Dim(BATCH)},) * len(images)
    with neutral(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and onnxscript about their own parts
        network(*images)  # what is made on first use must not be traced
        traced = torch.export.export(network, images, dynamic_shapes=(free,), strict=False)
        return torch.onnx.export(
            traced,
            dynamo=True,
            opset_version=OPSET,
            input_names=[*inputs],
            output_names=outputs_of(facts),
            verbose=False,
        )


def _facts(detector: OpenCLIPDetector) -> ExportedFacts:
    embedder, canvas = detector._embedder, cast(Size, detector.canvas_)
    scoring, area, canvases = detector._freeze([]), detector.roi_, embedder.canvases
    second = canvases.whole(canvas) if canvases.windows(canvas) else (0, 0)
    text, whole = getattr(scoring.scorer, "text", None), cast(Whole | None, scoring.whole)
    return ExportedFacts(
        pyimgano_openclip_format=FORMAT,
        package_version=__version__,
        detector=type(detector).__name__,
        model_name=embedder.origin,
        model_fingerprint=embedder.fingerprint,
        detector_digest=saving.digest(detector),
        canvas_height=canvas[0],
        canvas_width=canvas[1],
        patch_height=canvases.stride[0],
        patch_width=canvases.stride[1],
        resize_filter=embedder.loaded.preprocessing["interpolation"],
        threshold=detector.label_threshold(),
        region_threshold=detector.region_threshold(),
        span=scoring.scorer.span,
        limits=whole.limits.as_json() if whole else "",
        defects="\n".join(text.defects) if text else "",
        whole_height=second[0],
        whole_width=second[1],
        map_smoothing=detector.map_smoothing,
        roi="" if area is None else json.dumps(area.stored()),
        roi_sizes=json.dumps(looked_at(detector).sizes) if area else "",
        channel_order=detector.channel_order,
    )


def _size(network: nn.Module) -> int:
    """Bytes of all weights and rows."""
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _generated(detector: OpenCLIPDetector) -> list[Item]:
    """Images that differ: noise, a shade, the noise upside down, black and white."""
    height, width = (*looked_at(detector).sizes, cast(Size, detector.canvas_))[0]
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    shade = np.linspace(0, 255, width, dtype=np.uint8)[None, :, None]
    shades = [np.broadcast_to(one, noise.shape) for one in (shade, BLACK, WHITE)]
    return [noise, noise[::-1], *shades]


def compare_with(detector: OpenCLIPDetector, file: Path, images: Sequence[Item] = ()) -> Comparison:
    """Score images with a detector and with its file; generated ones if there are none."""
    exported = OnnxDetector(file)
    if len(images):
        return compare(detector, exported, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FlatFrameWarning)  # two of these frames are flat
        return compare(detector, exported, _generated(detector))


def _prove(detector: OpenCLIPDetector, file: Path, images: Sequence[Item] = ()) -> Comparison:
    """Score images with the detector and with the file.

    Raises:
        RuntimeError: If they differ by more than what is promised.
    """
    found = compare_with(detector, file, images)
    if found.passed:
        return found
    labels = f"{len(found.labels)} labels of {found.images}"
    named = f" ({', '.join(found.labels[:NAMED])})" if found.labels else ""
    raise RuntimeError(
        f"The exported file does not give the detector's scores: they differ by up to "
        f"{found.score:.2g} (at most {SCORES:g} passes), maps by up to {found.map:.2g} ({MAPS:g}), "
        f"distances to the training images as a whole by {found.distance:.2g} of them "
        f"({DISTANCES:g}), and {labels}{named}. Nothing was written."
    )
