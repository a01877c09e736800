"""Registration: both detectors into the registry of the host. Both entry-point groups end here.

This module imports neither torch nor open_clip, and the detectors' modules do not either, so
registering costs a few milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from threading import Lock
from typing import Any

# Registry name -> module, class. The entry points name the same classes.
DETECTORS = {
    "vision_openclip_patchknn": ("pyimgano_openclip.patchknn", "VisionOpenCLIPPatchKNN"),
    "vision_openclip_promptscore": ("pyimgano_openclip.promptscore", "VisionOpenCLIPPromptScore"),
}

_LOCK = Lock()  # around the registry only, never around an import


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
    """Put the real classes into the registry, unless they are just being imported.

    Their modules are watched, so this is called again when that import is done.
    """
    # The statement waits for a thread that is still filling the registry.
    import pyimgano.models

    # Next, and alone: a thread that holds this module up holds nothing of ours.
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

    The host lets a real class replace an entry marked as a lazy placeholder; ours come back when
    that module has been executed.
    """
    register_detectors()  # From here on no other thread replaces the marked entries.
    registry = import_module("pyimgano.models.registry").MODEL_REGISTRY
    for name in set(DETECTORS).intersection(registry.available()):
        metadata = registry.info(name).metadata
        # A host that reads our entry points itself says so, and keeps its own modules off.
        if "entry_point" not in metadata:
            metadata["_lazy_placeholder"] = True


def _import_detectors() -> dict[str, Any]:
    """Both classes by registry name, or none while this thread is amid importing one."""
    detectors: dict[str, Any] = {}
    if hasattr(import_module("pyimgano_openclip.detector"), "OpenCLIPDetector"):
        for name, (module, class_name) in DETECTORS.items():
            detectors[name] = getattr(import_module(module), class_name, None)
    return {} if None in detectors.values() else detectors
