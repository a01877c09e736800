"""Zero-shot and few-shot visual anomaly detection with OpenCLIP, as a plugin of pyimgano.

Importing this package is cheap: the names below are loaded on first use, and torch and open_clip
only when a detector sees its first image.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .encoder import OpenCLIPPatchEmbedder
    from .loading import load_detector
    from .patchknn import VisionOpenCLIPPatchKNN
    from .pictures import overlay
    from .promptscore import VisionOpenCLIPPromptScore, prompt_patch_scores

__all__ = [
    "OpenCLIPPatchEmbedder",
    "VisionOpenCLIPPatchKNN",
    "VisionOpenCLIPPromptScore",
    "__version__",
    "load_detector",
    "overlay",
    "prompt_patch_scores",
]

_MODULE_OF = {
    "OpenCLIPPatchEmbedder": "encoder",
    "VisionOpenCLIPPatchKNN": "patchknn",
    "VisionOpenCLIPPromptScore": "promptscore",
    "load_detector": "loading",
    "overlay": "pictures",
    "prompt_patch_scores": "promptscore",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
