"""The command ``doctor``."""

from __future__ import annotations

import argparse
import json
import os
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from _pyimgano_openclip_autoload import SWITCH, WATCH

from ..encoder.text_cache import cache_directory
from ..full_install import ELSE_NEEDED, missing
from ..plugin import DETECTORS
from ..version import __version__
from .answer import Answer
from .versions import installed, versions

UNHEALTHY = 1  # exit code
COMPUTING, REGISTERED = "computing", "detectors"
TELLING = {COMPUTING: "torch", REGISTERED: "pyimgano"}  # modules without which there is no telling
START_FILES = (3, 15)  # the first Python that reads .start files, and then no line of a .pth file
STARTUP = "pyimgano_openclip_autoload"  # files of this name, by their endings
# Asks which classes a program that does not import this package gets.
ASK = """
import json
import pyimgano.models
registry = pyimgano.models.MODEL_REGISTRY
found = {}
for name in %r:
    cls = registry.get(name) if name in registry.available() else None
    found[name] = "" if cls is None else f"{cls.__module__}.{cls.__qualname__}"
print(json.dumps(found))
"""
OPTIONAL = ("faiss-cpu", "faiss-gpu", "scikit-learn", "transformers", "onnxruntime", "onnx", "ray")


def run(options: argparse.Namespace) -> Answer:  # noqa: ARG001 - all commands share one signature
    """Check everything that a detector needs on this machine."""
    absent = missing()
    lacking = [f"{', '.join(absent)}: not installed; {ELSE_NEEDED}"] if absent else []
    remarks, problems = (lacking, list[str]()) if _is_light(absent) else ([], lacking)
    facts: dict[str, dict[str, Any]] = {
        "versions": {"pyimgano-openclip": __version__, **versions(), **dict.fromkeys(absent)},
        "optional": {name: installed(name) for name in OPTIONAL},
        COMPUTING: {} if "torch" in absent else _computing(problems),
        "bundled model": _bundled(problems),
        "caches": _caches(),
        "autoload": _autoload(),
        REGISTERED: {} if "pyimgano" in absent else _detectors(problems),
    }
    _opencv(problems)
    lines = [line for part, found in facts.items() for line in _section(part, found, absent)]
    lines += [f"remark: {remark}" for remark in remarks]
    lines += [f"problem: {problem}" for problem in problems] or ["No problem found."]
    told = {**facts, "remarks": remarks, "problems": problems}
    return Answer(lines, told, UNHEALTHY if problems else 0)


def _is_light(absent: Sequence[str]) -> bool:
    """Whether this is the install without torch and the host, which scores by exported files."""
    return set(TELLING.values()) <= {*absent} and find_spec("onnxruntime") is not None


def _section(part: str, found: Mapping[str, Any], absent: Sequence[str]) -> list[str]:
    """Some facts under their heading; what cannot be told without a module, in one line."""
    if (module := TELLING.get(part)) in absent:
        return [f"{part}: not without {module}"]
    return [part, *(f"  {name:32} {_shown(value)}" for name, value in found.items())]


def _computing(problems: list[str]) -> dict[str, Any]:
    try:
        import torch

        from ..encoder.hardware import choose_device, choose_dtype
    except (ImportError, OSError) as error:
        problems.append(f"torch cannot be imported: {error}")
        return {}
    device = choose_device("auto")
    facts: dict[str, Any] = {
        "device": str(device),
        "precision": str(choose_dtype("auto", device)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        facts["GPU"] = torch.cuda.get_device_name(device)
        facts["GPU memory"] = (
            f"{torch.cuda.get_device_properties(device).total_memory / 1e9:.0f} GB"
        )
    return facts


def _bundled(problems: list[str]) -> dict[str, Any]:
    from ..bundled import weights_dir

    try:
        return {"weights": str(weights_dir()), "checksums": "correct"}
    except (ValueError, OSError) as error:
        problems.append(str(error))
        return {"checksums": "wrong"}


def _caches() -> dict[str, Any]:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ImportError:  # it comes with open_clip
        hub = "huggingface_hub is not installed"
    else:
        hub = _size(Path(HF_HUB_CACHE))
    text = cache_directory()
    return {
        "weights from the hub": hub,
        "weights from plain URLs": _size(Path("~/.cache/clip").expanduser()),
        "text vectors": "turned off" if text is None else _size(text),
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "not set"),
    }


def _autoload() -> dict[str, Any]:
    return {
        "startup file": _startup_file(sys.version_info[:2]),
        "with a later Python": _startup_file(START_FILES),
        SWITCH: os.environ.get(SWITCH, "not set (on)"),
        "waits for pyimgano": "yes" if WATCH in sys.meta_path else "no",
    }


def _startup_file(version: tuple[int, int]) -> str:
    """The file by which a version of Python activates the plugin."""
    ending = ".start" if version >= START_FILES else ".pth"
    folders = (*site.getsitepackages(), site.getusersitepackages())
    found = [
        place for folder in folders if (place := Path(folder) / f"{STARTUP}{ending}").is_file()
    ]
    return str(found[0]) if found else f"not found: no {STARTUP}{ending} in site-packages"


def _detectors(problems: list[str]) -> dict[str, Any]:
    """Find out in a fresh process which classes pyimgano creates."""
    ask = ASK % (tuple(DETECTORS),)
    done = subprocess.run(  # noqa: S603 - this interpreter, running our own code
        [sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        problems.append(f"pyimgano.models cannot be imported: {reason}")
        return {}
    found: Mapping[str, str] = json.loads(done.stdout.splitlines()[-1])
    facts = {}
    for name, constructor in found.items():
        ours = constructor.startswith("pyimgano_openclip.")
        facts[name] = f"{constructor or 'unknown to pyimgano'}, {_why(ours)}"
        if not ours:
            what = f"uses its own {name}" if constructor else f"does not know {name}"
            problems.append(
                f"pyimgano {what}. {_remedy()} Or call pyimgano.plugins.load_plugins() before "
                "create_model()."
            )
    return facts


def _why(ours: bool) -> str:
    if ours:
        return "registered when pyimgano.models was imported"
    return "because this package's was not registered"


def _remedy() -> str:
    if os.environ.get(SWITCH) == "0":
        return f"{SWITCH}=0 turns automatic registration off; unset it."
    return "Python did not read the startup file; install the package into site-packages with pip."


def _opencv(problems: list[str]) -> None:
    wheels = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
    found = [wheel for wheel in wheels if installed(wheel)]
    if len(found) > 1:
        problems.append(
            f"{' and '.join(found)} are installed, but share one folder; uninstall all, then "
            "install one."
        )


def _size(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} (empty)"
    total = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    return f"{folder} ({total / 1e6:.1f} MB)"


def _shown(value: object) -> str:
    return "not installed" if value is None else str(value)
