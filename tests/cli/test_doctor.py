"""The command `doctor`."""

import json

import pytest

from pyimgano_openclip.cli import main

from helpers.processes import LIGHT, run_python

COMMAND = f"""{LIGHT}
from pyimgano_openclip.cli import main
print(main({{arguments!r}}))"""
WITHOUT_ONNXRUNTIME = 'import sys\nsys.modules["onnxruntime"] = None\n'
EXPORTED = {
    "score": "score {folder} --detector {file} --out {folder}/out",
    "evaluate": "evaluate {folder} {folder} --detector {file}",
    "compare": "evaluate {folder} {folder} --detector {folder}/d --compare {file}",
    "add": "add {folder} --detector {file}",
    "export": "export {file} --to {folder}/again.onnx",
    "threshold": "threshold {file} 0.3",
}


@pytest.mark.parametrize("scores", [True, False])
def test_without_the_full_install_the_doctor_lists_what_is_missing(scores):
    if scores:
        pytest.importorskip("onnxruntime")
    program = COMMAND.format(arguments=["doctor"])
    printed = run_python(program if scores else WITHOUT_ONNXRUNTIME + program).stdout.splitlines()
    for name in ("cv2", "pyimgano", "torch", "open_clip"):
        assert [line.split(maxsplit=1) for line in printed].count([name, "not installed"]) == 1
    assert "  checksums                        correct" in printed
    for line in ("computing: not without torch", "detectors: not without pyimgano"):
        assert line in printed
    kind = "remark: " if scores else "problem: "
    (lacking,) = [line for line in printed if line.startswith(("remark: ", "problem: "))]
    assert lacking.startswith(kind)
    assert "cv2" in lacking
    assert lacking.endswith("need the full install: pip install pyimgano-openclip")
    assert printed[-1] == ("0" if scores else "1")


def test_a_full_install_without_one_of_its_modules_has_a_problem():
    hidden = 'import sys\nsys.modules["cv2"] = sys.modules["pyimgano"] = None\n'
    code = hidden + "from pyimgano_openclip.cli.doctor import _is_light, missing\n"
    assert run_python(code + "print(missing(), _is_light(missing()))").stdout == (
        "['pyimgano', 'cv2'] False\n"
    )


@pytest.mark.parametrize("command", ["demo", "towers", "fit --normal a --out b.safetensors"])
def test_without_the_full_install_other_commands_ask_for_it(command):
    done = run_python(COMMAND.format(arguments=command.split()))
    assert done.stdout == "1\n"
    assert "is not installed: all but exported files need the full install: pip" in done.stderr


@pytest.mark.parametrize("command", EXPORTED.values(), ids=EXPORTED)
def test_no_command_takes_an_exported_file(command, tmp_path, capsys):
    (file := tmp_path / "d.ONNX").write_bytes(b"onnx")
    assert main(command.format(folder=tmp_path, file=file).split()) == 1
    told = capsys.readouterr().err
    assert f"{file} is an exported detector; expected the safetensors file" in told
    assert "Exported files are scored in Python with load_detector()" in told
    assert "Loading" not in told
    assert main(command.format(folder=tmp_path, file=tmp_path / "none.onnx").split()) == 1
    assert "none.onnx: No such file" in capsys.readouterr().err


def test_what_exported_files_are_for_is_said_without_the_full_install(tmp_path):
    (file := tmp_path / "d.onnx").write_bytes(b"onnx")
    (tmp_path / "run.json").write_text("{}")
    arguments = ["score", str(tmp_path), "--detector", str(file), "--out", str(tmp_path)]
    done = run_python(COMMAND.format(arguments=arguments))
    assert "are scored in Python with load_detector()" in done.stderr


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
