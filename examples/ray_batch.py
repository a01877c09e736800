"""Score a Ray dataset: here a Parquet table of image files, on the way to another table.

    python examples/ray_batch.py parts.parquet --detector screw.safetensors --out scores/
    python examples/ray_batch.py s3://parts/2026/ --column image --detector screw.safetensors \
        --out s3://parts/scores/ --address auto --workers 8 --gpus 1

Needs pip install 'pyimgano-openclip[ray]'. Without --address it starts Ray on this machine. Rows
keep their order and their other columns. For a folder of images, and for a report, there is
``pyimgano-openclip score images/ --detector screw.safetensors --out results/ --ray``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ray.data

from pyimgano_openclip.distributed import connected, score_dataset


def main(arguments: list[str] | None = None) -> None:
    """Read, score and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", help="Parquet: a file, a folder, or a URI of either")
    parser.add_argument("--column", default="image", help="of image files or their paths")
    parser.add_argument("--detector", type=Path, required=True, help="saved by save_checkpoint")
    parser.add_argument("--out", required=True, help="folder for Parquet files, or its URI")
    parser.add_argument("--address", help="of a Ray cluster: auto, ray://HOST:10001")
    parser.add_argument("--workers", type=int, default=2, help="detectors at work")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker")
    options = parser.parse_args(arguments)
    # One processor more, to read and write with.
    with connected(options.address, workers=options.workers + 1):
        scored = score_dataset(
            ray.data.read_parquet(options.table),
            options.detector,
            column=options.column,
            workers=options.workers,
            gpus=options.gpus,
        )
        scored.write_parquet(options.out)
    print(f"scores: {options.out}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:  # the message names the file or the argument
        raise SystemExit(str(error)) from None
