"""A results folder that survives interruptions.

``scores.jsonl`` is the journal: a line is appended once everything else about its image is on disk,
so an interrupted run resumes after the last complete line. ``run.json`` records what the results
depend on, so that results of different settings are never mixed. In ``scores.csv``, a name that
starts like a formula of a spreadsheet (``=``, ``+``, ``-``, ``@``) is written ``./=name.png``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_atomically
from ..embedding import Floats
from .images import Source

JOURNAL, TABLE, RUN, REPORT = "scores.jsonl", "scores.csv", "run.json", "report.html"
PATCHES, MAPS, OVERLAYS, THUMBNAILS = "patches", "maps", "overlays", "thumbnails"
COLUMNS = ("image", "score", "label", "percentile", "regions", "hottest", "defect", "error")
# Files drawn from an image and its patch scores.
PICTURES = ((MAPS, "png"), (MAPS, "npy"), (OVERLAYS, "jpg"), (THUMBNAILS, "jpg"))

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets evaluate
LONGEST = 250  # bytes of a name; most file systems allow 255 with the suffix

Record = dict[str, Any]


class Results:
    """The results of one detector in one folder.

    Args:
        folder: Path of the folder; created when needed.
        identity: Everything that the results depend on, as JSON values.
        overwrite: Whether to discard earlier results.

    Attributes:
        folder: Path of the folder.
        canvas: (height, width) in pixels to which the images are resized; None until known.
        records: Records by image name.

    Raises:
        ValueError: If the folder holds results of another identity or another program's
            ``run.json``, or is a file.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, Any], *, overwrite: bool = False
    ) -> None:
        self.folder = folder
        self.canvas: tuple[int, int] | None = None
        self.records: dict[str, Record] = {}
        self._identity = dict(identity)
        self._stream: io.BufferedWriter | None = None
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; pass a folder for the results.")
        earlier = _read_json(folder / RUN)
        if overwrite or earlier is None:
            (folder / JOURNAL).unlink(missing_ok=True)
            return
        changed = sorted(
            name
            for name in {*earlier["identity"], *self._identity}
            if earlier["identity"].get(name) != self._identity.get(name)
        )
        if changed:
            # Of another detector nearly everything differs.
            names = "detector" if "detector" in changed else ", ".join(changed)
            slider = " The slider of their report changes labels without scoring again."
            raise ValueError(
                f"{folder} holds results of other settings (different: {names}). Choose another "
                "folder with --out, or discard them with --overwrite."
                f"{slider if changed == ['threshold'] else ''}"
            )
        self.canvas = tuple(earlier["canvas"]) if earlier["canvas"] else None
        self._read_journal()

    def is_done(self, source: Source) -> bool:
        """Whether an image is scored and its file has not changed since."""
        record = self.records.get(source.name)
        return (
            record is not None and "score" in record and record["file"] == _file_facts(source.path)
        )

    @property
    def is_open(self) -> bool:
        """Whether records can be added."""
        return self._stream is not None

    def start(self, canvas: tuple[int, int] | None) -> None:
        """Open the journal; a resumed run uses the same canvas."""
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.canvas = canvas
        run = {"identity": self._identity, "canvas": canvas}
        write_atomically(self.folder / RUN, (json.dumps(run, indent=2) + "\n").encode())
        journal = self.folder / JOURNAL
        if journal.is_file():
            # An incomplete line would swallow the next one.
            whole = journal.read_bytes()
            with journal.open("r+b") as file:
                file.truncate(whole.rfind(b"\n") + 1)
        self._stream = journal.open("ab")

    def add(self, source: Source, record: Record, patches: Floats | None) -> None:
        """Store a record and the patch scores (rows, cols); the journal line is written last."""
        if self._stream is None:
            raise RuntimeError("Call start() before add().")
        for kind, suffix in PICTURES:
            self.place(kind, source.name, suffix).unlink(missing_ok=True)
        if patches is not None:
            buffer = io.BytesIO()
            np.save(buffer, patches, allow_pickle=False)
            write_atomically(self.place(PATCHES, source.name, "npy"), buffer.getvalue())
        full = {"image": source.name, **record, "file": _file_facts(source.path)}
        self._stream.write((json.dumps(full) + "\n").encode())
        self._stream.flush()
        self.records[source.name] = full

    def close(self) -> None:
        """Close the journal."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def finish(self, records: Iterable[Record]) -> None:
        """Rewrite the journal, each record once and in order, and the table."""
        self.close()
        records = list(records)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        write_atomically(self.folder / JOURNAL, lines.encode())
        table = io.StringIO()
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(record) for record in records)
        write_atomically(self.folder / TABLE, table.getvalue().encode())

    def patches(self, name: str) -> Floats:
        """The patch scores of an image, shape (rows, cols)."""
        return np.asarray(
            np.load(self.place(PATCHES, name, "npy"), allow_pickle=False), dtype=np.float32
        )

    def place(self, kind: str, name: str, suffix: str) -> Path:
        """Path of a file about an image; it keeps the image's suffix, since a.jpg is not a.png."""
        shortened = "/".join(_shortened(part) for part in name.split("/"))
        return self.folder / kind / f"{shortened}.{suffix}"

    def _read_journal(self) -> None:
        try:
            lines = (self.folder / JOURNAL).read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        for line in lines:
            if line.endswith(b"\n"):
                record = json.loads(line)
                self.records[record["image"]] = record


def _shortened(name: str) -> str:
    """The name, or the start of a long name and its digest."""
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:16]
    return f"{encoded[: LONGEST - 17].decode(errors='ignore')}-{digest}"


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it.") from error
    if not isinstance(found, dict) or not {"identity", "canvas"} <= set(found):
        raise ValueError(f"{path} was not written by this program; choose another folder.")
    return found


def _file_facts(path: Path) -> list[Any]:
    try:
        status = path.stat()
    except OSError:  # deleted since the folder was listed
        return [str(path), None, None]
    return [str(path), status.st_size, status.st_mtime_ns]


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
        "regions": len(regions) if "score" in record else "",
        "hottest": " ".join(str(side) for side in first.get("box", ())),
        "defect": first.get("defect") or "",
    }
