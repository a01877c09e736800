"""The programs and commands in the README do what it says, with the bundled model as the tower."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from helpers.host import BUNDLED
from helpers.parts import make_parts, part, save, with_hole
from helpers.places import README

pytestmark = pytest.mark.slow

FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = {
    "pip install": "package/test_lifecycle.py, and .ci/run",
    "python examples/openclip_mvtec_visa.py": "examples/test_mvtec_visa.py",
}
WORDS = 1500  # a newcomer's ten minutes
FILE = re.compile(r"\S+(/|\.safetensors|\.jsonl)")


def blocks(language):
    """Blocks of one language."""
    text = README.read_text(encoding="utf-8")
    return [block for found, block in FENCED.findall(text) if found == language]


def commands():
    lines = "".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [line for line in lines if not line.startswith(tuple(ELSEWHERE))]


def test_it_is_for_ten_minutes_and_every_file_that_it_names_is_there():
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= WORDS
    links = re.findall(r"\]\((?!https:)([^)]+)\)", text)
    named = {*links, *re.findall(r"examples/\w+\.py", text)}
    assert [name for name in named if not (README.parent / name).is_file()] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place with the files that the README names."""
    root = tmp_path_factory.mktemp("readme")
    (root / "mvtec_ad").symlink_to(make_parts(root / "made").root)
    (root / "mvtec_ad" / "screw").symlink_to(root / "mvtec_ad" / "tile")
    for seed in range(6):
        save(root / "normal" / f"{seed}.png", part(seed))
    (root / "good").symlink_to(root / "normal")
    for seed in range(6, 9):
        save(root / "held-out-good" / f"{seed}.png", part(seed))
    (root / "bad").symlink_to(root / "new")
    for number in (1, 2):
        damaged, _ = with_hole(part(20 + number))
        save(root / f"part{number}.png", damaged)
        save(root / "new" / f"{number}.png", damaged)
    return root


def test_the_programs_run_one_after_the_other(folder, monkeypatch):
    pytest.importorskip("open_clip")
    monkeypatch.chdir(folder)
    found = {}
    for program in blocks("python"):
        tiny = re.sub(r'create_model\("\w+"', r'\g<0>, openclip_model_name="bundled"', program)
        exec(compile(tiny, "README.md", "exec"), found)
    assert found["heat"].shape == (64, 96)
    assert found["labels"].tolist() == [1, 1]
    assert np.all((found["scores"] > 0) & (found["scores"] < 1))
    with Image.open("part1-overlay.png") as picture:
        assert picture.size == (96, 64)


@pytest.mark.parametrize("line", commands())
def test_the_commands_run(host, folder, line):
    words = [str(folder / word) if FILE.fullmatch(word) else word for word in shlex.split(line)]
    if words[0] == "pyimgano-openclip" and words[1] in ("demo", "download"):
        pytest.skip("tests/cli runs it")
    if words[0] != "pyimgano-openclip":
        chosen = {}
        if "--model-kwargs" in words:
            place = words.index("--model-kwargs")
            _, chosen = words.pop(place), json.loads(words.pop(place))
        words += ["--model-kwargs", json.dumps({**chosen, **BUNDLED})]
    elif "fit" in words or "--class-name" in words:
        words += ["--model", "bundled"]
    if "fit" in words:
        words += ["--overwrite"]  # another chapter has saved a detector under the same name
    host.run(*words)


def test_what_the_commands_make_is_there(folder):
    results = folder / "results"
    names = {"scores.csv", "scores.jsonl", "report.html"}
    assert names <= {path.name for path in results.iterdir()}
    assert len((folder / "results.jsonl").read_text().splitlines()) == 2
