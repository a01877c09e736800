"""Registration: both detectors into the registry of the host. Both entry-point groups end here.

This module imports neither torch nor open_clip, and the detectors' modules do not either, so
registering costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from . import __version__

# Registry name -> module, class, what is special about it. The entry points name the same classes.
DETECTORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vision_openclip_patchknn": (
        "pyimgano_openclip.patchknn",
        "VisionOpenCLIPPatchKNN",
        {
            "tags": ("few-shot", "knn", "neighbors", "memory_bank"),
            "description": "Few-shot: patch tokens of OpenCLIP against a memory bank of normal "
            "patches; image scores, anomaly maps, honest thresholds",
            "paper": "Towards Total Recall in Industrial Anomaly Detection (PatchCore); "
            "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation",
            "year": 2024,
            "supervision": "few-shot",
        },
    ),
    "vision_openclip_promptscore": (
        "pyimgano_openclip.promptscore",
        "VisionOpenCLIPPromptScore",
        {
            "tags": ("zero-shot", "prompt"),
            "description": "Zero-shot: patch tokens of OpenCLIP against texts of normal and "
            "damaged objects; image scores and anomaly maps",
            "paper": "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation",
            "year": 2023,
            "supervision": "zero-shot",
        },
    ),
}
COMMON_TAGS = ("vision", "deep", "clip", "openclip", "numpy", "pixel_map")


def register() -> None:
    """Register both detectors in place of the host's own of the same names.

    Calling it again, or beside the automatic registration, changes nothing.

    Raises:
        ImportError: If pyimgano is not installed.
    """
    import pyimgano.models  # noqa: F401

    # From here on, a first import or a reload of the host's own OpenCLIP module must not collide
    # with our entries; the finder sees to it.
    import_module("_pyimgano_openclip_autoload").install()
    register_detectors()


def register_detectors() -> None:
    """Put the real classes into the registry, as far as their modules have been executed."""
    # First, and alone: a thread that is importing a detector needs this module and no lock of ours.
    import_module("pyimgano.models.base_detector")
    from pyimgano.models.registry import MODEL_REGISTRY

    for name, (module, class_name, facts) in DETECTORS.items():
        detector = getattr(import_module(module), class_name, None)
        if detector is None:
            continue  # Its module is being imported right now and registers when that is done.
        metadata = {key: value for key, value in facts.items() if key != "tags"}
        MODEL_REGISTRY.register(
            name,
            detector,
            tags=(*COMMON_TAGS, *facts["tags"]),
            metadata={
                **metadata,
                "backend": "openclip",
                "supports_save_load": False,
                "provider": "pyimgano-openclip",
                "provider_version": __version__,
            },
            overwrite=True,
        )


def make_way_for_host() -> None:
    """Let the host's own OpenCLIP module register its detectors without a name collision.

    The host lets a real class replace an entry marked as a lazy placeholder; ours come back when
    that module has been executed.
    """
    from pyimgano.models.registry import MODEL_REGISTRY

    registered = MODEL_REGISTRY.available()
    for name in DETECTORS:
        if name in registered:
            MODEL_REGISTRY.info(name).metadata["_lazy_placeholder"] = True
