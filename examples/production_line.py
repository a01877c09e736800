"""A production line: every image that arrives in a folder becomes one line of JSON.

    python examples/few_shot.py --normal good/ --images new/ --out screw/
    python examples/production_line.py incoming/ --detector screw/detector.safetensors \
        --out line.jsonl

Detector and threshold come from a checkpoint. A file is read once it has not changed for --settle
seconds; names that begin with a dot are never read, names that end in .part or .tmp not before they
are renamed. What cannot be decoded may still be on its way, and is given up only after --patience
seconds without a change: its line then says why. Files that are not finished by then get a line
with "unfinished", and another one when they are.

Ctrl-C or SIGTERM ends the program after the line in progress. Started again it goes on: a file that
has its line is not scored twice, unless it was written anew, and what came meanwhile is scored.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from pyimgano_openclip import load_detector
from pyimgano_openclip.frame import read_pixels

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
PARTIAL_SUFFIXES = {".part", ".tmp"}


@dataclass(frozen=True)
class Version:
    """A file with one content: another one when it is written to."""

    file: str
    size: int
    modified: int  # nanoseconds


@dataclass
class Arrival:
    """A file without a line; times are those of the monotonic clock."""

    version: Version
    first_seen: float
    unchanged_since: float
    problem: str | None = None
    reported: bool = False


class Journal:
    """The lines, appended to a file, and the versions of files that have one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+b")
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            # Cut off when the machine went down; its image is scored again.
            self._file.truncate(sum(len(line) for line in lines[:-1]))
            lines.pop()
        records = [json.loads(line) for line in lines]
        self.done = {
            Version(record["file"], record["size"], record["modified"])
            for record in records
            if "unfinished" not in record
        }

    def add(self, version: Version, found: dict) -> None:
        """Append a line; it is on the disk when this returns."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = json.dumps({**asdict(version), **found, "time": now})
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        if "unfinished" not in found:
            self.done.add(version)
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

    def look(self, stop: threading.Event) -> int:
        """Look once at every file and score what is complete; how many are waited for."""
        now = time.monotonic()
        earlier = self._arrivals
        self._arrivals = {
            version.file: _arrival(version, earlier.get(version.file), now)
            for version in self._versions()
        }
        for arrival in list(self._arrivals.values()):
            if stop.is_set():
                break
            found = self._examine(arrival, now)
            if found is None:
                continue
            self.journal.add(arrival.version, found)
            if "unfinished" in found:
                arrival.reported = True
            else:
                del self._arrivals[arrival.version.file]
        return sum(not arrival.reported for arrival in self._arrivals.values())

    def _versions(self) -> Iterator[Version]:
        """The files that have no line yet, by name."""
        for path in sorted(self.folder.iterdir()):
            suffix = path.suffix.lower()
            if path.name.startswith(".") or suffix not in IMAGE_SUFFIXES | PARTIAL_SUFFIXES:
                continue
            version = _version(path)
            if version is not None and version not in self.journal.done:
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
            try:
                pixels = read_pixels(path)
                if _version(path) != arrival.version:
                    return None  # it was written to meanwhile
                return self._score(pixels)
            except ValueError as error:
                arrival.problem = str(error)
        return {"error": arrival.problem} if given_up else None

    def _score(self, pixels: np.ndarray) -> dict:
        start = time.perf_counter()
        detector = self.detector
        score = detector.decision_function([pixels])[0]
        anomalous = bool(score > detector.threshold_)
        return {
            "score": float(score),
            "label": int(anomalous),
            "percentile": float(detector.score_percentile([score])[0]),
            "regions": [asdict(region) for region in detector.explain(pixels)] if anomalous else [],
            "seconds": round(time.perf_counter() - start, 3),
        }


def _version(path: Path) -> Version | None:
    """The file as it is now, or None if it is gone."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return Version(path.name, status.st_size, status.st_mtime_ns)


def _arrival(version: Version, earlier: Arrival | None, now: float) -> Arrival:
    if earlier is None:
        return Arrival(version, first_seen=now, unchanged_since=now)
    if earlier.version == version:
        return earlier
    return Arrival(version, earlier.first_seen, unchanged_since=now, reported=earlier.reported)


def main(arguments: list[str] | None = None) -> None:
    """Watch until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where images arrive")
    parser.add_argument("--detector", type=Path, required=True, help="saved by save_checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="the lines, in a file that grows")
    parser.add_argument("--poll", type=float, default=0.5, help="seconds between two looks")
    parser.add_argument("--settle", type=float, default=1.0, help="seconds without a change")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds until giving up")
    parser.add_argument("--once", action="store_true", help="end when nothing is waited for")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        raise SystemExit(f"{options.folder} is no folder.")

    detector = load_detector(options.detector, device=options.device)
    if not hasattr(detector, "decision_scores_"):
        raise SystemExit(f"{options.detector} has no threshold: save it after fit().")
    stop = threading.Event()
    handlers = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    journal = Journal(options.out)
    line = Line(options.folder, detector, journal, options.settle, options.patience)
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
