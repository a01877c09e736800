"""Starts commands without the host's registry of models, which they do not use.

To fill it, the host parses the source of each of its 139 modules, which takes longer than all that
this package imports.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

PACKAGE, NAME = "pyimgano.models", "base_detector"


def import_base_alone() -> None:
    """Import the host's base class of detectors by itself, in a process that is a command.

    Has no effect if it has been imported, or where this version of the host does not have it: then
    it is imported in the usual way. Importing the registry later works as ever.
    """
    name, host = f"{PACKAGE}.{NAME}", find_spec(PACKAGE.partition(".")[0])
    if PACKAGE in sys.modules or name in sys.modules or host is None:
        return
    for place in host.submodule_search_locations or ():
        path = Path(place, PACKAGE.rpartition(".")[2], f"{NAME}.py")
        spec = spec_from_file_location(name, path) if path.is_file() else None
        if spec is None or spec.loader is None:
            continue
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception:  # noqa: BLE001 - the usual import tells what is wrong
            del sys.modules[name]
        return
