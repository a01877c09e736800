"""The methods that the host's detectors have: they take images as ours do, and say what they do."""

import numpy as np
import pytest
from pyimgano.models.base_detector import BaseDetector

from helpers.detectors import EACH, patchknn
from helpers.embedders import with_green
from helpers.forged import NORMAL

TEST = [*NORMAL[:3], with_green(NORMAL[0], 10, 20)]
# Methods that take images, and arguments without which they do not work.
OF_IMAGES = {
    "decision_function": {},
    "score_samples": {},
    "predict": {},
    "predict_proba": {},
    "predict_confidence": {},
    "predict_with_rejection": {"confidence_threshold": 0.5},
}


@EACH
def test_every_method_of_the_host_is_our_own_with_its_docstring(build):
    names = {name for name in vars(BaseDetector) if name[0] != "_"}
    for name in names - {"input_mode", "get_params"}:  # data; what scikit-learn documents
        ours = getattr(type(build()), name)
        assert ours.__module__.startswith("pyimgano_openclip."), name
        assert ours.__doc__, name


@EACH
def test_all_take_x_by_either_name_a_generator_and_no_single_path(build, tmp_path):
    detector = build().fit(NORMAL)
    for name, more in OF_IMAGES.items():
        method = getattr(detector, name)
        expected = method(TEST, **more)
        assert len(expected) == len(TEST)
        np.testing.assert_array_equal(method(X=TEST, **more), expected)
        np.testing.assert_array_equal(method((image for image in TEST), **more), expected)
        with pytest.raises(ValueError, match=r"single path .*one\.png"):
            method(X=tmp_path / "one.png", **more)
        with pytest.raises(ValueError, match="pass only one of them"):
            method(TEST, X=TEST, **more)


@EACH
def test_what_is_not_sure_is_rejected_and_told_with_its_confidence(build):
    detector = build().fit(NORMAL)
    labels, confidence = detector.predict(TEST, return_confidence=True)
    edge = float(confidence.max())
    assert confidence.min() < edge
    rejected, same = detector.predict_with_rejection(
        TEST, confidence_threshold=edge, reject_label=7, return_confidence=True
    )
    np.testing.assert_array_equal(same, confidence)
    np.testing.assert_array_equal(rejected, np.where(confidence < edge, 7, labels))
    assert rejected.dtype == np.int64


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"confidence_threshold": 0}, r"confidence_threshold=0; it must be a number in \(0, 1\]"),
        ({"confidence_threshold": np.nan}, "confidence_threshold=nan"),
        ({"confidence_threshold": 1, "reject_label": -1.5}, r"reject_label=-1\.5; it must be a wh"),
        (
            {"confidence_threshold": 1, "reject_label": 2**63},
            r"reject_label=9223372036854775808; it must be a whole number of 64 bits\.",
        ),
        ({"confidence_threshold": 1, "reject_label": "x"}, r"'x'; .* whole number of 64 bits\."),
    ],
)
def test_numbers_out_of_range_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        patchknn().fit(NORMAL).predict_with_rejection(TEST, **wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tail_fraction": 0}, r"tail_fraction=0; it must be a number in \(0, 1\)\."),
        ({"tail_fraction": 1}, r"tail_fraction=1; it must be a number in \(0, 1\)\."),
        ({"min_exceedances": 0.5}, r"min_exceedances=0\.5"),
    ],
)
def test_peaks_out_of_range_change_nothing(wrong, message):
    detector = patchknn()
    with pytest.raises(ValueError, match=message):
        detector.use_pot_thresholding(**wrong)
    assert detector.threshold_method == "quantile"
    assert detector.use_pot_thresholding(tail_fraction=0.6).threshold_method == "pot"
    assert detector.use_quantile_thresholding().threshold_method == "quantile"
