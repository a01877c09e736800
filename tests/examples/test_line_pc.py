"""The example for machines without torch, and its rule of resizing."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from helpers.examples import load, run
from helpers.places import EXAMPLES, ROOT

RUNTIME = ROOT / "src" / "pyimgano_openclip" / "runtime" / "README.md"


@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
@pytest.mark.parametrize(
    ("size", "canvas"),
    [((120, 160), (96, 128)), ((33, 47), (96, 64)), ((300, 50), (24, 32)), ((8, 8), (8, 8))],
)
def test_the_rule_of_resizing_is_pillows_to_the_last_bit(name, size, canvas):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    expected = Image.fromarray(pixels).resize(canvas[::-1], Image.Resampling[name.upper()])
    resize = load("line_pc").resize
    columns, rows = (resize(pixels, canvas, name, rows_first=rows) for rows in (False, True))
    assert any(np.array_equal(found, expected) for found in (columns, rows))
    assert np.abs(columns.astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.slow
def test_the_kit_tells_what_must_come_out(tmp_path, capsys):
    pytest.importorskip("onnxscript")
    run("line_pc", "--kit", tmp_path)
    expected = json.loads((tmp_path / "expected.json").read_text())
    stated = re.search(r"score is\s+(0\.\d+)", RUNTIME.read_text(encoding="utf-8"))
    assert expected["score"] == pytest.approx(float(stated[1]), abs=1e-3)
    assert expected["label"] == 1
    part, nothing = tmp_path / "part.png", tmp_path / "nothing.png"
    with pytest.warns(RuntimeWarning, match="could not be read"):
        run("line_pc", part, nothing, "--detector", tmp_path / "leather.onnx")
    told, missing = map(json.loads, capsys.readouterr().out.splitlines())
    assert told["score"] == pytest.approx(expected["score"], abs=1e-6)
    assert told["regions"]
    assert (missing["score"], missing["label"]) == (None, 1)
    assert part.read_bytes() == (EXAMPLES / "pictures" / "line-pc.png").read_bytes()
