"""The same seed and the same images give the same scores, whatever the size of the batches."""

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore

from helpers.embedders import red_image, red_images, with_green

pytestmark = pytest.mark.slow
pytest.importorskip("open_clip")

# Documented for float32; bfloat16 rounds to 8 bits, after sums that depend on the shape of a batch.
ROUNDING = {"float32": 1e-6, "bfloat16": 1e-2}
NORMAL = red_images(5, 60, 90)
IMAGES = [with_green(red_image(60, 90, seed=50 + seed), 3 * seed, 5 * seed) for seed in range(8)]
TEXT = np.random.default_rng(0).normal(size=(2, 256))
TOWERS = {"bundled": {}, "ViT-S-32-alt": {"openclip_pretrained": None}}


def results(kind, model, precision, batch_size):
    """Scores, maps and threshold of a detector made, fitted and asked anew."""
    settings = {
        "openclip_model_name": model,
        **TOWERS[model],
        "device": "cpu",
        "precision": precision,
        "batch_size": batch_size,
        "random_seed": 3,
    }
    if kind == "patchknn":
        detector = VisionOpenCLIPPatchKNN(max_patches=60, **settings)
    elif model == "bundled":
        detector = VisionOpenCLIPPromptScore(class_name="leather", **settings)
    else:
        normal, anomaly = TEXT
        detector = VisionOpenCLIPPromptScore(
            text_features_normal=normal, text_features_anomaly=anomaly, **settings
        )
    detector.fit(NORMAL)
    scores, maps = detector.decision_function(IMAGES), detector.predict_anomaly_map(IMAGES)
    return scores, maps, detector.decision_scores_, np.array(detector.threshold_)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("model", TOWERS)
@pytest.mark.parametrize("kind", ["patchknn", "promptscore"])
def test_scores_are_repeated_to_the_last_bit_and_hardly_depend_on_the_batch(kind, model, precision):
    expected = results(kind, model, precision, 4)
    for found, wanted in zip(results(kind, model, precision, 4), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    for batch_size in (1, 7, 32):
        found = results(kind, model, precision, batch_size)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=ROUNDING[precision])
