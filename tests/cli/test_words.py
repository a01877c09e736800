"""What commands say names what a user of commands knows, not names of Python."""

import ast
import re
import warnings
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

import pyimgano_openclip
from pyimgano_openclip.cli import main
from pyimgano_openclip.cli.promised import promise_line
from pyimgano_openclip.cli.words import OPTIONS, SETTINGS, command_words
from pyimgano_openclip.detector.promises import Promise
from pyimgano_openclip.mutual import VisionOpenCLIPMutual
from pyimgano_openclip.patchknn import VisionOpenCLIPPatchKNN
from pyimgano_openclip.promptscore import VisionOpenCLIPPromptScore

from helpers.embedders import red_image

SOURCE = Path(pyimgano_openclip.__file__).parent
# What no command runs, or what speaks to who writes a program.
APART = ("cli", "distributed.py", "runtime", "samples", "frame.py")
# Calls, places in lists, and values of arguments.
PYTHON = re.compile(r"\w\(\)|\w\(\.\.\.|\bx\[|(?<!--set )\b[a-z]\w*=(?!=)|\bthreshold_\b")
# Parts of what is told to programs only, since no command asks for it.
FOR_PROGRAMS = (
    "in_order=",
    "embedder= chooses",
    "use iter_anomaly_maps()",
    "with_tokens=True",
    "on a canvas of",
    "hottest_spot() was given",
    "drift() was given",
    "export_onnx() writes",
    "choose_canvas() gives",
    "embed() returned",
    "embedder= cannot be exported",
    "scored in Python with load_detector()",
    "only Python can load it",
    "get_anomaly_map() returns",
    "low=1 must be",
    "There is no pool yet",
    "use set_class_name()",
    "reject_label=",
)


def _text(node):
    """A string as it is written, with a number in place of each value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.FormattedValue):
        return "1"
    return "".join(map(_text, node.values))


def sentences():
    """Every text of the library but docstrings, with its file."""
    for file in sorted(SOURCE.rglob("*.py")):
        place = file.relative_to(SOURCE)
        if place.parts[0] in APART:
            continue
        tree = ast.parse(file.read_text("utf-8"))
        inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                inner |= {id(part) for part in ast.walk(node)} - {id(node)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.JoinedStr, ast.Constant)) and id(node) not in inner:
                text = _text(node)
                if " " in text:
                    yield f"{place}: {text}"


def test_no_text_of_the_library_reaches_the_command_line_in_names_of_python():
    told = {command_words(text) for text in sentences()}
    found = {text for text in told if PYTHON.search(text)}
    for_programs = {text for text in found if any(part in text for part in FOR_PROGRAMS)}
    assert found - for_programs == set()
    assert len(for_programs) == len(FOR_PROGRAMS)  # none is left of a sentence that is gone


def test_every_argument_has_a_word():
    detectors = (VisionOpenCLIPMutual, VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore)
    arguments = {name for kind in detectors for name in signature(kind).parameters}
    arrays = {"embedder", "text_features_anomaly", "text_features_normal"}
    assert {*OPTIONS, *SETTINGS} == arguments - arrays | {"groups"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("confidence=0.95 has no effect", "--confidence 0.95 has no effect"),
        ("confidence=0.3; it must be", "--confidence 0.3; it must be"),
        ("roi='a b.png' has", "--roi a b.png has"),
        ("windows=(2, 3) reach beyond roi=;", "--set windows=[2, 3] reach beyond --roi;"),
        ("neighbourhoods=(2,); each", "--set neighbourhoods=[2]; each"),
        ("pretrained=False, or recipe='musc'.", "--set pretrained=false, or --set recipe=musc."),
        ("openclip_pretrained='x.pt' (--pretrained), but", "--pretrained x.pt, but"),
        ("pass openclip_model_name='local-dir:DIR' with", "pass --model local-dir:DIR with"),
        ("(groups=, --group-by folder or FILE)", "(--group-by folder or FILE)"),
        ("with fit(..., groups=), or --group-by.", "with --group-by."),
        ("2 images: x[0]: a.png is; x[1]: b.png is", "2 images: a.png is; b.png is"),
        ("x[3] (d (1).png) is a copy of x[1] (b.png); x[5] (f.png) is a copy of a.png; and 2 more",
         "d (1).png is a copy of b.png; f.png is a copy of a.png; and 2 more"),
        ("x[1] (two\nlines.png) is a copy of a.png", "two\nlines.png is a copy of a.png"),
        ("(smallest_defect)", "(--smallest-defect)"),
        ("--set smallest_defect=4, --set mode=a", "--set smallest_defect=4, --set mode=a"),
        ("openclip_pretrained='w (1).pt' is", "--pretrained w (1).pt is"),
        ('class_name="it\'s"; it', "--class-name it's; it"),
        ("roi=[(0, 0), (9, 0), (9, 9)] is", "--roi [[0, 0], [9, 0], [9, 9]] is"),
        ("roi='C:\\\\a' is", "--roi C:\\a is"),
        ("jitter=1e-05; it", "--set jitter=1e-05; it"),
        ("contamination=nan; it", "--contamination nan; it"),
        ("windows=(2, 3).", "--set windows=[2, 3]."),
    ],
)  # fmt: skip
def test_names_of_python_are_told_as_they_are_given_to_commands(text, said):
    assert command_words(text) == said


@pytest.mark.parametrize(
    "path",
    [
        "/runs/roi=1/mode=a.png", "a-mode=b.png", "good mode=1/bad.png", "roi=left mode=x.png",
        "roi=left/a.png", "mode=1,windows=2/a.png", "a (mode=1).png", "mode=1.png", "mode=(1).png",
        "smallest_defect/a.png", "a/smallest_defect.png", "smallest_defect-1/a.png",
        "out/vision_openclip_patchknn/a.png", "vision_openclip_patchknn/a.png",
        "C:\\roi=1\\a.png", "class_name='it's' x",
    ],
)  # fmt: skip
def test_a_path_is_told_as_it_is(path):
    for text in (path, f"{path} cannot be opened: no image", f"2 images: {path}: {path}; {path}"):
        assert command_words(text) == text


def test_the_path_of_an_image_is_kept_where_only_its_reader_can_tell(tmp_path):
    path = f"{tmp_path}/a mode=1 smallest_defect 'b'.png"
    told = command_words(f"x[3]: {path}: {path}: roi=DIR.", path)
    assert told == f"{path}: {path}: --roi DIR."


@pytest.mark.slow
def test_fit_and_add_tell_paths_as_they_are(tmp_path, capsys):
    folder = tmp_path / "run mode=1 b"
    inside = folder / "at windows=2 x"
    inside.mkdir(parents=True)
    for number in range(3):
        Image.fromarray(red_image(30, 45, seed=number)).save(inside / f"{number}.png")
    out = folder / "fitted.safetensors"
    fit = ["fit", "--normal", str(folder), "--model", "bundled", "--out", str(out)]
    masks = tmp_path / "masks mode=1 b"
    masks.mkdir()
    Image.new("L", (45, 30), 255).save(masks / "0.png")
    for name in ("1", "2"):
        (masks / f"{name}.png").symlink_to(masks / "0.png")
    assert main([*fit, "--roi", str(masks)]) == 0
    assert f"roi: masks in {masks}\n" in capsys.readouterr().out
    assert main(fit) == 1
    assert f" {out} exists; choose another --out" in capsys.readouterr().err
    torn = inside / "3.png"
    for number in (3, 4):
        (inside / f"{number}.png").write_bytes(b"torn")
        for command in ([*fit, "--overwrite"], ["add", str(folder), "--detector", str(out)]):
            assert main(command) == 1
            told = capsys.readouterr().err
            assert f" {torn} cannot be" in told or f" {torn}: there is no mask" in told
            assert "--set" not in told


def test_paths_that_were_typed_stay_in_errors_and_warnings(monkeypatch, capsys):
    given = "a mode=1 b"

    def run(_):
        warnings.warn(f"{given} has groups=.", UserWarning, stacklevel=1)
        raise ValueError(f"{Path(given).absolute()}/x.png and {given} have mode=1.")

    monkeypatch.setattr("pyimgano_openclip.cli.import_module", lambda *_: SimpleNamespace(run=run))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["score", given, "--class-name", "a", "--out", "b"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "Loading the model ...",
        f"pyimgano-openclip: warning: {given} has --group-by.",
        f"pyimgano-openclip: {Path(given).absolute()}/x.png and {given} have --set mode=1.",
    ]


def test_warnings_and_errors_are_told_so_too(monkeypatch, capsys):
    def run(_):
        warnings.warn("Pass groups=, or recipe='musc'.", UserWarning, stacklevel=1)
        raise ValueError("There is no threshold yet; call fit() first.")

    monkeypatch.setattr("pyimgano_openclip.cli.import_module", lambda *_: SimpleNamespace(run=run))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["doctor"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "pyimgano-openclip: warning: Pass --group-by, or --set recipe=musc.",
        "pyimgano-openclip: There is no threshold yet; 'fit' first.",
    ]


def test_what_a_threshold_promises_names_the_option():
    promise = Promise(0.1, 0.13, 0.95, 327, False, 0.1, 29)
    assert promise_line(promise).endswith(
        "at most 13 % (327 images; 29 would bound 10 % with --confidence 0.95)"
    )
