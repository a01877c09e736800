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


def fit_halfway(detector, images, meanwhile):
    """Fit it, and call a function when the new bank is in place and the threshold is not."""
    before, largest = detector._learnt, type(detector)._largest_score

    def at_a_threshold(learnt):
        if learnt is detector._learnt is not before:
            meanwhile()
        return largest(detector, learnt)

    detector._largest_score = at_a_threshold
    detector.fit(images)
    del detector._largest_score
