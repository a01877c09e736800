# ruff: noqa: E402 - libraries are asked for before what needs them is imported
"""Families of towers as exported files, one small model each, with seeded random weights.

The open_clip ViT is the bundled model's. One block of each ViT is traced: all are alike.
"""

import numpy as np
import pytest

for library in ("open_clip", "onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(library)

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, export_onnx

pytestmark = pytest.mark.slow

SHALLOW = (0.1,)  # depth of the tokens
MODELS = {
    "ViTamin-S": "timm ViT behind convolutions",
    "PE-Core-T-16-384": "rotary",
    "RN50": "CLIP ResNet",
    "convnext_tiny": "ConvNeXt",
}
RANDOM = {"openclip_pretrained": None, "device": "cpu", "precision": "float32"}


@pytest.fixture
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (64, 128, 3), np.uint8) for _ in range(3)]


@pytest.mark.parametrize("name", MODELS)
def test_a_family_is_exported_and_equal(name, images, tmp_path):
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name=name, force_image_size=(64, 128), layers=SHALLOW, **RANDOM
    )
    done = export_onnx(detector.fit(images), tmp_path / "d.onnx", verify=images)
    assert done.verified.passed
    assert (done.verified.images, done.data) == (3, None)


def test_prompts_on_a_resized_pool_are_refused_by_name(images, tmp_path):
    text = {"text_features_normal": np.ones(1024), "text_features_anomaly": np.arange(1024) + 1}
    detector = VisionOpenCLIPPromptScore(
        openclip_model_name="RN50", force_image_size=(64, 128), **text, **RANDOM
    )
    with pytest.raises(ValueError, match=r"'RN50' has a CLIP ResNet tower.*resize='squash'"):
        export_onnx(detector.fit(images), tmp_path / "d.onnx")
