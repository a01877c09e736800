"""The example for machines without torch, and its rule of resizing."""

import json
import re
import shutil
import subprocess

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


PROGRAM = """
#include <cstdlib>
#include <fstream>
#include "resize_as_pillow.hpp"
int main(int, char** given) {
    const auto number = [&](int place) { return std::atoi(given[place]); };
    Pixels image(std::size_t(3) * number(1) * number(2));
    std::ifstream file("old", std::ios::binary);
    file.read(reinterpret_cast<char*>(image.data()), image.size());
    const Pixels found =
        resize_as_pillow(image, number(1), number(2), number(3), number(4), given[5]);
    std::ofstream("new", std::ios::binary)
        .write(reinterpret_cast<const char*>(found.data()), found.size());
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_the_rule_in_cpp_is_that_in_python(tmp_path):
    (tmp_path / "program.cpp").write_text(PROGRAM)
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-I", EXAMPLES]
    subprocess.run([*command, "program.cpp", "-o", "program"], cwd=tmp_path, check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    (tmp_path / "old").write_bytes(pixels.tobytes())
    for canvas, name in (((96, 64), "bicubic"), ((12, 20), "bicubic"), ((12, 64), "bilinear")):
        sizes = [str(side) for side in (*pixels.shape[:2], *canvas)]
        subprocess.run([tmp_path / "program", *sizes, name], cwd=tmp_path, check=True)
        expected = load("line_pc").resize(pixels, canvas, name).tobytes()
        assert (tmp_path / "new").read_bytes() == expected


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
    shown = Image.open(tmp_path / "part.ppm")
    assert np.array_equal(shown, Image.open(part))
    assert part.read_bytes() == (EXAMPLES / "pictures" / "line-pc.png").read_bytes()
