"""Loads a saved or an exported detector from its file alone."""

from __future__ import annotations

import os
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files.exported import is_exported
from .full_install import full_install
from .runtime.detector import OnnxDetector

if TYPE_CHECKING:
    from .detector.base import OpenCLIPDetector


def load_detector(
    path: str | os.PathLike[str], **overrides: Any
) -> OpenCLIPDetector | OnnxDetector:
    """Load a saved or exported detector; class, model and settings come from the file.

    ```python
    detector = load_detector("screw.safetensors", device="cuda", batch_size=64)
    labels = detector.predict(["part1.png", "part2.png"])
    ```

    Args:
        path: File written by ``save_checkpoint``, or ``*.onnx`` written by ``export_onnx``.
        overrides: Detector arguments that depend on the machine: ``device``, ``precision``,
            ``batch_size``; ``channel_order`` if arrays have another one here;
            ``openclip_model_name`` and ``openclip_pretrained`` if the same weights have another
            name here; ``embedder`` if the detector was fitted with a custom embedder.
            Arguments that change no score, such as ``knn_backend``, are accepted too. A detector
            that was fitted with ``precision="float32"`` has it again unless told otherwise. Of an
            exported detector, those of :class:`~.runtime.OnnxDetector`.

    Returns:
        A detector of the saved class, with the saved threshold; an
        :class:`~.runtime.OnnxDetector` for an exported one.

    Raises:
        ValueError: If the file is damaged or not a checkpoint, an argument is unknown or would
            change scores, or the weights are not the ones the detector was fitted with.
        OSError: If the file cannot be opened.
        ImportError: If the full install, onnxruntime, or the library of ``knn_backend``, is needed
            and missing.
    """
    path = Path(path)
    path.stat()  # raises if it is not there
    if not is_exported(path):
        # It imports pyimgano, without which exported detectors do.
        with full_install():
            from .loading import load_saved

            return load_saved(path, **overrides)
    _, *known = signature(OnnxDetector).parameters
    if unknown := sorted(set(overrides) - set(known)):
        raise ValueError(
            f"An exported detector has no argument {', '.join(unknown)}; it has {', '.join(known)}."
        )
    return OnnxDetector(path, **overrides)
