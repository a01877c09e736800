"""The command ``export``, and what cannot be exported."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxscript")

from pyimgano_openclip import export_onnx
from pyimgano_openclip.cli import main
from pyimgano_openclip.detector.promises import FewImagesWarning

from helpers.detectors import on_bundled, patchknn
from helpers.embedders import red_images
from helpers.exported import leather
from helpers.places import EXAMPLES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved detector, and the folder of images that it was fitted on."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "normal").mkdir()
    for number, image in enumerate(leather(4, (64, 96))):
        Image.fromarray(image).save(folder / "normal" / f"{number}.png")
    paths = sorted((folder / "normal").iterdir())
    on_bundled("patchknn").fit(paths).save_checkpoint(folder / "d.safetensors")
    return folder


def test_a_saved_detector_becomes_a_verified_file(saved, tmp_path, capsys):
    file = tmp_path / "d.onnx"
    command = ["export", str(saved / "d.safetensors"), "--to", str(file), "--json"]
    assert main([*command, "--verify", str(saved / "normal")]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == file.stat().st_size
    assert facts["data"] is None
    assert facts["verified"]["images"] == 4
    assert facts["verified"]["score"] <= 1e-4
    assert facts["verified"]["labels"] == []
    assert main(command) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_weights_beyond_the_limit_of_one_file_go_to_a_second(tmp_path, monkeypatch):
    from pyimgano_openclip.runtime import OnnxDetector

    monkeypatch.setattr("pyimgano_openclip.export.onnx_file.LARGEST", -1)
    images = leather(3, (64, 96))
    detector = on_bundled("patchknn", layers=(0.1,), channel_order="bgr").fit(images[:2])
    done = export_onnx(detector, tmp_path / "d.onnx", verify=images)
    assert done.data == tmp_path / "d.onnx.data"
    assert done.size == done.path.stat().st_size + done.data.stat().st_size
    assert done.path.stat().st_size < done.data.stat().st_size
    score = OnnxDetector(done.path, channel_order="bgr").decision_function(images[2:])
    np.testing.assert_allclose(score, detector.decision_function(images[2:]), atol=1e-4)
    done.data.unlink()
    with pytest.raises(ValueError, match=r"d\.onnx cannot be used"):
        OnnxDetector(done.path)


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--to", "d.pt"], "must end in .onnx", 2),
        (["--to", "d.onnx", "--verify", "nowhere"], "nowhere does not exist", 1),
    ],
)
def test_what_is_wrong_is_said_before_any_work(saved, capsys, options, message, code):
    assert main(["export", str(saved / "d.safetensors"), *options]) == code
    assert message in capsys.readouterr().err


REFUSED = {
    "embedder": (lambda: patchknn().fit(red_images(3)), "embedder= cannot be exported"),
    "masks by name": (
        lambda: on_bundled("promptscore", roi=EXAMPLES).choose_canvas(leather(1, (64, 96))),
        "roi=.* has a mask for each image.*one mask, box or polygon",
    ),
    "sizes": (
        lambda: on_bundled("patchknn", roi=(2, 2, 50, 40)).fit(
            [*leather(2, (64, 96)), *leather(2, (48, 72))]
        ),
        "roi covers other patches of images of 64 x 96 pixels than of 48 x 72",
    ),
    "unknown size": (
        lambda: on_bundled("promptscore", roi=(0.1, 0.1, 0.9, 0.5)).choose_canvas(
            leather(1, (64, 96))
        ),
        "roi cannot be exported before the size of images is known",
    ),
    "precision": (
        lambda: on_bundled("patchknn", precision="bfloat16").fit(leather(2, (64, 96))),
        "bfloat16 on cpu; save it and export load_detector",
    ),
    "unfitted": (lambda: on_bundled("patchknn"), r"call fit\(\) first"),
    "no canvas": (lambda: on_bundled("promptscore"), "has not chosen a canvas"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exported_is_named_before_any_work(tmp_path, monkeypatch, build, message):
    detector = build()
    monkeypatch.setattr("pyimgano_openclip.export.onnx_file.build_network", None)
    with pytest.raises((ValueError, RuntimeError), match=message):
        export_onnx(detector, tmp_path / "d.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_the_export_does_not_know_is_refused(tmp_path, monkeypatch):
    from pyimgano_openclip import VisionOpenCLIPPatchKNN
    from pyimgano_openclip.export import refusals

    known = refusals.HEEDED[VisionOpenCLIPPatchKNN] - {"rotations"}
    monkeypatch.setitem(refusals.HEEDED, VisionOpenCLIPPatchKNN, known)
    detector = on_bundled("patchknn", rotations=2).fit(leather(2, (64, 96)))
    with pytest.raises(ValueError, match=r"rotations=2 cannot be exported.*rotations=1"):
        export_onnx(detector, tmp_path / "d.onnx")


def test_the_export_knows_every_setting_of_the_detectors():
    from dataclasses import fields

    from pyimgano_openclip.export.refusals import HEEDED, check_exportable

    for kind, heeded in HEEDED.items():
        assert {field.name for field in fields(kind)} - heeded == {"embedder"}
    with pytest.warns(FewImagesWarning):
        check_exportable(on_bundled("patchknn", confidence=0.5).fit(leather(3, (64, 96))))


def test_a_detector_that_the_export_does_not_know_is_refused(tmp_path):
    from pyimgano_openclip import VisionOpenCLIPPatchKNN

    class Own(VisionOpenCLIPPatchKNN):
        pass

    with pytest.raises(ValueError, match="Own cannot be exported yet"):
        export_onnx(Own(openclip_model_name="bundled"), tmp_path / "d.onnx")
