"""Fresh interpreters, for tests of what happens when something is imported first."""

import os
import subprocess
import sys

from helpers.places import TESTS

NAMES = ("vision_openclip_patchknn", "vision_openclip_promptscore")
HOSTS_OWN = ["pyimgano.models", "pyimgano.models"]  # its lazy placeholders
OURS = ["pyimgano_openclip.patchknn", "pyimgano_openclip.promptscore"]
NOT_INHERITED = ("PYIMGANO_OPENCLIP_AUTOLOAD", "PYTHONPATH", "PYTHONWARNINGS")

# First lines of a program, as with onnxruntime, numpy and pillow alone.
LIGHT = """
import sys
for name in ("torch", "open_clip", "timm", "pyimgano", "cv2", "tqdm", "jinja2", "safetensors",
             "huggingface_hub", "scipy", "sklearn"):
    sys.modules[name] = None"""


def clean_environment(**env: str) -> dict[str, str]:
    """The variables of this process without those that change how another starts, and more."""
    inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
    return {**inherited, **env}


def run(*command: object, fails: bool = False, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder of the tests, and check whether it fails as expected."""
    done = subprocess.run(
        [str(part) for part in command],
        env=clean_environment(**env),
        cwd=TESTS,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def run_python(
    code: str, *flags: str, python: object = sys.executable, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter; ``helpers`` can be imported there."""
    return run(python, *flags, "-c", code, **env)


def registered(
    first: str = "", *flags: str, python: object = sys.executable, **env: str
) -> list[str]:
    """The modules of both registered constructors, after some code, which must print nothing."""
    ask = f"""{first}
import pyimgano.models
print(*(pyimgano.models.MODEL_REGISTRY.get(name).__module__ for name in {NAMES}))"""
    done = run_python(ask, *flags, python=python, **env)
    assert done.stderr == ""
    return done.stdout.split()
