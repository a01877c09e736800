"""The runtime needs NumPy, Pillow and onnxruntime, and nothing else."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from helpers.environments import Environment
from helpers.exported import DEFECTS, exported, leather, told_otherwise
from helpers.places import ROOT
from helpers.processes import run, run_python

pytestmark = pytest.mark.slow

# numpy, pillow and onnxruntime, with the folders of their libraries.
ENOUGH = {"numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime"}
FOREIGN = ("torch", "open_clip", "timm", "pyimgano", "cv2", "scipy", "sklearn", "tqdm", "jinja2")
WAYS = (
    {"module": "pyimgano_openclip.runtime", "load": "OnnxDetector"},
    {"module": "pyimgano_openclip", "load": "load_detector"},
)

SCORE = """
import json, sys
sys.modules.update(dict.fromkeys({hidden!r}))
from {module} import {load}
detector = {load}({file!r}, threads=1, on_error="nan")
paths = {paths!r}
told = {{
    "scores": detector.decision_function(paths).tolist(),
    "labels": detector.predict(paths).tolist(),
    "shapes": [found.shape for found in detector.iter_anomaly_maps(paths)],
    "boxes": [[region.box for region in detector.explain(path)] for path in paths],
    "loaded": sorted(name for name in {foreign!r} if sys.modules.get(name)),
}}
print(json.dumps(told))"""
SIZE = (90, 150)


def mask():
    """Two parts, of which one is smaller than a patch."""
    found = np.zeros(SIZE, np.uint8)
    found[12:80, 20:110] = found[85, 140] = 255
    return found


PLACES = {
    "mask": lambda folder: exported("mutual", SIZE, folder, roi=mask()),
    "polygon in shares": lambda folder: exported(
        "promptscore",
        SIZE,
        folder,
        roi=[(0.1, 0.1), (0.9, 0.2), (0.5, 0.9)],
        references=leather(2, SIZE, first=50),
        defects=DEFECTS,
    ),
    "boxes": lambda folder: exported(
        "patchknn", SIZE, folder, roi=[(9, 9, 80, 60), (70, 2, 74, 6)]
    ),
}


@pytest.fixture
def files(oblong, tmp_path):
    images = [*leather(2, (90, 150), first=70), *leather(2, (90, 150), first=80, defect="hole")]
    paths = []
    for number, image in enumerate(images):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    return paths


def of(pair, paths, way, hidden=()):
    return SCORE.format(file=str(pair.path), paths=paths, foreign=FOREIGN, hidden=hidden, **way)


def told_by(program, *, warns=False, **how):
    return json.loads(run_python(program, *(() if warns else ("-W", "error")), **how).stdout)


def test_a_fresh_environment_with_three_packages_scores_maps_and_explains(oblong, files, tmp_path):
    for builder in ("pip", "hatchling"):  # used from here, not downloaded
        pytest.importorskip(builder)
    build = ("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", tmp_path)
    run(sys.executable, "-m", "pip", "wheel", *build, ROOT)
    environment = Environment(tmp_path, ENOUGH)
    environment.install(*tmp_path.glob("*.whl"))
    assert run_python("pass", "-W", "error", python=environment.python).stderr == ""
    told = told_by(of(oblong, files, WAYS[1]), python=environment.python)
    expected = oblong.detector.decision_function(files)
    np.testing.assert_allclose(told["scores"], expected, atol=1e-4)
    assert told["labels"] == oblong.detector.predict(files).tolist()
    assert told["shapes"] == [[90, 150]] * 4
    boxes = [[list(region.box) for region in oblong.detector.explain(path)] for path in files]
    assert told["boxes"] == boxes
    assert any(boxes)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["load"])
def test_nothing_foreign_is_imported_where_everything_is_installed(oblong, files, way):
    assert told_by(of(oblong, files, way))["loaded"] == []


@pytest.mark.parametrize("place", [*PLACES, "box, windows"])
def test_where_is_looked_is_told_by_numpy_alone(place, files, tmp_path, request):
    windows = place == "box, windows"
    pair = request.getfixturevalue("part_of_large") if windows else PLACES[place](tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"")
    told = told_by(of(pair, [*files, str(broken)], WAYS[1], hidden=FOREIGN), warns=True)
    *scores, unread = told["scores"]
    np.testing.assert_allclose(scores, pair.detector.decision_function(files), atol=1e-4)
    assert np.isnan(unread)
    assert told["labels"] == [*pair.detector.predict(files).tolist(), 1]
    boxes = [[list(region.box) for region in pair.detector.explain(path)] for path in files]
    assert told["boxes"] == [*boxes, []]


def test_a_missing_onnxruntime_is_named(tmp_path):
    program = """
import sys
sys.modules["onnxruntime"] = None
from pyimgano_openclip.runtime import OnnxDetector
try:
    OnnxDetector("screw.onnx")
except ImportError as error:
    print(error)"""
    assert "pip install onnxruntime" in run_python(program).stdout


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda _: b"", bytes.upper]
)
def test_a_damaged_file_is_refused_by_name(oblong, tmp_path, damage):
    from pyimgano_openclip.runtime import OnnxDetector

    file = tmp_path / "damaged.onnx"
    file.write_bytes(damage(oblong.path.read_bytes()))
    with pytest.raises(ValueError, match=r"damaged\.onnx cannot be used.*[^.]\.$"):
        OnnxDetector(file)
    with pytest.raises(FileNotFoundError):
        OnnxDetector(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("threshold", "nan", "out of range"),
        ("canvas_width", "-1", "out of range"),
        ("canvas_width", "88", "takes images of"),
        ("resize_filter", "lanczos", "unknown resize filter"),
        ("channel_order", "gbr", "unknown channel order"),
        ("pyimgano_openclip_format", "2", "update pyimgano-openclip"),
        ("limits", '{"distance": [0, 2]}', "are no limits"),
        ("limits", "[1]", "are no limits"),
        ("roi", '"/etc/passwd"', "is no region"),
        ("roi", '{"folder": "/etc"}', "is no region"),
        ("roi", "[", "is no JSON"),
        ("roi_sizes", "[3]", "is no list of sizes"),
        ("whole_height", "-1", "out of range"),
        ("whole_height", "48", "takes images of"),
        ("canvas_height", None, "was not written by pyimgano-openclip"),
        ("threshold", None, "has no metadata 'threshold'"),
    ],
)
def test_impossible_metadata_are_refused(oblong, tmp_path, name, value, message):
    from pyimgano_openclip.runtime import OnnxDetector

    with pytest.raises(ValueError, match=message):
        OnnxDetector(told_otherwise(oblong.path, tmp_path / "forged.onnx", name, value))
