"""What is asked of results in several tests."""

import math

import numpy as np


def assert_finite(value):
    """All numbers in a report, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            assert_finite(inner)
    elif isinstance(value, float):
        assert math.isfinite(value)


def assert_told_apart(scores):
    """Scores of two whole plates and, after them, of two damaged ones."""
    scores = np.asarray(scores)
    assert scores.shape == (4,)
    assert np.isfinite(scores).all()
    assert scores[:2].max() < scores[2:].min()
