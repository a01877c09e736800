"""Waits, from interpreter start on, for an import of ``pyimgano``; then has the plugin registered.

Python calls :func:`activate` when it starts: 3.15 and later by ``pyimgano_openclip_autoload.start``
(PEP 829), earlier ones by the line in ``pyimgano_openclip_autoload.pth``, which they ignore beside
a ``.start`` file. ``PYIMGANO_OPENCLIP_AUTOLOAD=0`` turns it off.

Every program with this interpreter pays for what is imported here, so nothing is but ``os`` and
``sys``, which Python itself has imported by then; hence no type is named. Nothing here may raise or
print: a program that never imports pyimgano must not notice.
"""

import os
import sys

SWITCH = "PYIMGANO_OPENCLIP_AUTOLOAD"  # an environment variable; 0 turns it off

# Registry name -> (module, class); the entry points name the same classes.
DETECTORS = {
    "vision_openclip_mutual": ("pyimgano_openclip.mutual", "VisionOpenCLIPMutual"),
    "vision_openclip_patchknn": ("pyimgano_openclip.patchknn", "VisionOpenCLIPPatchKNN"),
    "vision_openclip_promptscore": ("pyimgano_openclip.promptscore", "VisionOpenCLIPPromptScore"),
}
BASE = ("pyimgano_openclip.detector.base", "OpenCLIPDetector")
# These modules put the host's own detectors into its registry; the first makes the registry.
HOST_MODULES = ("pyimgano.models", "pyimgano.models.openclip_backend")
WATCHED = (
    *HOST_MODULES,
    # Whichever of these is imported first imports the host before there is a class to register, or
    # blocks another thread that is registering.
    "pyimgano.models.base_detector",
    BASE[0],
    *(module for module, _ in DETECTORS.values()),
)


class Watch:
    """A finder that finds nothing itself, but has the watched modules executed in another way.

    It does not act while it is asked: Python then holds a lock that every import needs, so that a
    module that another thread is importing would be waited for in vain.
    """

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        """Ask the finders after this one; those before it have been asked already."""
        if name not in WATCHED:
            return None
        others = iter(sys.meta_path)
        if self not in others:  # stops behind this one
            return None
        for finder in others:
            find_spec = getattr(finder, "find_spec", None)
            spec = find_spec and find_spec(name, path, target)
            if spec is not None:
                self._take_over(name, spec.loader)
                return spec
        return None

    def _take_over(self, name, loader):  # type: ignore[no-untyped-def]
        execute = getattr(loader, "exec_module", None)
        if execute is not None:
            loader.exec_module = lambda module: _execute(name, lambda: execute(module))


WATCH = Watch()


def activate() -> None:
    """Wait for the host, unless that is turned off; calling it again has no effect."""
    if os.environ.get(SWITCH) != "0":
        install()


def install() -> None:
    """Wait for the host; calling it again has no effect."""
    if WATCH not in sys.meta_path:
        sys.meta_path.insert(0, WATCH)


def report(problem: str) -> None:
    """Warn that the detectors could not be registered; the host goes on in any case."""
    import warnings

    message = (
        f"pyimgano-openclip could not register its detectors ({problem}); pyimgano uses its own "
        f"instead. {SWITCH}=0 silences this."
    )
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # under python -W error
        print(message, file=sys.stderr)  # noqa: T201


def _execute(name, execute):  # type: ignore[no-untyped-def]
    from importlib import import_module

    try:
        watched = import_module("_pyimgano_openclip_registration").execute
    except Exception as error:  # noqa: BLE001 - the host must go on in any case
        if WATCH in sys.meta_path:
            sys.meta_path.remove(WATCH)
            report(f"{type(error).__name__}: {error}")
        execute()
    else:
        watched(name, execute)
