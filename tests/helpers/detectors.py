"""The three detectors: on colours, which takes neither torch nor weights, or on small towers."""

import pytest

from pyimgano_openclip import (
    VisionOpenCLIPMutual,
    VisionOpenCLIPPatchKNN,
    VisionOpenCLIPPromptScore,
)

from helpers.embedders import GREEN, RED, ColourEmbedder

TEXT = {"text_features_normal": RED, "text_features_anomaly": GREEN}
TINY = "ViT-S-32-alt"  # the smallest ViT that open_clip knows by name
# Arguments of detectors, for tests that need a tower.
RANDOM = {"openclip_model_name": TINY, "openclip_pretrained": None, "device": "cpu"}
BUNDLED = {"openclip_model_name": "bundled", "device": "cpu", "precision": "float32"}


def patchknn(**settings):
    """Patch-kNN on colours, unless told otherwise."""
    return VisionOpenCLIPPatchKNN(**{"embedder": ColourEmbedder(), **settings})


def promptscore(**settings):
    """Prompt scoring on colours, unless told otherwise: red is normal, green is not."""
    return VisionOpenCLIPPromptScore(**{"embedder": ColourEmbedder(), **TEXT, **settings})


def mutual(**settings):
    """The mutual detector on colours, unless told otherwise."""
    return VisionOpenCLIPMutual(**{"embedder": ColourEmbedder(), **settings})


def on_bundled(kind, **settings):
    """A detector on the bundled model: "patchknn", "promptscore" or "mutual"."""
    if kind == "mutual":
        return VisionOpenCLIPMutual(**{**BUNDLED, **settings})
    if kind == "promptscore":
        return VisionOpenCLIPPromptScore(**{"class_name": "leather", **BUNDLED, **settings})
    return VisionOpenCLIPPatchKNN(**{**BUNDLED, **settings})


EACH = pytest.mark.parametrize("build", [patchknn, promptscore, mutual])
# Those that learn from normal images alone, and so promise a rate of false alarms.
BOTH = pytest.mark.parametrize("build", [patchknn, promptscore])
KINDS = pytest.mark.parametrize("kind", ["patchknn", "promptscore", "mutual"])


def state(detector, images):
    """All that a user can see of a detector, and what it says of some images."""
    return (
        detector.threshold_,
        detector.contamination,
        detector.decision_scores_.tolist(),
        detector.labels_.tolist(),
        detector.decision_function(images).tolist(),
        detector.predict_anomaly_map(images).tolist(),
    )
