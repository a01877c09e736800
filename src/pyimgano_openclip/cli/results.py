"""A results folder that survives interruptions.

``scores.jsonl`` is the journal: a line is appended once everything else about its image is on disk,
so an interrupted run resumes after the last complete line. ``run.json`` records what the results
depend on, so that results of different settings are never mixed; a folder without one is not taken
for results. An image is scored again if the bytes of its file have changed. In ``scores.csv``, a
name that starts like a formula of a spreadsheet (``=``, ``+``, ``-``, ``@``) is written
``./=name.png``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np

from ..arrays import Floats
from ..files.atomic import naming, write_atomically
from ..files.lock import locked
from ..files.remote import digest_of
from .images import ImageFile
from .messages import counted
from .places import (
    JOURNAL,
    LOCK,
    OF_AN_IMAGE,
    PATCHES,
    PICTURE_SETTINGS,
    REPORT,
    RUN,
    TABLE,
    Places,
    holds_results,
    remove,
    taken,
)

COLUMNS = (
    "image",
    "score",
    "label",
    "percentile",
    "regions",
    "hottest",
    "defect",
    "unlike",
    "error",
)
REMEDY = "remove it and the results beside it, or replace them with --overwrite."
# By what a user chooses a part of an identity; the rest is chosen by --set.
PASSED = {
    "class_name": "--class-name",
    "defects": "--defects",
    "detector": "--detector or --class-name",
    "pool": "the images",
    "roi": "--roi",
    "saved": "the file of --detector",
    "smallest_defect": "--smallest-defect",
    "weights": "the weights of the model",
}
CRLF = "\r\n"
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets evaluate

# np.load parses a header as Python's text, which CPython 3.11 cannot do in several threads at once
# (python/cpython#106905).
ONE_AT_A_TIME = Lock()

Record = dict[str, Any]


class Results:
    """The results of one detector in one folder.

    Other runs are kept out until :meth:`close`: where there are results already, before they are
    read; elsewhere from :meth:`start` or :meth:`finish` on.

    Args:
        folder: Path of the folder; created when needed.
        identity: Everything that the results depend on, as JSON values.
        names: Names of all images of the run.
        overwrite: Whether to discard earlier results, and to replace files that have the names of
            results but are not known to be any. Nothing is discarded before :meth:`start`.

    Attributes:
        folder: Path of the folder.
        identity: Everything that the results depend on.
        canvas: (height, width) in pixels to which the images are resized; None until known.
        records: Records by image name.

    Raises:
        ValueError: If the folder is a file, or, without ``overwrite``, holds results of another
            identity, a damaged ``run.json``, or files with the names of results without one; or if
            another run writes into it.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, Any],
        names: Iterable[str] = (),
        *,
        overwrite: bool = False,
    ) -> None:
        self.folder = folder
        self.canvas: tuple[int, int] | None = None
        self.records: dict[str, Record] = {}
        self.identity = dict(identity)
        self._places = Places(folder, names)
        self._stream: io.FileIO | None = None
        self._lock: BinaryIO | None = None
        self._overwrite = overwrite
        self._earlier: set[str] = set()
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; pass a folder for the results.")
        self._last_run = self._bytes_of_run()
        try:
            if holds_results(folder):
                self._claim()  # what is read now is what the run goes on with
            if not overwrite:
                self._read()
        except BaseException:
            self.close()
            raise

    def keep(self, source: ImageFile) -> bool:
        """Keep the record of an image if it is scored and its bytes have not changed since."""
        record = self.records.get(source.name)
        # Version 0.1.0 wrote size and date, which do not tell the content, and other regions.
        known = record["file"][1:] if record is not None and "region_threshold" in record else []
        if len(known) != 1 or known[0] is None or known[0] != digest_of(source.place):
            return False
        if not self.place(PATCHES, source.name, "npy").is_file():
            return False
        self.records[source.name] = {
            **self.records[source.name],
            "file": [source.place, *known],
        }
        return True

    @property
    def is_open(self) -> bool:
        """Whether records can be added."""
        return self._stream is not None

    def start(self, canvas: tuple[int, int] | None) -> None:
        """Open the journal; a resumed run uses the same canvas.

        Raises:
            ValueError: If another run has begun meanwhile, whose results would mix with these.
        """
        self._close_journal()
        self._claim()
        if self._overwrite:
            self._discard()
        self.canvas = canvas
        self._write_run()
        journal = self.folder / JOURNAL
        if journal.is_file():
            # An incomplete line would swallow the next one.
            whole = journal.read_bytes()
            with journal.open("r+b") as file:
                file.truncate(whole.rfind(b"\n") + 1)
        self._stream = journal.open("ab", buffering=0)

    def add(
        self, source: ImageFile, record: Record, patches: Floats | None, digest: str | None
    ) -> None:
        """Store what became of an image; the journal line is written last.

        Args:
            source: The image.
            record: What the journal keeps of it.
            patches: Its patch scores, shape (rows, cols), if it could be read.
            digest: Of the bytes that were scored.
        """
        if self._stream is None:
            raise RuntimeError("Call start() before add().")
        if source.problem is None:
            for kind, suffix in OF_AN_IMAGE:
                self.place(kind, source.name, suffix).unlink(missing_ok=True)
        if patches is not None:
            buffer = io.BytesIO()
            np.save(buffer, patches, allow_pickle=False)
            write_atomically(self.place(PATCHES, source.name, "npy"), buffer.getvalue())
        full = {"image": source.name, **record, "file": [source.place, digest]}
        line = (json.dumps(full) + "\n").encode()
        with naming(self.folder / JOURNAL):
            while line:  # a disk that is full takes a part, and the rest is the error
                line = line[self._stream.write(line) :]
        self.records[source.name] = full

    def close(self) -> None:
        """Close the journal, and let other runs write into the folder."""
        self._close_journal()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _close_journal(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def finish(self, records: Iterable[Record]) -> int:
        """Rewrite the journal, each record once and in order, and the table.

        Returns:
            Number of images of the earlier run that are not among the records; what was drawn of
            them has been removed.

        Raises:
            ValueError: See :meth:`start`.
        """
        self._close_journal()
        self._claim()
        records = list(records)
        names = {record["image"] for record in records}
        old, new = Places(self.folder, self._earlier), self._places
        stale = self._earlier - names
        stale |= {name for name in self._earlier & names if old.stem(name) != new.stem(name)}
        if stale:
            remove(old.files_about(stale), spared=new.files_about(names))
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(self.folder / JOURNAL, lines.encode())
        heads = dict(zip(COLUMNS, COLUMNS, strict=True))
        table = "".join(map(_csv_line, [heads, *map(_row, records)]))
        # With a byte order mark, without which spreadsheets take it for a text of their country.
        write_atomically(self.folder / TABLE, table.encode("utf-8-sig"))
        return len(self._earlier - names)

    def remember(self, facts: Mapping[str, Any]) -> None:
        """Keep JSON values in ``run.json``, under ``again``, until more is scored."""
        self._write_run(again=dict(facts))

    def patches(self, name: str) -> Floats:
        """The patch scores of an image, shape (rows, cols)."""
        path = self.place(PATCHES, name, "npy")
        try:
            with ONE_AT_A_TIME:
                found = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); discard the results with --overwrite."
            ) from error
        return np.asarray(found, dtype=np.float32)

    def place(self, kind: str, name: str, suffix: str) -> Path:
        """Path of a file about an image; see :meth:`.places.Places.path`."""
        return self._places.path(kind, name, suffix)

    def _read(self) -> None:
        """Take over what an earlier run has written."""
        earlier = read_run(self.folder / RUN)
        if earlier is not None:
            self._check(earlier["identity"])
            self.canvas = tuple(earlier["canvas"]) if earlier["canvas"] else None
            journal = _read_journal(self.folder / JOURNAL)
            self.records = {record["image"]: record for record in journal}
        elif found := taken(self.folder):
            raise ValueError(
                f"{self.folder} holds {', '.join(found)}, but no {RUN}, so this was not written by "
                "'score'. Choose another folder with --out, or replace it with --overwrite."
            )
        self._earlier = set(self.records)

    def _claim(self) -> None:
        """Keep other runs out of the folder until :meth:`close`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock = self._lock or locked(self.folder / LOCK)
            alone = self._bytes_of_run() == self._last_run
        except BlockingIOError:
            alone = False
        if not alone:
            raise ValueError(_taken_by_another(self.folder))

    def _write_run(self, **more: Any) -> None:
        run = {"identity": self.identity, "canvas": self.canvas, **more}
        self._last_run = (json.dumps(run, indent=2) + "\n").encode()
        write_atomically(self.folder / RUN, self._last_run)

    def _bytes_of_run(self) -> bytes | None:
        path = self.folder / RUN
        return path.read_bytes() if path.is_file() else None

    def _check(self, earlier: Mapping[str, Any]) -> None:
        """Raise an error unless earlier results are of the same identity."""
        # Until version 0.1.0 a threshold was among them; records are labelled by any.
        names = {*earlier, *self.identity} - {"threshold"}
        _refuse_changes(self.folder, earlier, self.identity, names)

    def _discard(self) -> None:
        """Discard what an earlier run has written, as far as its journal tells."""
        self._overwrite = False
        if holds_results(self.folder):
            names = {
                record["image"] for record in _read_journal(self.folder / JOURNAL, strict=False)
            }
            remove(Places(self.folder, names).files_about(names))
        for name in (RUN, JOURNAL, TABLE, REPORT, PICTURE_SETTINGS):
            (self.folder / name).unlink(missing_ok=True)


def check_alone(folder: Path) -> None:
    """Check that no other run goes on with the results in a folder.

    One that begins later is kept out by :class:`Results`; this tells it before a model is loaded.

    Raises:
        ValueError: If one does.
    """
    if not holds_results(folder):
        return
    try:
        lock = locked(folder / LOCK)
    except BlockingIOError:
        raise ValueError(_taken_by_another(folder)) from None
    if lock is not None:
        lock.close()


def check_settings(folder: Path, identity: Mapping[str, Any]) -> None:
    """Check that results in a folder are of these settings, before images are compared.

    Args:
        folder: Path of the folder.
        identity: What the results will depend on, as far as it is known by then.

    Raises:
        ValueError: If there are results, and of others.
    """
    earlier = read_run(folder / RUN)
    if earlier is not None:
        _refuse_changes(folder, earlier["identity"], identity, identity)


def check_shared(folder: Path, names: Iterable[str]) -> None:
    """Check that results in a folder, which would be removed, are of some of these images.

    Needs neither a detector nor its model.

    Args:
        folder: Path of the folder.
        names: Names of all images of the run.

    Raises:
        ValueError: If there are results, and of other images only.
    """
    if not holds_results(folder):
        return
    earlier = {record["image"] for record in _read_journal(folder / JOURNAL, strict=False)}
    if earlier and earlier.isdisjoint(names):
        raise ValueError(
            f"{folder} holds results of {counted(len(earlier), 'image')}, none of which is among "
            "these. Choose another folder with --out, or discard them with --overwrite."
        )


def _refuse_changes(
    folder: Path, earlier: Mapping[str, Any], identity: Mapping[str, Any], names: Iterable[str]
) -> None:
    """Raise an error if any of these parts of an identity differ from those of earlier results."""
    changed = sorted(name for name in names if earlier.get(name) != identity.get(name))
    if not changed:
        return
    remedy = "Choose another folder with --out, or discard them with --overwrite."
    if changed == ["pool"]:
        raise ValueError(
            f"{folder} holds results of other images: all images are compared with each other, and "
            f"since then some were added, deleted or changed, so that all scores change. {remedy}"
        )
    told = ", ".join(_as_passed(changed))
    raise ValueError(f"{folder} holds results of other settings (different: {told}). {remedy}")


def _taken_by_another(folder: Path) -> str:
    return (
        f"Another run has begun to write into {folder}; choose another --out, or run this command "
        "again when it has ended."
    )


def _as_passed(changed: Sequence[str]) -> list[str]:
    """What results depend on, as a user has passed it."""
    for name in ("detector", "saved"):  # of another one nearly everything differs
        if name in changed:
            return [PASSED[name]]
    return [PASSED.get(name, f"--set {name}") for name in changed]


def _read_journal(journal: Path, *, strict: bool = True) -> Iterator[Record]:
    """The records of a journal; without ``strict``, damaged ones are passed over."""
    try:
        lines = journal.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    for number, line in enumerate(lines, start=1):
        if line.endswith(b"\n"):
            try:
                yield _record(journal, number, line)
            except ValueError:
                if strict:
                    raise


def _record(journal: Path, number: int, line: bytes) -> Record:
    """One line of the journal, as far as a resumed run relies on it."""
    try:
        record = json.loads(line)
        sound = isinstance(record["image"], str) and isinstance(record["file"], list)
        if "score" in record:
            facts = [record[name] for name in ("score", "height", "width")]
            facts += [record.get("region_threshold", 0.0)]
            sound = sound and all(isinstance(fact, (int, float)) for fact in facts)
            sound = sound and all(isinstance(region["area"], int) for region in record["regions"])
        problem = None if sound else "an entry has a wrong type"
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        raise ValueError(
            f"{journal}, line {number} is damaged ({problem}); remove the line to score its image "
            "again, or discard all results with --overwrite."
        )
    return record


def read_run(path: Path) -> dict[str, Any] | None:
    """What earlier results depend on; None if there are none."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {REMEDY}") from error
    if not isinstance(found, dict) or not {"identity", "canvas"} <= set(found):
        raise ValueError(f"{path} was not written by 'score'; {REMEDY}")
    identity, canvas = found["identity"], found["canvas"]
    sides = canvas if isinstance(canvas, list) and len(canvas) == 2 else [None]
    if not isinstance(identity, dict) or not (
        canvas is None or all(type(side) is int and side > 0 for side in sides)
    ):
        raise ValueError(f"{path} is damaged; {REMEDY}")
    return found


def _csv_line(row: Mapping[str, Any]) -> str:
    """A line of a table; of ends of lines in names, Python quotes those that it writes itself."""
    line = io.StringIO()
    csv.DictWriter(line, COLUMNS, lineterminator=CRLF).writerow(row)
    return f"{line.getvalue().removesuffix(CRLF)}\n"


def _row(record: Record) -> dict[str, Any]:
    regions = record.get("regions", [])
    first = regions[0] if regions else {}
    name: str = record["image"]
    return {
        "image": f"./{name}" if name.startswith(FORMULA) else name,
        "label": record["label"],
        "error": record.get("error", ""),
        "score": record.get("score", "nan"),
        "percentile": record.get("percentile", ""),
        "regions": sum(region["area"] > 0 for region in regions) if "score" in record else "",
        "hottest": " ".join(str(side) for side in first.get("box", ())),
        "defect": first.get("defect") or "",
        "unlike": record.get("unlike", ""),
    }
