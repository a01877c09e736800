"""What cannot be exported, told before any work is done: which argument, and what to change."""

from __future__ import annotations

from dataclasses import fields
from importlib.util import find_spec
from typing import Any, cast

from ..arrays import Size
from ..detector.base import OpenCLIPDetector
from ..encoder.tokens import InjectedEmbedder
from ..files.checkpoint import short
from ..mutual import VisionOpenCLIPMutual
from ..patchknn import VisionOpenCLIPPatchKNN
from ..promptscore import VisionOpenCLIPPromptScore
from .looked_at import looked_at
from .sight import sides

LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
TORCH = (2, 9)  # whose exporter traces the number of images as free
EXTRA = "pip install 'pyimgano-openclip[export]'"

# Arguments that the exported network heeds, or that matter before it only. Any other must have its
# default, so that a setting that this code does not know is refused, never left out.
COMMON = {
    "openclip_model_name", "openclip_pretrained", "pretrained", "device", "force_image_size",
    "resize", "max_tokens", "smallest_defect", "roi", "aggregation_method", "aggregation_topk",
    "contamination", "batch_size", "precision", "random_seed", "channel_order", "on_error",
}  # fmt: skip
HEEDED: dict[type[OpenCLIPDetector], set[str]] = {
    VisionOpenCLIPPatchKNN: {
        *COMMON, "confidence", "layers", "neighbourhoods", "rotations", "n_neighbors",
        "knn_backend", "memory_bank_dtype", "coreset_sampling_ratio", "max_patches", "dimension",
        "jitter",
    },
    VisionOpenCLIPPromptScore: {
        *COMMON, "confidence", "class_name", "text_prompts", "normal_states", "anomalous_states",
        "templates", "defects", "references", "text_features_normal", "text_features_anomaly",
        "attention", "stages", "mode", "windows", "recipe",
    },
    VisionOpenCLIPMutual: {
        *COMMON, "recipe", "layers", "neighbourhoods", "max_comparisons", "threshold_rule",
    },
}  # fmt: skip


def check_libraries() -> None:
    """Raise an ImportError unless everything that exporting needs is installed."""
    import torch

    if tuple(map(int, torch.__version__.split(".")[:2])) < TORCH:
        raise ImportError(f"Exporting needs torch 2.9 or later; this is {torch.__version__}.")
    if missing := [name for name in LIBRARIES if find_spec(name) is None]:
        raise ImportError(f"Exporting needs {', '.join(missing)}: {EXTRA}")


def check_exportable(detector: OpenCLIPDetector) -> None:
    """Raise an error if a detector cannot be exported.

    Raises:
        ValueError: The message names what cannot be exported, and what to change.
        RuntimeError: If it has learnt nothing yet.
    """
    name = type(detector).__name__
    if type(detector) not in HEEDED:
        known = ", ".join(kind.__name__ for kind in HEEDED)
        raise ValueError(f"{name} cannot be exported yet; choose from {known}.")
    if isinstance(detector._embedder, InjectedEmbedder):
        raise ValueError(
            "embedder= cannot be exported, since what a custom embedder computes is unknown; use a "
            "model of open_clip."
        )
    for field in fields(detector):
        value, usual = getattr(detector, field.name), field.default
        if field.name in HEEDED[type(detector)] or _same(value, usual):
            continue
        raise ValueError(
            f"{field.name}={short(value)} cannot be exported; create the detector with "
            f"{field.name}={usual!r}."
        )
    if detector.__dict__.get("knn_backend") == "faiss-ivf":
        raise ValueError(
            "knn_backend='faiss-ivf' cannot be exported: its search is approximate, that of the "
            "file is exact; fit with knn_backend='auto'."
        )
    detector.label_threshold()  # raises before there is one
    if detector.canvas_ is None:
        raise RuntimeError(
            "The detector has not chosen a canvas yet; call choose_canvas() with typical images."
        )
    _check_arithmetic(detector)
    _check_tower(detector)
    looked_at(detector)


def _same(value: Any, usual: Any) -> bool:
    """Whether an argument has its default; constructors turn lists into tuples."""
    return value is usual or (type(value) is type(usual) and bool(value == usual))


def _check_arithmetic(detector: OpenCLIPDetector) -> None:
    """Refuse a detector whose scores are rounded otherwise than those of the file."""
    embedder = detector._embedder
    precision = str(embedder.dtype).removeprefix("torch.")
    if precision != "float32" or embedder.device.type != "cpu":
        raise ValueError(
            f"The file computes in float32, but this detector in {precision} on "
            f"{embedder.device.type}; save it and export "
            "load_detector(path, device='cpu', precision='float32')."
        )


def _check_tower(detector: OpenCLIPDetector) -> None:
    """Refuse what the tower computes from the size of the image."""
    embedder, canvas = detector._embedder, cast(Size, detector.canvas_)
    tower = embedder.tower
    pooled = hasattr(tower.visual, "attnpool") and embedder.tokens == "aligned"
    if pooled and {*sides(embedder, canvas)} != {tower.native_size}:
        raise ValueError(
            f"{embedder.model_name!r} has a CLIP ResNet tower, whose pooling can be exported for "
            f"its own size {tower.native_size} only, not for the canvas {canvas}; create the "
            "detector with resize='squash' and without force_image_size."
        )
