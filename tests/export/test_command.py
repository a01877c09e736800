"""The command ``export``, and what cannot be exported."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxscript")

from pyimgano_openclip import export_onnx, load_detector
from pyimgano_openclip.cli import main
from pyimgano_openclip.detector.promises import FewImagesWarning
from pyimgano_openclip.encoder.hardware import choose_device
from pyimgano_openclip.export.proof import compare

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
    assert (facts["generated"]["known"], facts["verified"]["known"]) == (0, 4)
    assert main(command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command[:-1], "--overwrite", "--verify", str(saved / "normal")]) == 0
    assert "the detector knows 4 of them or a near copy" in capsys.readouterr().out


def test_how_far_scores_in_another_precision_are_from_the_files_is_said(
    saved, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("pyimgano_openclip.encoder.hardware.computes_bfloat16", lambda _: True)
    file, normal, fitted = tmp_path / "d.onnx", saved / "normal", tmp_path / "d.safetensors"
    on_bundled("patchknn", precision="auto").fit(sorted(normal.iterdir())).save_checkpoint(fitted)
    command = ["export", str(fitted), "--to", str(file), "--verify", str(normal)]
    assert main(command) == 0
    *_, line = capsys.readouterr().out.splitlines()
    start = f"in bfloat16, as 'score' computes here ({choose_device('auto')}), scores of 4 images"
    assert line.startswith(f"{start} differ from the file's by up to")
    assert ", no label differs; fit with --precision float32" in line
    assert line.endswith(
        "fit with --precision float32 if the threshold is to come from the same arithmetic"
    )
    assert main([*command, "--overwrite", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    here = facts["scored_here"]
    new = load_detector(fitted, precision="bfloat16")
    apart = list(compare(new, load_detector(file), sorted(normal.iterdir())).labels)
    assert (here["precision"], here["device"], here["images"]) == (
        "bfloat16",
        str(choose_device("auto")),
        4,
    )
    assert here["labels"] == apart
    assert 1e-4 < here["score"] < 0.05
    assert f"by up to {here['score']:.1e}" in line
    del command[-2:]  # on generated images then
    assert main([*command, "--overwrite"]) == 0
    assert "scores of 5 generated images differ" in capsys.readouterr().out

    monkeypatch.setattr("pyimgano_openclip.encoder.hardware.computes_bfloat16", lambda _: False)
    assert main([*command, "--overwrite"]) == 0
    assert "bfloat16" not in capsys.readouterr().out


def test_a_detector_that_was_fitted_in_float32_is_scored_so(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pyimgano_openclip.encoder.hardware.computes_bfloat16", lambda _: True)
    command = ["export", str(saved / "d.safetensors"), "--to", str(tmp_path / "d.onnx"), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["scored_here"] is None


def test_weights_beyond_the_limit_of_one_file_go_to_a_second(tmp_path, monkeypatch):
    from pyimgano_openclip.runtime import OnnxDetector

    monkeypatch.setattr("pyimgano_openclip.export.onnx_file.LARGEST", -1)
    images = leather(3, (64, 96))
    detector = on_bundled("patchknn", layers=(0.1,), channel_order="bgr").fit(images[:2])
    done = export_onnx(detector, tmp_path / "d.onnx", verify=images)
    assert done.data == tmp_path / "d.onnx.data"
    assert done.size == done.path.stat().st_size + done.data.stat().st_size
    assert done.path.stat().st_size < done.data.stat().st_size
    score = OnnxDetector(done.path).decision_function(images[2:])
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
    "unfitted in bfloat16": (
        lambda: on_bundled("patchknn", precision="bfloat16"),
        r"call fit\(\) first",
    ),
    "no canvas": (lambda: on_bundled("promptscore"), "has not chosen a canvas"),
}


@pytest.mark.filterwarnings("ignore::pyimgano_openclip.images.notices.MixedSizesWarning")
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
