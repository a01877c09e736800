"""Near copies among the normal images of prompts, told by a tower's feature tokens."""

import io

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("open_clip")

from pyimgano_openclip.samples import make_sample

from helpers.detectors import on_bundled

pytestmark = pytest.mark.slow


def as_jpeg(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(io.BytesIO(file.getvalue())))


def test_near_copies_promise_no_more_than_one_image_each():
    images = [make_sample("cork", seed=seed).image for seed in range(6)]
    frames = [as_jpeg(image, quality) for quality in (95, 90, 85) for image in images]
    assert on_bundled("promptscore").fit(images).promise().count == 6
    detector = on_bundled("promptscore").fit(frames)
    assert detector.promise().count == 6
    assert len(detector.decision_scores_) == len(frames)


def test_feature_tokens_that_tell_copies_change_no_score(tmp_path):
    images = [make_sample("cork", seed=seed).image for seed in range(8)]
    detector = on_bundled("promptscore").fit(images[:6])
    new = on_bundled("promptscore").decision_function(images)
    np.testing.assert_array_equal(detector.decision_function(images), new)
    np.testing.assert_array_equal(detector.decision_scores_, new[:6])
    assert all(one.unlike is None for one in detector.score_iter(images))
