"""No pickle, no code from data, no network: in the wheel's sources, and when it is used."""

import ast
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pyimgano_openclip

from helpers.places import ROOT
from helpers.processes import run_python

# Modules that make objects, or run code, out of bytes.
MODULES = {
    "pickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "dbm",
    "runpy",
}
ERRORS = {"UnpicklingError"}  # to be caught, which unpickles nothing
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
SHELLS = {"system", "popen", "Popen", "check_output", "check_call", "spawnl", "spawnv", "execv"}
# Asks a fresh process of this Python which detectors pyimgano finds.
ALLOWED = {"pyimgano_openclip/cli/doctor.py": ["subprocess.run"]}
# Functions that unpickle unless they are told not to, and how they are told.
TOLD = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}


def objections(source: str) -> list[str]:
    """What in a source could run code that comes from a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            only_errors = {alias.name for alias in node.names} <= ERRORS
            names = [] if only_errors else [node.module.split(".")[0]]
        found += [f"{node.lineno}: import {name}" for name in names if name in MODULES]
        if isinstance(node, ast.Call) and (objection := _objection(node)):
            found.append(f"{node.lineno}: {objection}")
    return found


def _objection(call: ast.Call) -> str:
    what = call.func
    if isinstance(what, ast.Name):
        return what.id if what.id in CALLS else ""
    if not isinstance(what, ast.Attribute):
        return ""
    owner = what.value.id if isinstance(what.value, ast.Name) else ""
    if (owner, what.attr) in TOLD:
        name, value = TOLD[owner, what.attr]
        told = [ast.literal_eval(word.value) for word in call.keywords if word.arg == name]
        return "" if told == [value] else f"{owner}.{what.attr} without {name}={value}"
    if owner in ("os", "subprocess") and what.attr in SHELLS | {"run"}:
        return f"{owner}.{what.attr}"
    return ""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The names and contents of the files of a wheel that is built from this source."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def test_no_source_in_the_wheel_unpickles_evaluates_or_runs_anything(wheel):
    sources = {name: data.decode() for name, data in wheel.items() if name.endswith(".py")}
    assert len(sources) > 50
    found = {name: objections(source) for name, source in sources.items()}
    told = {name: [line.split(": ")[1] for line in lines] for name, lines in found.items() if lines}
    assert told == ALLOWED, found


def test_the_wheel_holds_sources_texts_and_safe_weights_only(wheel):
    kinds = {Path(name).suffix for name in wheel if ".dist-info/" not in name}
    assert kinds <= {".py", ".pth", ".start", ".typed", ".safetensors", ".json", ".md", ".j2",
                     ".html", "", ".css", ".js"}  # fmt: skip
    assert not [name for name, data in wheel.items() if data[:2] in (b"\x80\x04", b"\x80\x05")]


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "from pickle import UnpicklingError, loads",
        "import joblib.numpy_pickle",
        "eval(text)",
        "exec(text, {})",
        "__import__(name)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "os.system(name)",
        "subprocess.run([name])",
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert objections(source)


def test_the_search_objects_to_nothing_else():
    assert not objections(
        "torch.load(path, weights_only=True)\nnp.load(path, allow_pickle=False)\nre.compile(text)\n"
        "model.eval()\nfrom .results import run\nos.replace(a, b)\n"
        "from pickle import UnpicklingError"
    )


BLOCKED = """
import pickle, socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("unpickled, or asked the network")

class Refusing(pickle._Unpickler):  # libraries derive classes of their own from it
    __init__ = refuse

import torch
pickle.load = pickle.loads = torch.load = torch.serialization.load = refuse
pickle.Unpickler = pickle._Unpickler = Refusing

def audit(event, args):
    if event in ("pickle.find_class", "socket.connect", "socket.getaddrinfo", "socket.bind"):
        raise AssertionError(f"{event} {args}")
sys.addaudithook(audit)
# The hook is heard, and so are the functions.
for call in (lambda: pickle.loads(b""), lambda: pickle.Unpickler(None), lambda: torch.load("x"),
             lambda: socket.getaddrinfo("localhost", 80)):
    try:
        call()
    except AssertionError:
        continue
    raise SystemExit("nothing is blocked")
"""

ROUND = """
import tempfile
from pathlib import Path
import numpy as np
from PIL import Image
from pyimgano.models import create_model
from pyimgano_openclip.samples import make_sample

folder = Path(tempfile.mkdtemp())
paths = [folder / f"{seed}.png" for seed in range(4)]
for seed, path in enumerate(paths):
    Image.fromarray(make_sample("carpet", seed=seed).image).save(path)
rounds = {
    "vision_openclip_patchknn": [{"rotations": 2, "knn_backend": "sklearn"}, {}],
    "vision_openclip_promptscore": [{"defects": ["hole"]}, {}],
}
for name, kinds in rounds.items():
    for more in kinds:
        settings = {"openclip_model_name": "bundled", "device": "cpu", **more}
        detector = create_model(name, **settings).fit(paths[:3])
        scores = detector.decision_function(paths)
        detector.predict_anomaly_map(paths)
        detector.explain(paths[3])
        file = detector.save_checkpoint(folder / "model")
        twin = create_model(name, **settings).load_checkpoint(file)
        np.testing.assert_array_equal(twin.decision_function(paths), scores)
        print(name, "done")
"""


@pytest.mark.slow
def test_a_whole_round_unpickles_nothing_and_asks_no_network(tmp_path):
    pytest.importorskip("open_clip")
    done = run_python(
        BLOCKED + ROUND,
        PYTHONPATH=str(Path(pyimgano_openclip.__file__).parent.parent),
        PYIMGANO_OPENCLIP_CACHE=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert done.stdout.count("done") == 4


@pytest.mark.slow
def test_a_tokenizer_that_is_a_program_is_not_run(tmp_path):
    pytest.importorskip("open_clip")
    from pyimgano_openclip import bundled
    from pyimgano_openclip.encoder.weights import find_source, get_tokenizer

    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(bundled.weights_dir(), folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    more = {"hf_tokenizer_name": "own", "tokenizer_kwargs": {"trust_remote_code": True}}
    config["model_cfg"]["text_cfg"].update(more)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    program = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(program))
    (folder / "config.json").write_text("{}")
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w').close()")
    with pytest.raises(ValueError, match="trust_remote_code"):
        get_tokenizer(find_source(f"local-dir:{folder}", None))
    assert not ran.exists()
