"""Puts the detectors of pyimgano-openclip into the registry of pyimgano once that is imported.

pyimgano reads no entry points on its own and has detectors under the same names, so the line in
``pyimgano_openclip_autoload.pth`` calls :func:`install` at interpreter start. Nothing else is
imported then: :func:`install` adds one finder, which waits for the modules in ``_WATCHED`` and
lets the plugin register after each of them. This file must stay tiny, import only ``sys``, and
never raise. ``PYIMGANO_OPENCLIP_AUTOLOAD=0`` turns it off.
"""

import sys

TYPE_CHECKING = False  # as in typing, whose import would cost more than all the rest
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_HOST_MODULES = ("pyimgano.models", "pyimgano.models.openclip_backend")
_WATCHED = (*_HOST_MODULES, "pyimgano_openclip.patchknn", "pyimgano_openclip.promptscore")


class _Finder:
    """Finds nothing itself; notices when a watched module has been executed."""

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        if name not in _WATCHED:
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec: ModuleSpec | None = find_spec(name, path, target)
            if spec is not None:
                _watch(spec)
                return spec
        return None


def _watch(spec: "ModuleSpec") -> None:
    """Let the plugin act before and after the loader of ``spec`` executes the module."""
    loader = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: "ModuleType") -> None:
        if spec.name in _HOST_MODULES:
            _call_plugin("make_way_for_host")
        try:
            execute(module)
        finally:
            _call_plugin("register_detectors")

    loader.exec_module = exec_module  # type: ignore[union-attr, method-assign]


def _call_plugin(function: str) -> None:
    """Call a function of the plugin. A broken plugin costs one warning, never the host."""
    if not hasattr(sys.modules.get("pyimgano.models"), "MODEL_REGISTRY"):
        return  # The import of the host, still to come, calls again.
    try:
        plugin = __import__("pyimgano_openclip.plugin", fromlist=[function])
        getattr(plugin, function)()
    except Exception as error:  # noqa: BLE001 - whatever is wrong in here, the host must go on
        if type(error).__name__ != "_DeadlockError":
            _report(error)
        # Otherwise another thread is importing the detectors; it registers them when it is done.


def _report(error: Exception) -> None:
    import warnings

    message = (
        f"pyimgano-openclip could not register its detectors ({type(error).__name__}: {error}); "
        "pyimgano goes on with its own. PYIMGANO_OPENCLIP_AUTOLOAD=0 silences this."
    )
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # under python -W error
        print(message, file=sys.stderr)  # noqa: T201


def install() -> None:
    """Start watching; a second call changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
