"""Tells which images that were added to a detector it would not have expected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..arrays import Scores
from ..bank.whole import Whole
from ..detector.suspects import Suspect
from ..patchknn import VisionOpenCLIPPatchKNN
from .fit import NAMED, doubtful, suspect_facts
from .messages import counted


class Doubt(NamedTuple):
    """Images that were learnt and may not be normal.

    Attributes:
        paths: All training images.
        scores: Their training scores.
        suspects: Those that stand out; None if that is unknown, since the bank had been thinned.
        above: Those added whose score among all of them is above the threshold before, by path.
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
        named = {path: f"was {why}" for path, why in self.unlike.items()}
        if self.suspects is None:
            high = sorted(self.above.items(), key=lambda found: -found[1])
            told = {path: f"{score:.3f}, above the threshold before" for path, score in high}
            named = {**told, **named}
        for found in self.suspects or ():
            named.pop(str(self.paths[found.image]), None)  # it is named already
        more = [f"{path} {what}; is it normal?" for path, what in named.items()]
        lines = more[:NAMED]
        if len(more) > NAMED:
            lines.append(f"and {counted(len(more) - NAMED, 'other image')}")
        return [*doubtful(self.paths, self.suspects or ()), *lines]


def doubt_about(
    detector: VisionOpenCLIPPatchKNN, first: int, whole: Whole | None, threshold: float
) -> Doubt:
    """Look at the images that a detector has learnt last.

    Args:
        detector: The detector.
        first: Number of images in its bank before.
        whole: What these were as a whole, if that is known.
        threshold: Its threshold then.
    """
    learnt = detector._learnt
    images = learnt.filled.images
    named = [image.path or f"image {number}" for number, image in enumerate(images)]
    above, unlike = dict[str, float](), dict[str, str]()
    added = range(first, len(images))
    for number in added if len(learnt.scores) == len(images) else ():
        scored = learnt.scores[number]
        if scored.image > threshold:
            above[named[number]] = scored.image
        if whole and learnt.whole:
            reason = whole.reason(learnt.whole.portraits[number], scored.patches)
            if reason is not None:
                unlike[named[number]] = reason
    suspects = detector.suspects() if added and len(learnt.standing) else None
    paths = [Path(named[number]) for number in learnt.numbers]
    scores = detector.decision_scores_
    return Doubt(paths, scores, [] if not added else suspects, above, unlike)
