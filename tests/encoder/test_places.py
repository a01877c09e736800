# ruff: noqa: E402 - torch is asked for before it is imported
"""A process without a home, with a plain locale or read-only places, or under joblib."""

import warnings

import numpy as np
import pytest

pytest.importorskip("open_clip")
joblib = pytest.importorskip("joblib")

from helpers.detectors import KINDS, on_bundled
from helpers.embedders import red_image, red_images
from helpers.processes import run_python

pytestmark = pytest.mark.slow

NORMAL = red_images(3, 60, 90)
SCORE = """
import numpy as np
from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from helpers.embedders import red_images
for build in (VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore):
    detector = build(openclip_model_name="bundled", device="cpu").fit(red_images(3, 60, 90))
    assert np.isfinite(detector.decision_function(red_images(1, 60, 90, first=7))).all()
print("scored")
"""


def scored_in(**env):
    done = run_python(SCORE, "-W", "error", OMP_WAIT_POLICY="PASSIVE", **env)
    assert done.stdout.split() == ["scored"]
    assert done.stderr == ""


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_plain_locale_is_enough(locale, tmp_path):
    scored_in(LANG=locale, LC_ALL=locale, PYTHONUTF8="0", XDG_CACHE_HOME=str(tmp_path))


def test_no_home_is_needed(tmp_path):
    nowhere = str(tmp_path / "no such home")
    scored_in(HOME=nowhere, XDG_CACHE_HOME="", PYIMGANO_OPENCLIP_CACHE="")
    assert not (tmp_path / "no such home" / ".cache" / "huggingface").exists()


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way, also for a user who may write everywhere")
    scored_in(PYIMGANO_OPENCLIP_CACHE=str(blocked), XDG_CACHE_HOME=str(blocked), HOME=str(blocked))


@KINDS
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_a_detector_in_a_read_only_map_of_joblib_scores_alike(kind, backend, tmp_path):
    settings = {"knn_backend": backend} if kind == "patchknn" else {}
    detector = on_bundled(kind, **settings).fit(NORMAL)
    new = [red_image(60, 90, seed=8)]
    wanted = detector.decision_function(new)
    joblib.dump((detector, np.stack(new)), tmp_path / "detector")
    before = (tmp_path / "detector").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped, images = joblib.load(tmp_path / "detector", mmap_mode="r")
        assert not images.flags.writeable
        np.testing.assert_array_equal(mapped.decision_function(images), wanted)
        mapped.predict_anomaly_map(images)
    assert (tmp_path / "detector").read_bytes() == before


def test_a_read_only_map_can_be_learnt_from(tmp_path):
    np.save(tmp_path / "images.npy", np.stack(NORMAL))
    images = np.load(tmp_path / "images.npy", mmap_mode="r")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = on_bundled("patchknn").fit(images)
    np.testing.assert_array_equal(
        found.decision_scores_, on_bundled("patchknn").fit(NORMAL).decision_scores_
    )
