"""Labels the results of an earlier ``score`` by another threshold, without the model.

To load it takes seconds, so this comes first: if nothing is to be scored, nothing else is needed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ..files.checkpoint import plain
from ..files.digest import digest_of_file
from ..images.reading import read_pixels
from ..images.roi import is_folder
from ..images.unreadable import UnreadableError
from ..version import __version__
from .answer import Answer
from .drawing import draw_all, drawn
from .images import ImageFile, most_pixels
from .judging import Stored, labelled
from .messages import encodable
from .outcome import FALSE_ALARMS, Run, Tally, answer
from .places import RUN
from .remote_images import search
from .results import Record, Results, check_alone, read_run
from .words import command_words, texts

# Options that change neither the detector nor its scores; the saved one is told by its digest.
ELSEWHERE = frozenset({
    "command", "detector", "json", "loads_model", "again", "images", "out", "overwrite",
    "threshold", "maps", "overlays", "on_error", "device", "precision", "batch_size", "max_pixels",
    "ray", "workers", "column",
})  # fmt: skip
ON_DISK = ("local-dir:", "hf-hub:")


def run(options: argparse.Namespace) -> Answer | None:
    """Label what an earlier run has scored, draw what that changes, and write the report.

    Returns:
        The answer; None if the model is needed, because something is to be scored or drawn in other
        colours, or because nobody can tell.

    Raises:
        ValueError: If another run goes on with the results.
    """
    check_alone(options.out)
    if options.overwrite:
        return None
    with most_pixels(options.max_pixels):
        return _run(options)


def remember(options: argparse.Namespace, done: Run, stored: Stored) -> None:
    """Keep beside the results what :func:`run` needs.

    Args:
        options: Of the command.
        done: What it did.
        stored: The detector, with its own threshold.
    """
    done.results.remember({
        **_request(options),
        "detector": stored.facts(),
        "settings": plain(_lasting(done.settings)),
        # Of the detector's own threshold; what another promises is told where it is loaded.
        "promise": done.settings.get(FALSE_ALARMS) if options.threshold is None else None,
    })  # fmt: skip


def _run(options: argparse.Namespace) -> Answer | None:
    earlier = read_run(options.out / RUN)
    known = earlier and earlier.get("again")
    drawing = drawn(options.out, maps=options.maps, overlays=options.overlays)
    if not earlier or not known or drawing is None or not _is_same(options, known):
        return None
    detector = Stored.read(known["detector"])
    detector = detector and detector.by(options.threshold)
    if detector is None or detector.threshold is None:
        return None
    if is_folder(detector.roi):  # whose masks may have changed
        return None
    found = search(options)
    names = [source.name for source in found.images if source.problem is None]
    how = {"maps": options.maps, "overlays": options.overlays}
    with closing(Results(options.out, earlier["identity"], names)) as results:
        if read_run(options.out / RUN) != earlier:  # another run has ended meanwhile
            return None
        if not _all_known(options, results, found.images):
            return None
        tally = _tally(results, detector, found.images)
        drawing = draw_all(results, detector, tally.records, **how, more=False)
        settings = known["settings"]
        if options.threshold is None and known["promise"] is not None:
            settings = {**settings, FALSE_ALARMS: known["promise"]}
        return answer(options, found, Run(results, detector, drawing, tally, settings))


def _is_same(options: argparse.Namespace, known: Mapping[str, Any]) -> bool:
    """Whether the earlier run was asked for the same scores, and nothing of it may have changed."""
    request = _request(options)
    if known.keys() != {*request, "detector", "settings", "promise"}:
        return False
    return all(request[name] == known[name] for name in request) and not _may_change(options)


def _all_known(options: argparse.Namespace, results: Results, sources: Sequence[ImageFile]) -> bool:
    """Whether nothing is to be scored, nor scored otherwise because images are gone."""
    names, strict = {source.name for source in sources}, options.on_error == "raise"
    if names - results.records.keys():
        return False
    if options.detector is None and results.records.keys() - names:
        return False  # images that were compared with each other
    return all(_is_known(results, source, strict=strict) for source in sources)


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """Of what the scores and their detector follow, as JSON values."""
    saved = None if options.detector is None else digest_of_file(options.detector)
    return {"version": __version__, "options": plain(_chosen(options)), "saved": saved}


def _lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without what another threshold changes."""
    return {name: value for name, value in settings.items() if name != FALSE_ALARMS}


def _may_change(options: argparse.Namespace) -> bool:
    """Whether an option leads to files, other than the saved detector, that may have changed."""
    return any(
        isinstance(found, Path) or found.startswith(ON_DISK) or Path(found).is_file()
        for found in texts(_chosen(options))
    )


def _chosen(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ELSEWHERE}


def _is_known(results: Results, source: ImageFile, *, strict: bool) -> bool:
    """Whether an image, or its failure, is as the earlier run has recorded it."""
    if results.keep(source):
        return True
    record = results.records.get(source.name)
    if strict or source.address or record is None or "error" not in record:
        return False
    if source.problem is not None:
        return bool(record["error"] == encodable(f"{source.path} {source.problem}"))
    try:
        read_pixels(source.path)
    except UnreadableError as error:
        digest = digest_of_file(source.path)
        told = {"error": encodable(command_words(str(error), str(source.path)))}
        results.records[source.name] = {**record, **told, "file": [str(source.path), digest]}
        return True
    return False


def _tally(results: Results, detector: Stored, sources: Sequence[ImageFile]) -> Tally:
    records: list[Record] = [
        labelled(results, results.records[source.name], detector) for source in sources
    ]
    return Tally(
        kept=sum("score" in record for record in records),
        gone=results.finish(records),
        unreadable=[record["image"] for record in records if "error" in record],
        records=records,
    )
