"""What needs the full install says so where there is only what exported files need."""

import pytest

from helpers.processes import LIGHT, run_python

NEEDS_IT = {
    "load_detector({file!r})": "pyimgano",
    "pyimgano_openclip.overlay": "cv2",
    "pyimgano_openclip.export_onnx": "torch",
    "pyimgano_openclip.VisionOpenCLIPMutual": "pyimgano",
    "exec('from pyimgano_openclip import *')": "torch",
    "exec('from pyimgano_openclip.pictures import overlay')": "cv2",
    "exec('from pyimgano_openclip.samples import make_sample')": "cv2",
}
PROGRAM = f"""{LIGHT}
import pyimgano_openclip
from pyimgano_openclip import load_detector
try:
    {{code}}
except {{kind}} as error:
    print(error)"""


@pytest.mark.parametrize(("code", "name"), NEEDS_IT.items())
def test_what_is_missing_and_what_to_install_is_said(code, name, tmp_path):
    (file := tmp_path / "d.safetensors").touch()
    program = PROGRAM.format(code=code.format(file=str(file)), kind="ImportError")
    expected = f"{name} is not installed: all but exported files need the full install: pip install"
    assert run_python(program).stdout.startswith(expected)


def test_what_is_missing_when_a_file_is_read_is_said_likewise(tmp_path):
    pytest.importorskip("pyimgano")
    (file := tmp_path / "d.safetensors").touch()
    program = """
import sys
sys.modules["safetensors"] = None
from pyimgano_openclip import load_detector
try:
    load_detector({file!r})
except ImportError as error:
    print(error)"""
    told = run_python(program.format(file=str(file))).stdout
    assert told.startswith("safetensors is not installed: all but")


def test_a_file_that_is_not_there_is_told_before_what_is_not_installed(tmp_path):
    for name in ("none.safetensors", "none.onnx"):
        program = PROGRAM.format(
            code=f"load_detector({str(tmp_path / name)!r})", kind="FileNotFoundError"
        )
        assert name in run_python(program).stdout


def test_other_modules_are_missing_by_their_own_names():
    from pyimgano_openclip.full_install import full_install

    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such'"), full_install():
        import no_such  # noqa: F401
