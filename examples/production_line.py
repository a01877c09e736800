"""A production line: every image that arrives in a folder becomes one line of JSON.

    python examples/few_shot.py --normal good/ --images new/ --out screw/
    python examples/production_line.py incoming/ --detector screw/detector.safetensors \
        --out line.jsonl

Detector and threshold come from a checkpoint. A file is read once it has not changed for --settle
seconds; names that begin with a dot are never read, names that end in .part or .tmp not before they
are renamed. What cannot be decoded may still be on its way, and is given up only after --patience
seconds without a change: its line then says why. Files that are not finished by then get a line
with "unfinished", and another one when they are. What is no file (a folder, a pipe, a link to
nothing) is passed over, and a folder that is gone for a moment is waited for.

Ctrl-C or SIGTERM ends the program after the line in progress. Started again it goes on: a file that
has its line is not scored twice, unless it has another content, and what came meanwhile is scored.
Content is told by a digest in the line, not by size and date, which two files can share. Lines
without one, of version 0.1.0, do not tell: their files get another line.
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import json
import os
import signal
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from pyimgano_openclip import load_detector
from pyimgano_openclip.images.formats import file_suffixes
from pyimgano_openclip.maps.scores import ImageScores

PARTIAL_SUFFIXES = {".part", ".tmp"}
WATCHED = file_suffixes() | PARTIAL_SUFFIXES
PATIENCE = 60.0  # seconds
WINDOW = 100  # images that are compared with the training images
NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}  # of links, or what is gone meanwhile
UNREAD = ""  # in place of a digest, which is None for what cannot be read
COARSE = 3.0  # seconds; some file systems give two writes within two seconds the same date


@dataclass(frozen=True)
class Version:
    """What a folder tells of a file; it changes when the file is written to."""

    file: str
    size: int
    modified: int  # nanoseconds
    changed: int  # nanoseconds; copying a date along does not set it
    number: int  # another one when another file took its place


@dataclass
class Arrival:
    """A file without a line; times are those of the monotonic clock."""

    version: Version
    first_seen: float
    unchanged_since: float
    digest: str | None = UNREAD
    problem: str | None = None
    reported: bool = False
    confirmed: bool = False


class Journal:
    """The lines, appended to a file, and by file the digest of what the last one is about."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()  # cut off when the machine went down; its image is scored again
        records = [_record(path, *numbered) for numbered in enumerate(lines, start=1)]
        self._file = path.open("ab")
        self._file.truncate(sum(map(len, lines)))
        self.done = {
            record["file"]: record["digest"]
            for record in records
            if "digest" in record and "unfinished" not in record
        }

    def add(self, arrival: Arrival, found: dict) -> None:
        """Append a line; it is on the disk when this returns."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        version = arrival.version
        facts = {"file": version.file, "size": version.size, "modified": version.modified}
        if "unfinished" not in found:
            facts["digest"] = arrival.digest
        line = json.dumps({**facts, **found, "time": now})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        if "unfinished" not in found:
            self.done[version.file] = arrival.digest
        print(line, flush=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass
class Line:
    """A watched folder; see the options of the program."""

    folder: Path
    detector: object
    journal: Journal
    settle: float
    patience: float

    def __post_init__(self) -> None:
        self._arrivals: dict[str, Arrival] = {}
        self._finished: dict[str, Arrival] = {}  # as they were when they had their line
        self._latest: deque = deque(maxlen=WINDOW)  # results, flagged or not
        self._gone = False

    def look(self, stop: threading.Event) -> int:
        """Look once at every file and score what is complete; how many are waited for."""
        now = time.monotonic()
        earlier = self._arrivals
        try:
            versions = list(self._versions(now))
        except OSError as error:
            return self._wait_for_folder(error)
        self._gone = False
        self._arrivals = {
            version.file: _arrival(version, earlier.get(version.file), now) for version in versions
        }
        for arrival in list(self._arrivals.values()):
            if stop.is_set():
                break
            found = self._examine(arrival, now)
            if found is not None:
                self.journal.add(arrival, found)
            if found is not None and "unfinished" in found:
                arrival.reported = True
            elif found is not None or self._has_line(arrival):
                self._finished[arrival.version.file] = arrival
                del self._arrivals[arrival.version.file]
        return sum(not arrival.reported for arrival in self._arrivals.values())

    def _wait_for_folder(self, error: OSError) -> int:
        """Say once that the folder cannot be looked at; it is waited for like one file."""
        if not self._gone:
            print(f"{error}; waiting for {self.folder}", file=sys.stderr, flush=True)
        self._gone = True
        return 1

    def _has_line(self, arrival: Arrival) -> bool:
        """Whether the last line of a file is about the content that was found."""
        return self.journal.done.get(arrival.version.file, UNREAD) == arrival.digest != UNREAD

    def _is_finished(self, version: Version, now: float) -> bool:
        """Whether a file is as it was when it had its line."""
        last = self._finished.get(version.file)
        if last is None or last.version != version:
            return False
        if not last.confirmed and now - last.unchanged_since >= COARSE:
            last.confirmed = True  # from here on, writing to it sets another date
            if _digest(self.folder / version.file) != last.digest:
                del self._finished[version.file]
        return version.file in self._finished

    def _versions(self, now: float) -> Iterator[Version]:
        """The files that have no line yet, or have been written to since, by name."""
        for path in sorted(self.folder.iterdir()):
            suffix = path.suffix.lower()
            if path.name.startswith(".") or suffix not in WATCHED:
                continue
            version = _version(path)
            if version is not None and not self._is_finished(version, now):
                yield version

    def _examine(self, arrival: Arrival, now: float) -> dict | None:
        """What the line of a file says; None if it has to wait."""
        path = self.folder / arrival.version.file
        unchanged, known = now - arrival.unchanged_since, now - arrival.first_seen
        if unchanged < self.settle or path.suffix.lower() in PARTIAL_SUFFIXES:
            late = known >= self.patience and not arrival.reported
            return {"unfinished": f"still being written after {known:.0f} s"} if late else None
        given_up = unchanged >= self.patience
        if arrival.problem is None or given_up:
            arrival.digest = _digest(path)
            if self._has_line(arrival):
                return None  # it was scored before a restart, or only its date is new
            try:
                start = time.perf_counter()
                # A path, since its name may tell where to look; read once.
                (scored,) = self.detector.score_iter([path], with_tokens=True)
                if _version(path) != arrival.version or _digest(path) != arrival.digest:
                    return None  # it was written to meanwhile
                return self._judge(scored, start)
            except (OSError, ValueError) as error:
                arrival.problem = str(error).removeprefix("x[0]: ")
        # What was not inspected does not pass.
        return {"error": arrival.problem, "label": 1} if given_up else None

    def _judge(self, scored: ImageScores, start: float) -> dict:
        """What the line of a scored image says; the time is that of the performance counter."""
        detector = self.detector
        anomalous = scored.image > detector.label_threshold()
        told = {} if scored.unlike is None else {"unlike": scored.unlike}
        if scored.pages > 1:  # of which the first was scored
            told["pages"] = scored.pages
        self._latest.append(replace(scored, tokens=None))
        if drift := self._drift():
            told["drift"] = drift
        return {
            "score": scored.image,
            "label": int(anomalous),
            **told,
            "percentile": self._percentile(scored.image),
            "regions": [asdict(region) for region in detector.explain(scored)] if anomalous else [],
            "seconds": round(time.perf_counter() - start, 3),
        }

    def _percentile(self, score: float) -> float | None:
        """The share of training scores below a score; None without training images."""
        if not hasattr(self.detector, "decision_scores_"):
            return None
        return float(self.detector.score_percentile([score])[0])

    def _drift(self) -> str | None:
        """How normal images have moved away from the training images, if they have."""
        if not hasattr(self.detector, "drift"):  # one of unlabelled images knows no normal ones
            return None
        found = self.detector.drift(self._latest)
        return str(found) if found is not None and found.moved else None


def _version(path: Path) -> Version | None:
    """The file as it is now, or None if it is gone or no file.

    Raises:
        OSError: If that cannot be told.
    """
    try:
        status = path.stat()
    except OSError as error:
        if error.errno in NO_FILE:
            return None
        raise
    if not stat.S_ISREG(status.st_mode):
        return None
    return Version(path.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _digest(path: Path) -> str | None:
    """The digest of a file's content, or None if it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return None


def _record(path: Path, number: int, line: bytes) -> dict:
    """A line of the journal; the program ends if it is none."""
    try:
        record = json.loads(line)
        record["file"].encode("utf-8", "surrogateescape")  # bytes that are not UTF-8 are kept
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SystemExit(
            f"{path}:{number}: found {line[:60]!r}, which is no line that this program writes, a "
            'JSON object with "file"; mend or remove it, or choose another --out.'
        ) from error
    return record


def _arrival(version: Version, earlier: Arrival | None, now: float) -> Arrival:
    if earlier is None:
        return Arrival(version, first_seen=now, unchanged_since=now)
    if earlier.version == version:
        return earlier
    return Arrival(version, earlier.first_seen, unchanged_since=now, reported=earlier.reported)


def has_threshold(detector: object) -> bool:
    """Whether images have told the threshold: those of fit(), or references."""
    if hasattr(detector, "decision_scores_"):
        return True
    try:
        detector.read_references().promise()
    except (AttributeError, RuntimeError):
        return False
    return True


def usable(file: Path, device: str):
    """The detector of a file; the program ends if there is none to go by."""
    if file.suffix.lower() == ".onnx":  # it knows no training scores, which tell drift
        raise SystemExit(
            f"{file} is an exported detector; pass the file that it was exported from."
        )
    try:
        detector = load_detector(file, device=device)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    if not has_threshold(detector):
        raise SystemExit(
            f"{file} has no threshold that images have told: save it after fit(), or with two "
            "references or more."
        )
    return detector


def main(arguments: list[str] | None = None) -> None:
    """Watch until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where images arrive")
    parser.add_argument("--detector", type=Path, required=True, help="saved by save_checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the lines, in a file that grows")
    parser.add_argument("--poll", type=float, default=0.5, help="seconds between two looks")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds without a change")
    parser.add_argument(
        "--patience", type=float, help="seconds until giving up (60; with --once as --settle)"
    )
    parser.add_argument("--once", action="store_true", help="end when the folder is done")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        raise SystemExit(f"{options.folder} is no folder.")

    detector = usable(options.detector, options.device)
    journal, stop = Journal(options.out), threading.Event()
    handlers = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    # Nobody writes to a folder that is scored once.
    usual = options.settle if options.once else PATIENCE
    patience = usual if options.patience is None else options.patience
    line = Line(options.folder, detector, journal, options.settle, patience)
    try:
        while not stop.is_set():
            waiting = line.look(stop)
            if options.once and not waiting:
                break
            stop.wait(options.poll)
    finally:
        journal.close()
        for number, handler in handlers.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    main()
