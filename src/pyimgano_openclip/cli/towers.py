"""The command ``towers``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip

from ..encoder.hub import cached_weights
from ..encoder.towers.catalogue import family_of
from ..encoder.towers.sizes import TowerSize, known_sizes, measure
from .answer import Answer

URL_CACHE = "~/.cache/clip"  # open_clip's own cache of weights from plain URLs
BUNDLED = "bundled"
BUNDLED_MODEL = (
    "bundled: a tiny model inside this package, for demonstrations and tests, not one of open_clip."
    " Use it with --model bundled; it needs no --pretrained and no download."
)
HEADER = (
    "model",
    "family",
    "prompts",
    "any shape",
    "input",
    "grid",
    "parameters",
    "weights",
    "cached",
)


def run(options: argparse.Namespace) -> Answer:
    """List the models of open_clip and what they support."""
    wanted = (options.name or "").lower()
    names = [name for name in open_clip.list_models() if wanted in name.lower()]
    if not names and wanted and wanted in BUNDLED:
        return Answer([BUNDLED_MODEL], {"towers": []})
    if not names:
        raise ValueError(
            f"open_clip has no model with {options.name!r} in its name; 'towers' lists them all."
        )
    sizes = known_sizes()
    rows = [describe(name, sizes) for name in names]
    if options.cached:
        rows = [row for row in rows if row["cached"]]
        if not rows:
            return Answer(["No weights of these models are cached."], {"towers": []})
    return Answer(_table(rows, with_tags=bool(wanted) or options.cached), {"towers": rows})


def describe(name: str, sizes: Mapping[str, TowerSize]) -> dict[str, Any]:
    """Describe a model without loading its weights.

    Args:
        name: Name of an open_clip model.
        sizes: Table from :func:`~..towers.sizes.known_sizes`; other models are measured.
    """
    config = open_clip.get_model_config(name)
    row: dict[str, Any] = {
        "name": name,
        "family": None,
        "prompts": False,
        "pretrained": open_clip.list_pretrained_tags_by_model(name),
        "cached": cached_tags(name),
    }
    try:
        family, size = family_of(config), sizes.get(name) or measure(config)
    except ValueError as error:
        return {**row, "why_not": str(error)}
    row |= {
        "family": family.name,
        "prompts": family.aligned,
        "any_shape": family.any_canvas,
        "input": size.input,
        "grid": size.feature_grid,
        "prompt_grid": size.aligned_grid if family.aligned else None,
        "parameters": size.parameters,
        "why_not": None,
    }
    if not family.aligned:
        row["why_not"] = f"patches of {family.name} towers cannot be compared with texts"
    return row


def cached_tags(name: str) -> list[str]:
    """Tags of the weights of a model that are cached on this machine."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    return [tag for tag in tags if is_cached(open_clip.get_pretrained_cfg(name, tag))]


def is_cached(weights: dict[str, Any]) -> bool:
    """Whether open_clip finds these weights without network access.

    Args:
        weights: Entry of open_clip's table of pretrained weights.
    """
    hub, address = weights.get("hf_hub"), weights.get("url")
    if hub:
        return bool(cached_weights(*os.path.split(hub)))
    if not address:
        return False
    return (Path(URL_CACHE).expanduser() / Path(address).name).is_file()


def _table(rows: list[dict[str, Any]], *, with_tags: bool) -> list[str]:
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = []
    for line, row in zip(lines, [{}, *rows], strict=True):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        text.append("  ".join(cells).rstrip())
        if row and with_tags:
            tags = (tag + " (cached)" * (tag in row["cached"]) for tag in row["pretrained"])
            text.append(f"    weights: {', '.join(tags) or 'none'}")
            if row["why_not"]:
                text.append(f"    {row['why_not']}")
    if not with_tags:
        usable = sum(row["family"] is not None for row in rows)
        aligned = sum(row["prompts"] for row in rows)
        text.append(f"{len(rows)} models: {usable} support patch-kNN, {aligned} support prompts.")
        text.append("'towers NAME' lists the weights of all models with NAME in their name.")
    return text


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["family"] is None:
        return (row["name"], "unknown", "no", "", "", "", "", *_weights(row))
    grid = _by(row["grid"])
    if row["prompts"] and row["prompt_grid"] != row["grid"]:
        grid += f", prompts {_by(row['prompt_grid'])}"
    return (
        row["name"],
        row["family"],
        "yes" if row["prompts"] else "no",
        "yes" if row["any_shape"] else "no",
        _by(row["input"]),
        grid,
        f"{row['parameters'] / 1e6:.0f} M",
        *_weights(row),
    )


def _weights(row: dict[str, Any]) -> tuple[str, str]:
    return str(len(row["pretrained"])), "yes" if row["cached"] else "no"


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
