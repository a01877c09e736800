"""Score many images on a Ray cluster: a folder, or a column of a Parquet table.

    python examples/ray_batch.py images/ --detector screw.safetensors --out scores.jsonl
    python examples/ray_batch.py images.parquet --column image --class-name screw \
        --tower ViT-B-16-plus-240 --pretrained laion400m_e31 --out scores.parquet \
        --address auto --workers 8 --gpus 1

Needs pip install 'pyimgano-openclip[ray]'. Without --address it starts Ray on this machine. Every
worker holds one detector. A worker that dies is replaced and what it was scoring is scored again,
so the result is complete, and the same as that of one process. A column of bytes holds image files,
a column of strings their paths, which every worker must be able to open. --out is one file on this
machine, NAME.jsonl or NAME.parquet; rows keep their order and their other columns.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import math
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import ray.data
from PIL import Image
from pyarrow import parquet
from pyimgano.models import create_model

from pyimgano_openclip import load_detector
from pyimgano_openclip.frame import read_pixels

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"}
# Of an image that cannot be read, only the error is known.
RESULTS = {
    "score": pa.float64(),
    "label": pa.int8(),
    "percentile": pa.float64(),
    "error": pa.string(),
}
SAMPLE = 64  # images that decide the proportions in which a zero-shot detector reads all
STORE = 2**30  # bytes of memory for images on their way, where Ray is started here
READERS = 2  # threads of a worker
ROWS = 4096  # written at a time


class Scorer:
    """One detector in one worker.

    Args:
        saved: The content of a checkpoint; the file need not lie where the worker is.
        column: Name of the column of images.
        device: Where the worker computes.
    """

    def __init__(self, saved: bytes, column: str, device: str) -> None:
        self.column = column
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "detector.safetensors")
            path.write_bytes(saved)
            self.detector = load_detector(path, device=device)

    def __call__(self, rows: pa.Table) -> pa.Table:
        """The rows with their results; image files are left out, paths stay."""
        with ThreadPoolExecutor(READERS) as pool:
            read = list(pool.map(_read, rows.column(self.column).to_pylist()))
        images = [found for found in read if isinstance(found, np.ndarray)]
        scored = self._score(images) if images else iter(())
        results = [{"error": found} if isinstance(found, str) else next(scored) for found in read]
        if rows.schema.field(self.column).type in (pa.binary(), pa.large_binary()):
            rows = rows.drop_columns([self.column])
        for name, kind in RESULTS.items():
            values = [result.get(name) for result in results]
            rows = rows.append_column(name, pa.array(values, kind))
        return rows

    def _score(self, images: list[np.ndarray]) -> Iterator[dict]:
        scores = self.detector.decision_function(images)
        labels = self.detector.predict(images)  # of images just scored: costs nothing
        shares = [None] * len(images)
        if hasattr(self.detector, "decision_scores_"):
            shares = self.detector.score_percentile(scores)
        for score, label, share in zip(scores, labels, shares, strict=True):
            yield {"score": score, "label": label, "percentile": share}


def _read(cell: str | bytes) -> np.ndarray | str:
    """The pixels of a path or of an image file's content, or what is wrong with it."""
    try:
        return read_pixels(Image.open(io.BytesIO(cell)) if isinstance(cell, bytes) else cell)
    except (ValueError, OSError) as error:
        return str(error)


def saved_detector(options: argparse.Namespace, images: ray.data.Dataset) -> bytes:
    """The checkpoint that is sent to the workers."""
    if options.detector:
        return options.detector.read_bytes()
    detector = create_model(
        "vision_openclip_promptscore",
        class_name=options.class_name,
        openclip_model_name=options.tower,
        openclip_pretrained=options.pretrained,
    )
    # All workers have to read images in the same proportions; the first call chooses them.
    first = [_read(row[options.column]) for row in images.take(SAMPLE)]
    readable = [found for found in first if isinstance(found, np.ndarray)]
    detector.decision_function(readable)
    with tempfile.TemporaryDirectory() as folder:
        return detector.save_checkpoint(Path(folder, "detector.safetensors")).read_bytes()


def dataset(options: argparse.Namespace) -> ray.data.Dataset:
    """A row for every image."""
    if options.images.suffix == ".parquet" or any(options.images.glob("*.parquet")):
        table = ray.data.read_parquet(str(options.images))
        if not table.count():
            raise SystemExit(f"{options.images} holds no rows.")
        return table
    paths = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise SystemExit(f"{options.images} holds neither images nor Parquet files.")
    return ray.data.from_items([{options.column: str(path.resolve())} for path in paths])


def write(rows: ray.data.Dataset, out: Path) -> None:
    """One file, complete or not at all; Ray's own write_parquet() does not keep the order."""
    partial = out.with_name(out.name + ".part")
    tables = rows.iter_batches(batch_size=ROWS, batch_format="pyarrow")
    write_table = _write_parquet if out.suffix == ".parquet" else _write_lines
    write_table(tables, partial)
    partial.replace(out)


def _write_lines(tables: Iterable[pa.Table], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.writelines(json.dumps(row, default=str) + "\n" for row in table.to_pylist())


def _write_parquet(tables: Iterable[pa.Table], path: Path) -> None:
    with ExitStack() as stack:
        file = None
        for table in tables:
            if file is None:
                file = stack.enter_context(parquet.ParquetWriter(path, table.schema))
            file.write_table(table)


def start(address: str | None, processors: int) -> None:
    """Join a cluster, or start one on this machine."""
    here = {"num_cpus": processors, "object_store_memory": STORE, "include_dashboard": False}
    ray.init(
        address=address,
        log_to_driver=False,
        logging_level=logging.WARNING,
        **({} if address else here),
    )
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = sys.stderr.isatty()
    found = ray.cluster_resources().get("CPU", 0)
    if found < processors:
        print(f"The cluster has {found:g} processors and has to grow to {processors}.")


def main(arguments: list[str] | None = None) -> None:
    """Score all images and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="a folder of images, or Parquet")
    parser.add_argument("--column", default="path", help="of images, in Parquet (default: path)")
    parser.add_argument("--detector", type=Path, help="saved by save_checkpoint")
    parser.add_argument("--class-name", help="what the images show, for zero-shot scores")
    parser.add_argument("--tower", default="bundled", help="a model of open_clip, or 'bundled'")
    parser.add_argument("--pretrained", help="its weights: a tag of open_clip or a file")
    parser.add_argument("--out", type=Path, required=True, help="NAME.jsonl or NAME.parquet")
    parser.add_argument("--address", help="of a Ray cluster: auto, ray://HOST:10001")
    parser.add_argument("--workers", type=int, default=2, help="detectors at work")
    parser.add_argument("--cpus", type=float, default=1, help="processors of a worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker")
    parser.add_argument("--batch-size", type=int, default=64, help="images sent at a time")
    options = parser.parse_args(arguments)
    if (options.detector is None) == (options.class_name is None):
        parser.error("choose one: --detector FILE, or --class-name WORD")
    if options.out.suffix not in (".jsonl", ".parquet") or options.out.is_dir():
        parser.error(f"--out {options.out}; it must be a file, NAME.jsonl or NAME.parquet")

    ray.cloudpickle.register_pickle_by_value(sys.modules[Scorer.__module__])  # send the class too
    # Without a processor to read and write with, all would wait for each other.
    start(options.address, math.ceil(options.workers * options.cpus) + 1)
    try:
        images = dataset(options)
        scored = images.map_batches(
            Scorer,
            fn_constructor_kwargs={
                "saved": saved_detector(options, images),
                "column": options.column,
                "device": "cuda" if options.gpus else "cpu",
            },
            batch_format="pyarrow",
            batch_size=options.batch_size,
            compute=ray.data.ActorPoolStrategy(size=options.workers),
            num_cpus=options.cpus,
            num_gpus=options.gpus,
        )
        write(scored, options.out)
    except ray.exceptions.RayError as error:
        raise SystemExit(f"No worker can go on: {str(error).strip().splitlines()[-1]}") from None
    finally:
        ray.shutdown()
    print(f"scores: {options.out}")


if __name__ == "__main__":
    main()
