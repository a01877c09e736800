"""Tells which images that were added to a detector it would not have expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..arrays import Scores
from ..detector.suspects import Suspect
from ..maps.scores import ImageScores
from ..patchknn import VisionOpenCLIPPatchKNN
from .fit import NAMED, doubtful, suspect_facts
from .messages import counted


class Doubt(NamedTuple):
    """Images that were learnt and may not be normal.

    Attributes:
        paths: All training images.
        scores: Their training scores.
        suspects: Those that stand out; None if that is unknown, since the bank had been thinned.
        above: Those added that were above the threshold before, by path, with their score then.
        unlike: Those added that were unlike all before as a whole, by path, with the reason.
    """

    paths: Sequence[Path]
    scores: Scores
    suspects: Sequence[Suspect] | None
    above: dict[str, float]
    unlike: dict[str, str]

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        found = self.suspects
        known = None if found is None else suspect_facts(self.paths, found, self.scores)
        return {"suspects": known, "above_before": self.above, "unlike": self.unlike}

    def lines(self) -> list[str]:
        """For people, most first."""
        high = sorted(self.above.items(), key=lambda found: -found[1])
        named = {path: f"was above the threshold before ({score:.3f})" for path, score in high}
        named |= {path: f"was {why}" for path, why in self.unlike.items()}
        for found in self.suspects or ():
            named.pop(str(self.paths[found.image]), None)  # it is named already
        more = [f"{path} {what}; is it normal?" for path, what in named.items()]
        lines = more[:NAMED]
        if len(more) > NAMED:
            lines.append(f"and {counted(len(more) - NAMED, 'other image')}")
        return [*doubtful(self.paths, self.suspects or ()), *lines]


def doubt_about(
    detector: VisionOpenCLIPPatchKNN, scored: Mapping[Path, ImageScores], threshold: float
) -> Doubt:
    """Look at the images that a detector has learnt last.

    Args:
        detector: The detector.
        scored: Their scores before it learnt them.
        threshold: Its threshold then.
    """
    learnt = detector._learnt
    images = learnt.filled.images
    named = [image.path or f"image {number}" for number, image in enumerate(images)]
    above = {str(path): done.image for path, done in scored.items() if done.image > threshold}
    unlike = {str(path): done.unlike for path, done in scored.items() if done.unlike}
    suspects = detector.suspects() if len(learnt.standing) else None
    paths = [Path(named[number]) for number in learnt.numbers]
    return Doubt(paths, detector.decision_scores_, suspects, above, unlike)
