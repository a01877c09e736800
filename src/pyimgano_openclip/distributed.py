"""Scores images on a Ray cluster; needs ``pip install 'pyimgano-openclip[ray]'``.

    import ray.data
    from pyimgano_openclip.distributed import connected, score_dataset

    with connected("auto"):
        images = ray.data.read_parquet("s3://parts/2026/", columns=["part", "image"])
        score_dataset(images, "screw.safetensors", column="image", workers=8).write_parquet("out/")

Every worker is a process with one detector of its own. A worker that dies is replaced, and what it
was scoring is scored again, so results are complete and those of one process. The package has to be
installed on all machines of the cluster, and the weights have to be found there.

``pyimgano-openclip score --ray`` does the same for folders, Parquet files and cloud storage, with
the results folder and the report of one machine.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .detector.base import OpenCLIPDetector
from .files.exported import is_exported, not_saved
from .images.items import Item
from .images.reading import picture_of
from .images.unreadable import UnreadableError, attempt
from .loading import load_saved
from .maps.gaps import UnreadableImageWarning
from .mutual import VisionOpenCLIPMutual

STORE = 2**30  # bytes of memory for images on their way, where Ray is started here
BATCH = 64  # images sent to a worker at a time
REMEDY = "Ray is missing: pip install 'pyimgano-openclip[ray]'."


class Scorer:
    """One detector in one worker, for ``map_batches`` of any Ray dataset.

    Args:
        saved: The content of a checkpoint, as :func:`packed` gives, or where Ray keeps it; the file
            need not lie where the worker is.
        column: Name of the column of images: files as bytes, paths, or pixels (H, W, 3), which are
            in the detector's ``channel_order``.
        settings: Arguments of :func:`~pyimgano_openclip.load_detector`, such as ``device``.
    """

    def __init__(
        self, saved: Any, column: str = "image", settings: Mapping[str, Any] | None = None
    ) -> None:
        self._column = column
        self._detector = unpacked(saved, {**(settings or {}), "on_error": "nan"})

    def __call__(self, rows: Any) -> Any:
        """Score the images of an Arrow table.

        Args:
            rows: A pyarrow table with the column of images.

        Returns:
            The table without image files, which are large; paths stay. Columns are added: ``score``
            (higher is more anomalous), ``label`` (1 is anomalous), ``percentile`` (share of
            training scores below; null without training), ``unlike`` (why an image is unlike the
            training images as a whole, else null), ``error``. An image that cannot be read, or that
            has no mask in a folder of them, has no score, an error, and the label 1: what was not
            inspected does not pass.
        """
        import pyarrow as pa

        items = [attempt(_item, cell) for cell in rows.column(self._column).to_pylist()]
        scored = self._score([item for item in items if not isinstance(item, UnreadableError)])
        results = [
            _unread(str(item)) if isinstance(item, UnreadableError) else next(scored)
            for item in items
        ]
        if rows.schema.field(self._column).type != pa.string():
            rows = rows.drop_columns([self._column])
        for name, kind in _results().items():
            values = [result.get(name) for result in results]
            rows = rows.append_column(name, pa.array(values, kind))
        return rows

    def _score(self, items: Sequence[Item]) -> Iterator[dict[str, Any]]:
        if not items:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnreadableImageWarning)  # these are in the rows
            found = list(self._detector.score_iter(items))
        threshold = self._detector.label_threshold()
        for scored in found:
            if scored.error is not None:
                yield _unread(scored.error)
                continue
            label = int(not scored.image <= threshold)
            yield {"score": scored.image, "label": label, "unlike": scored.unlike} | self._share(
                scored.image
            )

    def _share(self, score: float) -> dict[str, float]:
        if not hasattr(self._detector, "decision_scores_"):
            return {}
        return {"percentile": float(self._detector.score_percentile([score])[0])}


def score_dataset(
    images: Any,
    detector: OpenCLIPDetector | str | os.PathLike[str],
    *,
    column: str = "image",
    workers: int | None = None,
    gpus: float = 0,
    batch_size: int = BATCH,
    **settings: Any,
) -> Any:
    """Score the images of a Ray dataset.

    Args:
        images: A ``ray.data.Dataset`` with a column of image files as bytes, of paths that every
            worker can open, or of pixels, as ``ray.data.read_images()`` gives.
        detector: A detector that is ready to score, or the path of a saved one. With masks by name
            (``roi``), images have to be paths.
        column: Name of the column.
        workers: Detectors at work; None for one a GPU, or else for all processors but one, which
            reads the dataset.
        gpus: GPUs of a worker.
        batch_size: Images sent to a worker at a time.
        settings: Arguments of :func:`~pyimgano_openclip.load_detector`, such as ``precision``.

    Returns:
        A dataset with the rows of ``images`` in their order, without image files, and the columns
        ``score``, ``label``, ``percentile``, ``unlike`` and ``error``; see :class:`Scorer`.

    Raises:
        ValueError: If the detector has not chosen its canvas yet, by ``fit()`` or
            ``choose_canvas()``, since workers would choose different ones; or if it compares the
            images of one machine with each other.
    """
    saved = packed(detector)
    return on_workers(
        images,
        Scorer,
        {"saved": saved, "column": column, "settings": _placed(settings, gpus)},
        workers=workers or most_workers(gpus, spare=1),
        gpus=gpus,
        batch_size=batch_size,
    )


def on_workers(
    rows: Any,
    worker: type,
    arguments: Mapping[str, Any],
    *,
    workers: int,
    gpus: float,
    batch_size: int | None,
) -> Any:
    """Put a dataset through workers, in order; those that die are replaced."""
    import ray.data

    # Ray forgets large arguments once workers have started, and those that replace them cannot.
    kept = {
        name: ray.put(value) if isinstance(value, bytes) else value
        for name, value in arguments.items()
    }
    return rows.map_batches(
        worker,
        fn_constructor_kwargs=kept,
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=gpus,
    )


@contextmanager
def connected(address: str | None = None, *, workers: int | None = None) -> Iterator[None]:
    """Join a cluster meanwhile, or start one on this machine; rows of datasets keep their order.

    Args:
        address: Of a Ray cluster: ``auto``, ``HOST:6379``, ``ray://HOST:10001``. None for that in
            the environment variable ``RAY_ADDRESS``, or else for this machine alone.
        workers: Processors of Ray on this machine alone; None for all of them.

    Raises:
        ImportError: If Ray is missing.
        ConnectionError: If there is no cluster at that address.
    """
    try:
        import ray.data
    except ImportError as error:
        raise ImportError(REMEDY) from error
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    here = {"num_cpus": workers, "object_store_memory": STORE, "include_dashboard": False}
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level=logging.WARNING,
        **(here if address == "local" else {}),
    )
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    try:
        yield
    finally:
        ray.shutdown()


def most_workers(gpus: float, *, spare: int = 0) -> int:
    """How many workers a cluster has room for, at least one.

    Args:
        gpus: GPUs of a worker; 0 for one processor.
        spare: Processors to leave to others.
    """
    import ray

    found = ray.cluster_resources()
    room = found.get("GPU", 0) / gpus if gpus else found.get("CPU", 1) - spare
    return max(1, int(room))


def packed(detector: OpenCLIPDetector | str | os.PathLike[str]) -> bytes:
    """The checkpoint of a detector, to be sent to workers; see :func:`score_dataset`."""
    if isinstance(detector, (str, os.PathLike)):
        path = Path(detector)
        if is_exported(path):
            raise ValueError(not_saved(path))
        return path.read_bytes()
    if isinstance(detector, VisionOpenCLIPMutual):
        raise ValueError(
            f"{type(detector).__name__} compares all images with each other, on one machine; "
            "score with patch-kNN or prompts."
        )
    if detector.canvas_ is None:
        raise ValueError(
            "The detector has not chosen how to resize images, and workers would choose "
            "differently; call choose_canvas(some_images), or fit it."
        )
    with TemporaryDirectory() as folder:
        return detector.save_checkpoint(Path(folder, "detector.safetensors")).read_bytes()


def unpacked(saved: Any, settings: Mapping[str, Any]) -> OpenCLIPDetector:
    """The detector of a checkpoint's content, or of where Ray keeps that."""
    if not isinstance(saved, bytes):
        import ray

        saved = ray.get(saved)
    with TemporaryDirectory() as folder:
        path = Path(folder, "detector.safetensors")
        path.write_bytes(saved)
        return load_saved(path, **settings)


def _placed(settings: Mapping[str, Any], gpus: float) -> dict[str, Any]:
    return {"device": "cuda" if gpus else "cpu", **settings}


def _item(cell: Any) -> Item:
    """What detectors take for a path, an image file's content or pixels.

    Raises:
        UnreadableError: If it is none of these.
    """
    if isinstance(cell, bytes):
        return picture_of(cell)
    if not isinstance(cell, list):
        return cell
    try:
        return np.asarray(cell, np.uint8)
    except (ValueError, TypeError, OverflowError) as error:
        raise UnreadableError(f"list of {len(cell)} is not an image: {error}") from error


def _unread(error: str) -> dict[str, Any]:
    return {"label": 1, "error": error}


def _results() -> dict[str, Any]:
    import pyarrow as pa

    return {
        "score": pa.float64(),
        "label": pa.int8(),
        "percentile": pa.float64(),
        "unlike": pa.string(),
        "error": pa.string(),
    }
