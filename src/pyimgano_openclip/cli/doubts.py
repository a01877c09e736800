"""What is doubtful about the results of ``score`` as a whole, told without the model."""

from __future__ import annotations

from collections.abc import Sequence

from ..detector.drift import Inspected, drift
from ..images.look import Look
from .judging import Judge
from .messages import counted, listed
from .results import Record

FEWEST = 5  # images
NEARLY_ALL = 0.9  # share of the images
CHANGED = "are camera, light, product and tower the ones that the detector is meant for?"
UNFITTED = (
    "no images have told whether {:.4g} is a threshold for them; 'fit' with normal images, or pass "
    "another --threshold"
)


def doubts(judge: Judge, records: Sequence[Record], latest: Sequence[Record] = ()) -> list[str]:
    """Sentences for a person to check, most urgent first.

    Args:
        judge: What has labelled the records.
        records: Those of all images.
        latest: Those of images that this run has scored; older ones may hide what is new in them.
    """
    found = _doubts(judge, records)
    if not found and len(latest) < len(records):
        found = [f"of those scored by this run, {doubt}" for doubt in _doubts(judge, latest)]
    return [*_not_inspected(records), *found]


def _not_inspected(records: Sequence[Record]) -> list[str]:
    several = [f"{one['image']} ({one['pages']} pages)" for one in records if "pages" in one]
    if not several:
        return []
    what = f"{counted(len(several), 'file')} with several pages or frames"
    return [f"{what}, of which only the first was scored: {listed(several)}"]


def _doubts(judge: Judge, records: Sequence[Record]) -> list[str]:
    scored = [record for record in records if "score" in record]
    anomalous = sum(record["label"] for record in scored)
    if len(scored) >= FEWEST and anomalous >= NEARLY_ALL * len(scored):
        learnt_from = len(getattr(judge, "decision_scores_", ()))  # prompts need no images
        asked = CHANGED if learnt_from else UNFITTED.format(judge.label_threshold())
        return [f"nearly all images are anomalous ({anomalous} of {len(scored)}): {asked}"]
    usual = judge.usual()
    if usual is None:
        return []
    inspected = (Inspected(record["score"], _look(record)) for record in scored)
    found = drift(usual, inspected, judge.label_threshold())
    return [str(found)] if found is not None and found.moved else []


def _look(record: Record) -> Look | None:
    """What an image looks like; unknown of training images, which are not read again."""
    return Look(*record["look"]) if "look" in record else None
