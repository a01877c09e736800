"""What is doubtful about the results of ``score`` as a whole, told without the model."""

from __future__ import annotations

from collections.abc import Sequence

from ..detector.drift import Inspected, drift
from ..images.look import Look
from ..images.notices import Ranges
from .judging import Judge, is_pool, training_scores
from .messages import counted, listed
from .results import Record

FEWEST = 5  # images
NEARLY_ALL = 0.9  # share of the images
MOST = 0.5  # share of the images that a threshold should follow from
CHANGED = "are camera, light, product and tower the ones that the detector is meant for?"
UNFITTED = (
    "no images have told whether {:.4g} is a threshold for them; 'fit' with normal images, or pass "
    "another --threshold"
)
LOW = "so are {} of the {} that {}; is {:.4g} the threshold that is meant?"


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
    ranges = Ranges("scored images")
    for record in scored:
        ranges.add(record.get("range_used"), doubtful="unlike" in record)
    if told := str(ranges):
        return [told.removesuffix(".")]  # all else may follow from it
    anomalous = sum(record["label"] for record in scored)
    if len(scored) >= FEWEST and anomalous >= NEARLY_ALL * len(scored):
        asked = _asked(judge)
        return [f"nearly all images are anomalous ({anomalous} of {len(scored)}): {asked}"]
    usual = judge.usual()
    if usual is None:
        return []
    inspected = (Inspected(record["score"], _look(record)) for record in scored)
    found = drift(usual, inspected, judge.label_threshold())
    return [str(found)] if found is not None and found.moved else []


def _asked(judge: Judge) -> str:
    """What to check where nearly all images are above the threshold."""
    known, threshold = training_scores(judge), judge.label_threshold()
    if not len(known):  # prompts need none
        return UNFITTED.format(threshold)
    above = int((known > threshold).sum())
    if above <= MOST * len(known):
        return CHANGED
    which = "were compared with each other" if is_pool(judge) else "the detector was fitted on"
    return LOW.format(above, len(known), which, threshold)


def _look(record: Record) -> Look | None:
    """What an image looks like; unknown of training images, which are not read again."""
    return Look(*record["look"]) if "look" in record else None
