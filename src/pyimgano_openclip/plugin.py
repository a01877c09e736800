"""Registers both detectors with the host; both entry-point groups lead here.

Neither this module nor the detectors' modules import torch or open_clip, so registration takes a
few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import Any

# Registry name -> (module, class); the entry points name the same classes.
DETECTORS = {
    "vision_openclip_patchknn": ("pyimgano_openclip.patchknn", "VisionOpenCLIPPatchKNN"),
    "vision_openclip_promptscore": ("pyimgano_openclip.promptscore", "VisionOpenCLIPPromptScore"),
}

_LOCK = Lock()  # held around registry access only, never around an import


def register() -> None:
    """Register both detectors in place of the host's own detectors of the same names.

    Calling it repeatedly, or in addition to automatic registration, has no further effect.

    Raises:
        ImportError: If pyimgano is not installed.
    """
    import pyimgano.models  # noqa: F401

    # The finder keeps a first import or a reload of the host's own OpenCLIP module from colliding
    # with our entries from here on.
    import_module("_pyimgano_openclip_autoload").install()
    register_detectors()


def register_detectors() -> None:
    """Put the classes into the registry, unless they are still being imported.

    Their modules are watched, so this is called again once that import is complete.
    """
    # This statement waits for a thread that is still filling the registry.
    import pyimgano.models

    # Imported separately: a thread that blocks this import holds none of our locks.
    import_module("pyimgano.models.base_detector")

    detectors = _import_detectors()
    if not detectors:
        return
    registry = pyimgano.models.MODEL_REGISTRY
    with _LOCK:
        registered = registry.available()
        for name, detector in detectors.items():
            if name in registered and registry.info(name).constructor is detector:
                continue
            registry.register(
                name,
                detector,
                tags=detector.registry_tags,
                metadata=detector.registry_metadata,
                overwrite=True,
            )


def make_way_for_host() -> None:
    """Let the host's own OpenCLIP module register its detectors without a name collision.

    The host lets a real class replace an entry marked as a lazy placeholder; our classes are
    registered again after that module has been executed.
    """
    register_detectors()  # from here on no other thread replaces the marked entries
    registry = import_module("pyimgano.models.registry").MODEL_REGISTRY
    for name in set(DETECTORS).intersection(registry.available()):
        metadata = registry.info(name).metadata
        # A host that reads our entry points itself sets this key and keeps its own modules away.
        if "entry_point" not in metadata:
            metadata["_lazy_placeholder"] = True


def _import_detectors() -> dict[str, Any]:
    """Both classes by registry name; empty while this thread is still importing one of them."""
    detectors: dict[str, Any] = {}
    if hasattr(import_module("pyimgano_openclip.detector"), "OpenCLIPDetector"):
        for name, (module, class_name) in DETECTORS.items():
            detectors[name] = getattr(import_module(module), class_name, None)
    return {} if None in detectors.values() else detectors
