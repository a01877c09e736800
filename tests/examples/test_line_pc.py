"""The example for machines without torch, and its rule of resizing."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.bank.limits import MARGINS, Limits
from pyimgano_openclip.images.look import look_of, shrunk
from pyimgano_openclip.samples import make_sample

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


UNLIKE = """
#include <fstream>
#include <iostream>
#include <iterator>
#include "unlike.hpp"
int main(int, char** given) {
    const auto number = [&](int place) { return std::atoi(given[place]); };
    Pixels image(std::size_t(3) * number(3) * number(4));
    std::ifstream file("pixels", std::ios::binary);
    file.read(reinterpret_cast<char*>(image.data()), image.size());
    std::string line;
    for (std::ifstream each("limits"); std::getline(each, line);)
        std::cout << unlike(read_limits(line), number(1), number(2), image, number(3), number(4),
                            std::atof(given[5]), std::atof(given[6])) << "\\n";
}
"""
ONE_END = {"edges": 1, "repeats": 1, "grain": -1}  # which ends of a limit count


@pytest.fixture(scope="module")
def unlike(tmp_path_factory):
    """What the C++ code says of an image by each of some limits, at a distance of 0.75."""
    if shutil.which("g++") is None:
        pytest.skip("there is no g++")
    folder = tmp_path_factory.mktemp("unlike")
    (folder / "program.cpp").write_text(UNLIKE)
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-I", EXAMPLES]
    subprocess.run([*command, "program.cpp", "-o", "program"], cwd=folder, check=True)

    def told(original, pixels, limits):
        (folder / "pixels").write_bytes(pixels.tobytes())
        (folder / "limits").write_text("".join(f"{Limits(each).as_json()}\n" for each in limits))
        numbers = [str(number) for number in (*original, *pixels.shape[:2], 0.75, 0.5)]
        command = [folder / "program", *numbers]
        done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
        return done.stdout.split("\n")[:-1]

    return told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "size"), [("leather", (96, 128)), ("screw", (301, 403)), ("cork", (225, 90))]
)
def test_each_limit_in_cpp_is_that_in_python(unlike, family, size):
    pixels = make_sample(family, seed=1, size=size).image
    look, original = look_of(shrunk(pixels)), (480, 640)
    known = {
        "proportions": [np.log(640 / 480)],
        "sides": [np.log(480 * 640) / 2],
        "distance": [0.75],
        "most": [0.5],
        "half": list(look.halves.values()),
        **{name: [getattr(look, name)] for name in MARGINS if name != "half"},
    }
    around = {name: (min(each) - 1e-3, max(each) + 1e-3) for name, each in known.items()}
    limits, expected = [around], [""]
    for name, (low, high) in around.items():
        apart = 2e-3 + high - low
        for way in (-1, 1):
            limits.append({**around, name: (low + way * apart, high + way * apart)})
            expected.append(name if ONE_END.get(name, way) == way else "")
    told = [Limits(each).unlike(original, look, 0.75, np.array([0.5 / 0.75])) for each in limits]
    assert [why is None for why in told] == [not name for name in expected]
    assert unlike(original, pixels, limits) == expected


@pytest.mark.slow
def test_flat_frames_in_cpp_are_those_in_python(unlike):
    rng, seen = np.random.default_rng(0), set()
    for brightness in (0, 9, 14, 120, 243, 248):
        for contrast in (0, 1.8, 2.2, 3.8, 4.2):
            levels = rng.normal(brightness, contrast, (60, 80, 1)).round().clip(0, 255)
            pixels = np.repeat(levels.astype(np.uint8), 3, axis=2)
            flat = look_of(shrunk(pixels)).flat is not None
            assert unlike((60, 80), pixels, [{}]) == ["flat" if flat else ""]
            seen.add(flat)
    assert seen == {True, False}


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
