"""Help, errors and exit codes of the command line."""

import signal
import sys
from types import SimpleNamespace

import pytest

from pyimgano_openclip import load_detector
from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.messages import listed, of_each_kind

from helpers import runs
from helpers.processes import run, run_python

LOADING = "Loading the model ...\n"
FIT = "fit --normal {parts} --out {saved}"
SCORE = "score {parts} --out {out}"

FAILURES = {
    SCORE + " --detector {out}/no": "/no: No such file",
    SCORE + " --detector {parts}/part-0.png": "part-0.png is damaged or not a checkpoint: it is",
    "score {parts}/none --out {out} --class-name nut": "does not exist",
    "fit --normal {parts} --out {parts}": "is a folder",
    "fit --normal {parts} --out {file}/d.safetensors": "{file} is not a folder",
}

WRONG_USAGE = {
    SCORE + " --detector {out} --class-name nut": "--detector FILE or --class-name WORD, not both",
    SCORE + " --detector {out} --model RN50": "A saved detector has its own model; omit --model",
    SCORE + " --detector {out} --set k=3": "of a saved detector",
    SCORE + " --class-name nut --set contamination=0.2": "--set contamination=0.2 needs normal",
    SCORE + " --class-name nut --set confidence=0.9": "--set confidence=0.9 needs normal images",
    "fit --normal {parts} --out detector.pt": "must end in .safetensors",
    FIT + " --as-references": "--class-name",
    FIT + " --defects dent": "--class-name",
    FIT + " --contamination 5 --model bundled": "contamination",
    FIT + " --set foo=1 --model bundled": "no argument foo",
    FIT
    + " --set max_patchs=9 --model bundled": "no argument max_patchs; did you mean max_patches?",
    FIT + " --model bundled --pretrained openai": "includes its weights",
}
# The same, as far as it takes torch to notice.
LATE_FAILURES = {
    "score {parts} --out {file} --class-name nut --model bundled": "pass a folder for the results",
    "fit --normal {file} --out {saved} --model bundled": ": {file} cannot be opened",
    "fit --normal {file} {empty} --out {saved} --model bundled": "2 images cannot be read; ",
}
LATE_WRONG_USAGE = {
    SCORE + " --class-name nut --model bundle": "no model 'bundle'; did you mean 'bundled'",
    FIT + " --set layers=3 --model bundled": "it must be a list",
    FIT + " --device gpu": "such as 'cpu'",
    FIT + " --model RN50": "--model RN50 needs --pretrained",
    FIT + " --model RN50 --pretrained no": "--pretrained no is neither",
    FIT + " --model RN50 --pretrained openia": "did you mean 'openai'?",
    FIT + " --model RN5 --pretrained openai": "pyimgano-openclip towers",
}


def rows(messages, code, marks=()):
    return [pytest.param(*row, code, marks=marks) for row in messages.items()]


@pytest.mark.parametrize(
    ("command", "message", "code"),
    [
        *rows(FAILURES, 1),
        *rows(WRONG_USAGE, 2),
        *rows(LATE_FAILURES, 1, pytest.mark.slow),
        *rows(LATE_WRONG_USAGE, 2, pytest.mark.slow),
    ],
)
def test_what_goes_wrong_is_said_in_one_line_and_by_the_exit_code(
    parts, tmp_path, capsys, command, message, code
):
    places = {
        "parts": parts, "out": tmp_path / "out", "file": tmp_path / "notes.txt",
        "saved": tmp_path / "d.safetensors", "empty": tmp_path / "empty.png",
    }  # fmt: skip
    places["file"].write_text("no image")
    places["empty"].touch()
    assert main(command.format(**places).split()) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.removeprefix(LOADING).startswith("pyimgano-openclip: ")
    assert message.format(**places) in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fit"],
        ["demo", "--set", "3"],
        ["score", "x", "--out", "y", "--threshold", "nan"],
        ["score", "x", "--out", "y", "--threshold", "high"],
        ["score", "x", "--out", "y", "--batch-size", "0"],
        ["score", "x", "--out", "y", "--max-pixels", "0"],
        ["fit", "--normal", "x", "--out", "y", "--max-pixels", "1e9"],
        ["score", "x", "--out", "y", "--set", "k"],
        ["threshold", "x", "1", "--contamination", "0.1"],
    ],
)
def test_wrong_usage_is_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("while_importing", [False, True])
def test_only_score_says_that_it_can_go_on(while_importing, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    stopped = interrupted if while_importing else lambda *_: SimpleNamespace(run=interrupted)
    monkeypatch.setattr("pyimgano_openclip.cli.import_module", stopped)
    assert main(["score", "x", "--out", "y"]) == 130
    assert capsys.readouterr().err.endswith(
        "\nInterrupted. Run the same command again to resume.\n"
    )
    assert main(["fit", "--normal", "x", "--out", "y"]) == 130
    assert capsys.readouterr().err.endswith("\nInterrupted.\n")


STOPPED = """
import os, signal, sys
from types import SimpleNamespace
from pyimgano_openclip import cli
from pyimgano_openclip.files.atomic import folder_beside

def run(options):
    with folder_beside(options.out, ".fit-") as partial:
        (partial / "half").touch()
        os.kill(os.getpid(), int(options.normal[0].name))
        print("went on")

cli.import_module = lambda *_: SimpleNamespace(run=run)
for name in ("SIGTERM", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)  # whoever started the tests ignores them
sys.exit(cli.main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="kills by signal")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_command_that_is_told_to_stop_cleans_up_and_exits_as_shells_expect(name, tmp_path):
    out, number = tmp_path / "out/a.safetensors", int(getattr(signal, name))
    command = [sys.executable, "-c", STOPPED, "fit", "--normal", number, "--out", out]
    done = run(*command, fails=True)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert done.stderr.endswith("\nInterrupted.\n")
    assert list(out.parent.iterdir()) == []


def test_of_many_names_a_few_are_told():
    assert listed(["a", "b"]) == "a, b"
    assert listed([str(n) for n in range(9)]) == "0, 1, 2, 3, 4 and 4 more"


def test_help_loads_nothing_heavy():
    code = """
import sys
from pyimgano_openclip.cli import main
for command in " demo fit score evaluate add threshold export towers doctor download".split(" "):
    try:
        main([*filter(None, [command]), "--help"])
    except SystemExit as stop:
        assert stop.code == 0
heavy = ["torch", "open_clip", "cv2", "numpy", "PIL", "jinja2", "tqdm", "pyimgano"]
print("loaded:", *(name for name in heavy if name in sys.modules))"""
    assert run_python(code).stdout.endswith("loaded:\n")


def test_every_kind_of_reason_is_told_once_with_images_that_it_is_of():
    names = ["mask", *(f"part_{letter}" for letter in "abcdefghijklmnopqrst")]
    reasons = {
        f"x/{name}.png": f"/x/{name}.png: there is no mask: expected {name}.png or {name}_mask.png"
        for name in names
    }
    broken = {f"{n}.png": f"/new/{n}.png cannot be decoded ({n} bytes are left)" for n in (7, 12)}
    others = {f"{kind}.png": f"/new/{kind}.png is {kind}" for kind in "abcdef"}
    late = {"late/": "/new/late cannot be searched: Permission denied"}
    assert of_each_kind({**reasons, **broken, **others, **late}) == [
        "21 images, such as x/mask.png and x/part_a.png: there is no mask: expected *.png or "
        "*_mask.png",
        "2 images, such as 7.png and 12.png: cannot be decoded (7 bytes are left)",
        *others.values(),
        *late.values(),
    ]


@pytest.mark.parametrize("command", ["add", "evaluate", "export"])
def test_help_of_a_saved_detector_names_no_model_but_its_own(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "ViT-B-16-plus-240" not in told
    assert "laion400m_e31" not in told
    assert "--model local-dir:DIR folder on this machine with the saved model" in told
    assert "--pretrained FILE weights of the saved model on this machine" in told


def test_help_shows_no_doubled_percent_sign(capsys):
    for command in ("demo", "fit", "score", "evaluate", "add", "threshold", "export", "towers"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert "%%" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--contamination", "0.3", "--set", "contamination=0.2"],
         "--contamination 0.3 and --set contamination=0.2 are both given; omit one"),
        (["--smallest-defect", "20", "--set", "smallest_defect=4"],
         "--smallest-defect 20.0 and --set smallest_defect=4 are both"),
        (["--roi", "[0, 0, 9, 9]", "--set", 'roi="masks"'],
         "--roi [0, 0, 9, 9] and --set roi=masks are both"),
        (["--device", "cpu", "--set", "device=cpu"], "--device cpu and --set device=cpu are both"),
        (["--set", "openclip_model_name=bundled"],
         "--model bundled and --set openclip_model_name=bundled are both"),
        (["--class-name", "nut", "--defects", "cut", "--set", 'defects=["dent"]'],
         '--defects ["cut"] and --set defects=["dent"] are both'),
        (["--set", "max_patches=100", "--set", "max_patches=200"],
         "--set max_patches=100 and --set max_patches=200 are both"),
        (["--class-name", "nut", "--set", "class_name=screw"],
         "--class-name nut and --set class_name=screw are both"),
    ],
)  # fmt: skip
def test_an_argument_that_is_given_twice_is_refused(arguments, told, tmp_path, capsys):
    images = str(runs.leather(tmp_path / "good", 3))
    fit = ["fit", "--normal", images, "--out", str(tmp_path / "d.safetensors")]
    assert main([*fit, "--model", "bundled", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_what_only_an_option_sets_is_refused_of_set(tmp_path, capsys):
    score = ["score", str(tmp_path), "--out", str(tmp_path / "out"), "--class-name", "nut"]
    assert main([*score, "--set", "on_error=raise"]) == 2
    assert "--set on_error=raise: pass --on-error raise instead." in capsys.readouterr().err


@pytest.mark.slow
def test_an_argument_that_has_a_default_is_given_by_set_alone(tmp_path, capsys):
    images = str(runs.leather(tmp_path / "good", 10))
    fit = ["fit", "--normal", images, "--out", str(tmp_path / "d.safetensors")]
    given = ["device=cpu", "contamination=0.3", "batch_size=2"]
    more = [part for setting in given for part in ("--set", setting)]
    assert main([*fit, "--model", "bundled", *more]) == 0
    assert load_detector(tmp_path / "d.safetensors").contamination == 0.3
    assert main([*fit, "--model", "bundled", "--overwrite", "--set", "device=abacus"]) != 0
    assert "abacus" in capsys.readouterr().err
