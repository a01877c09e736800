"""What ``score --ray`` does on the machines of a cluster."""

from __future__ import annotations

import argparse
import io
import json
import math
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..detector.base import AT_FIRST, OpenCLIPDetector
from ..distributed import connected, most_workers, on_workers, packed, unpacked
from ..files.remote import is_remote, remote_bytes
from ..images.opening import set_most_pixels
from ..maps.gaps import UnreadableImageWarning
from .detectors import located
from .drawing import Drawing, Job, pictures
from .images import ImageFile
from .messages import encodable
from .results import Record
from .scoring import Scored, score_here

BATCH = 64  # images sent to a worker at a time; what is scored again if it dies
SHARES = 4  # batches of a worker at least, so that all are busy to the end
READERS = 8  # threads of a worker that fetch images
AT_A_TIME = 4096  # images whose patch scores are sent out together
KINDS = ("thumbnail", "map", "overlay")


@dataclass(frozen=True)
class Cluster:
    """Workers of a cluster that this process is connected to.

    Attributes:
        workers: Their number.
        gpus: GPUs of each.
        settings: Arguments of :func:`~..loading.load_saved`.
        max_pixels: Largest image that is decoded; None for Pillow's limit.
    """

    workers: int
    gpus: int
    settings: Mapping[str, Any]
    max_pixels: int | None

    def score(self, detector: OpenCLIPDetector, images: Sequence[ImageFile]) -> Iterator[Scored]:
        """Score images; see :data:`~.scoring.Scoring`.

        Raises:
            ValueError: If an image cannot be read and the detector's ``on_error`` is ``"raise"``.
            RuntimeError: If no worker can go on.
        """
        if not images:
            return
        choose_canvas(detector, images)
        arguments = {"saved": packed(detector), "settings": dict(self.settings)}
        rows = [{"address": image.place} for image in images]
        told: set[str] = set()
        for row in self._each(rows, ScoringWorker, arguments):
            for message in set(json.loads(row["warnings"])) - told:
                told.add(message)
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            record: Record = json.loads(row["record"])
            if "error" in record and detector.on_error == "raise":
                raise ValueError(record["error"])
            yield Scored(row["digest"], record, _array(row["patches"]))

    def paint(self, drawing: Drawing, jobs: Sequence[Job]) -> Iterator[None]:
        """Draw pictures, which are written here; see :data:`~.drawing.Painting`."""
        left = iter(jobs)
        while some := list(islice(left, AT_A_TIME)):
            rows = [
                {
                    "record": json.dumps(job.record),
                    "patches": _bytes(job.patches()),
                    "wanted": list(job.missing),
                    "inside": _bytes(job.inside()),
                }
                for job in some
            ]
            done = self._each(rows, PaintingWorker, {"drawing": asdict(drawing)})
            for job, found in zip(some, done, strict=True):
                job.write(found)
                yield

    def _each(
        self, rows: list[dict[str, Any]], worker: type, arguments: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """A row for each row, in order."""
        import ray.data

        size = max(1, min(BATCH, math.ceil(len(rows) / (self.workers * SHARES))))
        dataset = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / size))
        done = on_workers(
            dataset,
            worker,
            {**arguments, "max_pixels": self.max_pixels},
            workers=min(self.workers, math.ceil(len(rows) / size)),
            gpus=self.gpus,
            batch_size=None,
        )
        try:
            yield from done.iter_rows()
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RuntimeError(f"No worker of the cluster can go on: {reason}") from error


@contextmanager
def joined(options: argparse.Namespace) -> Iterator[Cluster]:
    """Be connected to the cluster that the options name."""
    with connected(options.ray or None, workers=options.workers):
        import ray

        wanted = options.device or "auto"
        gpus = int(wanted in ("auto", "cuda") and ray.cluster_resources().get("GPU", 0) > 0)
        device = wanted if wanted != "auto" else ("cpu", "cuda")[gpus]
        yield Cluster(
            workers=options.workers or most_workers(gpus),
            gpus=gpus,
            settings={**located(options), "device": device},
            max_pixels=options.max_pixels,
        )


def choose_canvas(detector: OpenCLIPDetector, images: Sequence[ImageFile]) -> None:
    """Choose by the first readable images what all workers resize theirs to."""
    for start in range(0, len(images), AT_FIRST):
        if detector.canvas_ is not None:
            return
        with TemporaryDirectory() as folder:
            some = _fetched([image.place for image in images[start : start + AT_FIRST]], folder)
            detector.choose_canvas([path for path, _ in some])
    if detector.canvas_ is None:
        raise ValueError("None of these images can be read; without --ray each is told why.")


class ScoringWorker:
    """One detector in one worker.

    Args:
        saved: The content of a checkpoint, or where Ray keeps it.
        settings: Arguments of :func:`~..loading.load_saved`.
        max_pixels: Largest image that is decoded; None for Pillow's limit.
    """

    def __init__(
        self, saved: Any, settings: Mapping[str, Any], max_pixels: int | None = None
    ) -> None:
        set_most_pixels(max_pixels)
        self._detector = unpacked(saved, settings)
        self._detector.on_error = "nan"

    def __call__(self, rows: Any) -> Any:
        """What became of each image of a pyarrow table with their addresses, in order."""
        import pyarrow as pa

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", UnreadableImageWarning)  # these are in the records
            found = self._score(rows.column("address").to_pylist())
        told = json.dumps(sorted({str(warning.message) for warning in caught}))
        return pa.table(
            {
                "digest": pa.array([outcome.digest for outcome in found], pa.string()),
                "record": pa.array([json.dumps(outcome.record) for outcome in found], pa.string()),
                "patches": pa.array([_bytes(outcome.patches) for outcome in found], pa.binary()),
                "warnings": pa.array([told] * len(found), pa.string()),
            }
        )

    def _score(self, addresses: Sequence[str]) -> list[Scored]:
        with TemporaryDirectory() as folder:
            fetched = _fetched(addresses, folder)
            images = [ImageFile(path.name, path) for path, _ in fetched]
            return [
                _of_address(outcome, address, path, problem)
                for outcome, address, (path, problem) in zip(
                    score_here(self._detector, images), addresses, fetched, strict=True
                )
            ]


class PaintingWorker:
    """Draws pictures of images.

    Args:
        drawing: Arguments of :class:`~.drawing.Drawing`.
        max_pixels: Largest image that is decoded; None for Pillow's limit.
    """

    def __init__(self, drawing: Mapping[str, Any], max_pixels: int | None = None) -> None:
        set_most_pixels(max_pixels)
        self._drawing = Drawing(**drawing)

    def __call__(self, rows: Any) -> Any:
        """The pictures that the rows of a pyarrow table want, a column of files for each kind."""
        import pyarrow as pa

        found = [self._draw(row) for row in rows.to_pylist()]
        return pa.table(
            {kind: pa.array([files.get(kind) for files in found], pa.binary()) for kind in KINDS}
        )

    def _draw(self, row: Mapping[str, Any]) -> dict[str, bytes]:
        record, patches = json.loads(row["record"]), _array(row["patches"])
        return pictures(self._drawing, record, patches, row["wanted"], _array(row["inside"]))


def _fetched(addresses: Sequence[str], folder: str) -> list[tuple[Path, str | None]]:
    """Paths of images, of remote ones those of copies in a folder; and why one is missing."""

    def fetch(numbered: tuple[int, str]) -> tuple[Path, str | None]:
        number, address = numbered
        if not is_remote(address):
            return Path(address), None
        copy = Path(folder, str(number), PurePosixPath(address.partition("?")[0]).name)
        copy.parent.mkdir()
        try:
            copy.write_bytes(remote_bytes(address))
        except OSError as error:
            return copy, f"{address} cannot be read: {error}"
        return copy, None

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(fetch, enumerate(addresses)))


def _of_address(outcome: Scored, address: str, path: Path, problem: str | None) -> Scored:
    """The outcome with an error that names the address, not a copy that is gone."""
    if "error" not in outcome.record:
        return outcome
    error = problem or outcome.record["error"].replace(str(path), address)
    return outcome._replace(record={"error": encodable(error)})


def _bytes(patches: Any) -> bytes | None:
    if patches is None:
        return None
    buffer = io.BytesIO()
    np.save(buffer, patches, allow_pickle=False)
    return zlib.compress(buffer.getvalue(), 1)  # masks have a byte for each pixel


def _array(data: bytes | None) -> Any:
    if data is None:
        return None
    return np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False)
