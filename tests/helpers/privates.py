"""What tests take from inside a detector, since nothing public gives it. All of it is here."""

import copy


def embedder_of(detector):
    """What turns its images into tokens: the tower, or a wrapped embedder of the caller's."""
    return detector._embedder


def forget(detector):
    """Let it score every image anew."""
    detector._cache = type(detector._cache)()


def forgetful(detector):
    """A copy with the same tower and nothing remembered."""
    twin = copy.copy(detector)
    forget(twin)
    return twin


def with_projection(detector, kind):
    """It, projecting tokens in another way from now on, as version 0.1.0 did."""
    detector._embedder = detector._embedder.with_projection(kind)
    return detector
