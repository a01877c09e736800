"""Zero-shot and few-shot visual anomaly detection with OpenCLIP, as a plugin of pyimgano.

Importing this package is cheap: the names below are loaded on first use, and torch and open_clip
only when a detector sees its first image. It registers the detectors as soon as pyimgano is
imported, too, unless the environment variable ``PYIMGANO_OPENCLIP_AUTOLOAD`` is 0.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from _pyimgano_openclip_autoload import activate

from .version import __version__

if TYPE_CHECKING:
    from .detector_file import load_detector
    from .encoder.embedder import OpenCLIPPatchEmbedder
    from .export.onnx_file import export_onnx
    from .images.reading import read_pixels
    from .maps.pictures import overlay
    from .maps.scores import anomaly_map
    from .mutual import VisionOpenCLIPMutual
    from .patchknn import VisionOpenCLIPPatchKNN
    from .prompts.scorer import prompt_patch_scores
    from .promptscore import VisionOpenCLIPPromptScore

__all__ = [
    "OpenCLIPPatchEmbedder",
    "VisionOpenCLIPMutual",
    "VisionOpenCLIPPatchKNN",
    "VisionOpenCLIPPromptScore",
    "__version__",
    "anomaly_map",
    "export_onnx",
    "load_detector",
    "overlay",
    "prompt_patch_scores",
    "read_pixels",
]

_MODULE_OF = {
    "OpenCLIPPatchEmbedder": "encoder.embedder",
    "VisionOpenCLIPMutual": "mutual",
    "VisionOpenCLIPPatchKNN": "patchknn",
    "VisionOpenCLIPPromptScore": "promptscore",
    "anomaly_map": "maps.scores",
    "export_onnx": "export.onnx_file",
    "load_detector": "detector_file",
    "overlay": "maps.pictures",
    "prompt_patch_scores": "prompts.scorer",
    "read_pixels": "images.reading",
}

# Before any module of this package imports the host, whichever of them comes first.
activate()


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .full_install import full_install

    with full_install():
        module = import_module(f".{_MODULE_OF[name]}", __name__)
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
