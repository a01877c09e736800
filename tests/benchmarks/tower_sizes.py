"""Measure every image tower of open_clip and write the table that ``towers`` shows.

    python tests/benchmarks/tower_sizes.py src/pyimgano_openclip/towers/sizes.json

Nothing is downloaded and no weights are made.
"""

import json
import sys
from dataclasses import astuple
from pathlib import Path

import open_clip
from tqdm import tqdm

from pyimgano_openclip.encoder.towers.sizes import measure


def main(table: str) -> None:
    lines = []
    for name in tqdm(open_clip.list_models()):
        size = measure(open_clip.get_model_config(name))
        lines.append(f"  {json.dumps(name)}: {json.dumps(list(astuple(size)))}")
    Path(table).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
