"""Scores, maps and checkpoints are those of version 0.1.0, which wrote the files beside this one.

Only the projection of tokens has become better, moved copies are stored, one image sets its
threshold by other copies of it, and a bank is thinned less often, which keeps other rows; a
checkpoint keeps the old projection and its rows. Its own values were equal to
the last bit on the machine that wrote them; on others, matrix products are summed in a different
order.
"""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("open_clip")

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, load_detector
from pyimgano_openclip.samples import make_sample

from helpers.privates import embedder_of, with_projection

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent / "version_0_1_0"
VALUES = json.loads((FOLDER / "values.json").read_text(encoding="utf-8"))
SAVED = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
TINY = {
    "openclip_model_name": "bundled",
    "precision": "float32",
    "device": "cpu",
    "max_tokens": 24,
    "aggregation_topk": 0.03,  # its default
}


def shots(seeds, defect=None):
    return [make_sample("leather", seed=s, size=(80, 120), defect=defect).image for s in seeds]


NORMAL = shots(range(4))
ASKED = [*shots([50]), *shots([51], "hole"), *shots([52], "scratch")]


def patchknn(count=4, **settings):
    detector = VisionOpenCLIPPatchKNN(**TINY, jitter=0, **settings)
    return with_projection(detector, "gaussian").fit(NORMAL[:count])


def promptscore(**settings):
    detector = VisionOpenCLIPPromptScore(**TINY, class_name="leather", **settings)
    return with_projection(detector, "gaussian")


DETECTORS = {
    "patchknn": patchknn,
    "patchknn-one": lambda: patchknn(1),
    "promptscore": promptscore,
    "promptscore-fitted": lambda: promptscore(defects=["hole", "scratch"]).fit(NORMAL),
    "promptscore-difference": lambda: promptscore(mode="diff").fit(NORMAL),
    "promptscore-references": lambda: promptscore().fit(NORMAL, use_as_references=True),
}


def agree(detector, expected):
    """Check every kind of call, and each for one image alone as well."""

    def close(found, wanted):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-6)

    close(detector.decision_function(ASKED), expected["scores"])
    close([detector.decision_function([image])[0] for image in ASKED], expected["scores"])
    close(detector.label_threshold(), expected["threshold"])
    assert detector.predict(ASKED).tolist() == expected["labels"]
    streamed = list(detector.score_iter(iter(ASKED)))
    close([scored.image for scored in streamed], expected["scores"])
    close([scored.patches for scored in streamed], expected["patches"])
    close([found[::16, ::16] for found in detector.iter_anomaly_maps(ASKED)], expected["maps"])
    close([detector.get_anomaly_map(image)[::16, ::16] for image in ASKED], expected["maps"])


@pytest.mark.parametrize("name", DETECTORS)
def test_a_new_detector_scores_as_version_0_1_0_did_but_for_projection_and_jitter(name):
    detector, expected = DETECTORS[name](), VALUES[name]
    if name == "patchknn-one":  # the threshold comes from other copies of the image
        expected = {**expected, "threshold": detector.threshold_}
    agree(detector, expected)


@pytest.mark.parametrize("name", SAVED)
def test_a_checkpoint_of_version_0_1_0_loads_and_scores_as_it_did(name):
    detector = load_detector(FOLDER / f"{name}.safetensors", device="cpu", precision="float32")
    agree(detector, VALUES[name])
    if name == "patchknn-one":  # of several views; now there is one score per image
        assert detector.decision_scores_.tolist() == [max(VALUES[name]["decision_scores"])]
    elif VALUES[name]["decision_scores"]:
        assert detector.decision_scores_.tolist() == VALUES[name]["decision_scores"]


def test_a_checkpoint_keeps_its_own_projection_as_often_as_it_is_saved(tmp_path):
    here = {"device": "cpu", "precision": "float32"}
    loaded = load_detector(FOLDER / "patchknn.safetensors", **here)
    again = load_detector(loaded.save_checkpoint(tmp_path / "again"), **here)
    np.testing.assert_array_equal(again.decision_function(ASKED), loaded.decision_function(ASKED))
    new = VisionOpenCLIPPatchKNN(**TINY).fit(NORMAL)
    assert [embedder_of(detector).projection for detector in (loaded, again, new)] == [
        "gaussian", "gaussian", "orthonormal",
    ]  # fmt: skip
    assert np.abs(new.decision_function(ASKED) - loaded.decision_function(ASKED)).max() > 1e-3
    kept = new.load_checkpoint(FOLDER / "patchknn.safetensors")
    np.testing.assert_array_equal(kept.decision_function(ASKED), loaded.decision_function(ASKED))
