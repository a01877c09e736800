"""The command `doctor`."""

import json

import pytest

from pyimgano_openclip.cli import main

from helpers.processes import run_python

# As after pip install --no-deps pyimgano-openclip onnxruntime numpy pillow.
LIGHT = """
import sys
for name in ("torch", "open_clip", "timm", "pyimgano", "cv2", "tqdm", "jinja2", "safetensors",
             "huggingface_hub", "scipy"):
    sys.modules[name] = None
from pyimgano_openclip.cli import main
print(main({arguments!r}))"""


def test_without_the_full_install_the_doctor_lists_what_is_missing():
    printed = run_python(LIGHT.format(arguments=["doctor"])).stdout.splitlines()
    for name in ("cv2", "pyimgano", "torch", "open_clip"):
        assert [line.split(maxsplit=1) for line in printed].count([name, "not installed"]) == 1
    assert "  checksums                        correct" in printed
    (problem,) = [line for line in printed if line.startswith("problem: ")]
    assert "cv2" in problem
    assert problem.endswith("need the full install: pip install pyimgano-openclip")
    assert printed[-1] == "1"


@pytest.mark.parametrize("command", ["demo", "towers", "fit --normal a --out b.safetensors"])
def test_without_the_full_install_other_commands_ask_for_it(command):
    done = run_python(LIGHT.format(arguments=command.split()))
    assert done.stdout == "1\n"
    assert "is not installed: all but exported files need the full install: pip" in done.stderr


@pytest.mark.slow
def test_the_doctor_tells_which_classes_pyimgano_will_use(capsys, monkeypatch):
    code = main(["doctor", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["versions"]) >= {"pyimgano", "torch", "numpy", "pyimgano-openclip"}
    assert facts["computing"]["device"]
    assert facts["bundled model"]["checksums"] == "correct"
    assert code == (1 if facts["problems"] else 0)
    monkeypatch.setenv("PYIMGANO_OPENCLIP_AUTOLOAD", "0")
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "pyimgano uses its own vision_openclip_patchknn" in text
    assert "pyimgano does not know vision_openclip_mutual" in text
    assert "unset it" in text
