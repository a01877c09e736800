"""Registers the detectors with pyimgano once pyimgano is imported.

pyimgano reads no entry points by itself and has its own detectors of the same names. So the finder
of ``_pyimgano_openclip_autoload.py`` has :func:`execute` execute the modules that matter, which
registers ours after each. Nothing here may raise into the host's import: a broken plugin only
causes a warning.

The detectors' modules import neither torch nor open_clip, so registration takes milliseconds. They
are named, never imported at the top: nothing of the package may depend on being watched. This
module is not in the package, since two threads that import a package and its submodule in opposite
order would block each other.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from threading import Lock
from typing import Any

from _pyimgano_openclip_autoload import BASE, DETECTORS, HOST_MODULES, install, report

_REGISTRY = HOST_MODULES[0]  # fills the host's registry while it is executed
_reported: set[str] = set()
_registry_lock = Lock()  # held around registry access only, never around an import
_executed: dict[str, bool] = {}  # whether a module that we saw being executed is complete


def register() -> None:
    """Register the detectors in place of the host's own detectors of the same names.

    Calling it repeatedly, or in addition to automatic registration, has no further effect.

    Raises:
        ImportError: If pyimgano is not installed.
    """
    import pyimgano.models  # noqa: F401

    # The finder keeps a first import or a reload of the host's own OpenCLIP module from colliding
    # with our entries from here on.
    install()
    _register_detectors()


def execute(name: str, run: Callable[[], None]) -> None:
    """Execute a watched module; act on the registry before and after.

    Args:
        name: The module.
        run: Executes it.
    """
    if name in HOST_MODULES:
        _try(_make_way_for_host)
    _executed[name] = False
    try:
        run()
    finally:
        _executed[name] = True
        _try(_register_detectors)


def _try(act: Callable[[], None]) -> None:
    """Act on the host's registry; if that fails, warn and let the host go on."""
    if _REGISTRY not in sys.modules:
        return  # called again when the host is imported
    try:
        # Waits for another thread that is still filling the registry; importing a submodule of the
        # host does not, so that the host's own detectors would collide with each other.
        import pyimgano.models  # noqa: F401

        if _is_filled():
            act()
    except Exception as error:  # noqa: BLE001 - the host must go on in any case
        # An averted deadlock: another thread is importing what registration needs. That import is
        # watched, and registers when it is complete.
        if type(error).__name__ != "_DeadlockError":
            problem = f"{type(error).__name__}: {error}"
            if problem not in _reported:
                _reported.add(problem)
                report(problem)


def _is_filled() -> bool:
    """Whether the host's registry has the host's own detectors.

    To avert a deadlock, Python hands a thread a module that another thread is still executing. An
    entry of ours in a registry in that state would collide with the host's.
    """
    module = sys.modules.get(_REGISTRY)
    importing = getattr(module.__spec__, "_initializing", False) if module else True
    return _executed.get(_REGISTRY, not importing)


def _register_detectors() -> None:
    """Put the classes into the registry, unless they are still being imported.

    Their modules are watched, so this is called again once that import is complete.
    """
    # This statement waits for a thread that is still filling the registry.
    import pyimgano.models

    # Imported separately: a thread that blocks this import holds none of our locks.
    import_module("pyimgano.models.base_detector")

    detectors = _import_detectors()
    if not detectors:
        return  # a look at the registry might import them, too
    registry = pyimgano.models.MODEL_REGISTRY
    with _registry_lock:
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


def _make_way_for_host() -> None:
    """Let the host's own OpenCLIP module register its detectors without a name collision.

    The host lets a real class replace an entry marked as a lazy placeholder; our classes are
    registered again after that module has been executed.
    """
    _register_detectors()  # from here on no other thread replaces the marked entries
    registry = import_module("pyimgano.models.registry").MODEL_REGISTRY
    for name in set(DETECTORS).intersection(registry.available()):
        metadata = registry.info(name).metadata
        # A host that reads our entry points itself sets this key and keeps its own modules away.
        if "entry_point" not in metadata:
            metadata["_lazy_placeholder"] = True


def _import_detectors() -> dict[str, Any]:
    """The classes by registry name; empty while this thread is still importing one of them."""
    detectors: dict[str, Any] = {}
    if hasattr(import_module(BASE[0]), BASE[1]):
        for name, (module, class_name) in DETECTORS.items():
            detectors[name] = getattr(import_module(module), class_name, None)
    return {} if None in detectors.values() else detectors
