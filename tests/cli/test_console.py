"""Standard output and standard error that are missing, closed, full or of another encoding."""

import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.answer import Answer

from helpers.processes import clean_environment, run_python

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /dev/full")
# The command `doctor`, which prints a megabyte and does nothing else; others fail.
ANSWERS = """
import sys
from pathlib import Path
from pyimgano_openclip import cli
from pyimgano_openclip.cli.answer import Answer
from types import SimpleNamespace

def command(name, _):
    if name != ".doctor":
        raise ValueError("no such command")
    return SimpleNamespace(run=lambda _: Answer(["x" * 10**6], {}))

cli.import_module = command
"""
MAIN = "sys.exit(cli.main(sys.argv[1:]))"


def code_and_errors(arguments, *, unbuffered="", **streams):
    """Run a command with other streams; its exit code, and what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", ANSWERS + MAIN, *arguments],
        **{"stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **streams},
        env=clean_environment(PYTHONUNBUFFERED=unbuffered),
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_reader_that_stops_reading_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-c", ANSWERS + MAIN, "doctor"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@linux
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["doctor"], ["--help"], ["score", "--help"], ["--version"]])
def test_output_to_a_full_disk_is_an_error_of_one_line(arguments, unbuffered):
    with Path("/dev/full").open("w") as full:
        code, errors = code_and_errors(arguments, unbuffered=unbuffered, stdout=full)
    assert errors == "pyimgano-openclip: standard output: No space left on device\n"
    assert code == 1


@linux
@pytest.mark.parametrize(("arguments", "code"), [(["doctor"], 0), (["fit"], 2), (["towers"], 1)])
def test_errors_that_cannot_be_written_change_no_exit_code(arguments, code):
    with Path("/dev/full").open("w") as full:
        found, _ = code_and_errors(arguments, stderr=full, stdout=subprocess.DEVNULL)
    assert found == code


@pytest.mark.parametrize("lost", ["sys.stdout = sys.stderr = None",
                                  "sys.stdout.close(); sys.stderr.close()"])  # fmt: skip
@pytest.mark.parametrize(
    ("arguments", "code"), [(["doctor"], 0), (["--help"], 0), (["nothing"], 2), (["towers"], 1)]
)
def test_without_a_console_exit_codes_are_the_same(lost, arguments, code):
    ends = f"import os; raised = None\ntry: raised = cli.main({arguments})\n"
    ends += "except SystemExit as stop: raised = stop.code\n"
    ends += f"os._exit(0 if raised == {code} else 9)"
    run_python(f"{ANSWERS}{lost}\n{ends}")


def test_progress_and_warnings_have_somewhere_to_go_without_a_console(monkeypatch):
    def command(_):
        print("progress", file=sys.stderr)
        sys.stdout.write("result")
        return Answer(["done"], {})

    monkeypatch.setattr(
        "pyimgano_openclip.cli.import_module", lambda *_: SimpleNamespace(run=command)
    )
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert main(["doctor"]) == 0
    assert sys.stdout is sys.stderr is None


def test_what_the_console_cannot_encode_is_escaped(monkeypatch):
    def command(_):
        raise ValueError("no \udcff and no ä")

    strict = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(
        "pyimgano_openclip.cli.import_module", lambda *_: SimpleNamespace(run=command)
    )
    monkeypatch.setattr("sys.stderr", strict)
    assert main(["doctor"]) == 1
    assert strict.buffer.getvalue() == rb"pyimgano-openclip: no \udcff and no \xe4" + b"\n"


def test_the_package_runs_as_a_module_like_the_command():
    done = run_python("import runpy, sys; sys.argv = ['x', '--version']\n"
                      "runpy.run_module('pyimgano_openclip', run_name='__main__')")  # fmt: skip
    assert done.stdout.startswith("pyimgano-openclip ")


def test_a_person_is_told_at_once_that_a_model_is_loaded(tmp_path, monkeypatch, capsys):
    said = []

    def imported(*_):
        said.append(capsys.readouterr().err)
        return SimpleNamespace(run=lambda _: Answer([], {}))

    monkeypatch.setattr("pyimgano_openclip.cli.import_module", imported)
    for more in ([], ["--json"]):
        assert main(["score", "x", "--out", str(tmp_path), *more]) == 0
    assert main(["doctor"]) == 0
    assert said == ["Loading the model ...\n", "", ""]


@pytest.mark.parametrize(("theirs", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_of_a_command_leave_the_cores_to_others(
    theirs: str | None, expected: str
) -> None:
    environment = clean_environment()
    environment.pop("OMP_WAIT_POLICY", None)
    code = (
        "import os, sys; sys.argv = ['x', 'threshold', 'missing', '0.1']\n"
        "from pyimgano_openclip.cli import main\n"
        "assert 'torch' not in sys.modules\n"
        "print(main(), os.environ['OMP_WAIT_POLICY'])"
    )
    if theirs is not None:
        environment["OMP_WAIT_POLICY"] = theirs
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", expected]
