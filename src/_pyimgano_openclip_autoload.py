"""Registers the detectors of pyimgano-openclip with pyimgano once pyimgano is imported.

pyimgano reads no entry points by itself and has its own detectors of the same names. So the line in
``pyimgano_openclip_autoload.pth`` waits, from interpreter start on, for an import of ``pyimgano``
or ``pyimgano_openclip``, and calls :func:`install` before it. That adds one finder, which lets the
plugin register after each module in ``_WATCHED``. Nothing here may raise: a broken plugin only
causes a warning. ``PYIMGANO_OPENCLIP_AUTOLOAD=0`` turns it off.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

# These modules fill the host's registry with its own detectors.
_HOST_MODULES = ("pyimgano.models", "pyimgano.models.openclip_backend")
_WATCHED = (
    *_HOST_MODULES,
    # Whichever of these is imported first imports the host before there is a class to register, or
    # blocks another thread that is registering.
    "pyimgano.models.base_detector",
    "pyimgano_openclip.detector",
    "pyimgano_openclip.patchknn",
    "pyimgano_openclip.promptscore",
)
_reported: set[str] = set()


class _Finder:
    """Finds nothing itself, but notices when a watched module is executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in _WATCHED:
            return None
        others = iter(sys.meta_path)
        if self not in others:  # skips the finders before this one, which have been asked already
            return None
        for finder in others:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec and find_spec(name, path, target)
            if spec is not None:
                _watch(spec)
                return spec
        return None


def _watch(spec: ModuleSpec) -> None:
    """Let the plugin act before and after the loader of ``spec`` executes the module."""
    loader = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: ModuleType) -> None:
        if spec.name in _HOST_MODULES:
            _call_plugin("make_way_for_host")
        try:
            execute(module)
        finally:
            _call_plugin("register_detectors")

    loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]


def _call_plugin(function: str) -> None:
    """Call a function of the plugin; if it fails, warn and let the host go on."""
    if "pyimgano.models" not in sys.modules:
        return  # called again when the host is imported
    try:
        import pyimgano.models  # waits for another thread that is still filling the registry

        if hasattr(pyimgano.models, "MODEL_REGISTRY"):
            getattr(import_module("pyimgano_openclip.plugin"), function)()
    except Exception as error:  # noqa: BLE001 - the host must go on in any case
        # An averted deadlock: another thread is importing what registration needs. That import is
        # watched, and registers when it is complete.
        if type(error).__name__ != "_DeadlockError":
            _report(f"{type(error).__name__}: {error}")


def _report(problem: str) -> None:
    if problem in _reported:
        return
    _reported.add(problem)
    message = (
        f"pyimgano-openclip could not register its detectors ({problem}); pyimgano uses its own "
        "instead. PYIMGANO_OPENCLIP_AUTOLOAD=0 silences this."
    )
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # under python -W error
        print(message, file=sys.stderr)  # noqa: T201


def install() -> None:
    """Start watching; calling it again has no effect."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
