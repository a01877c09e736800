"""The command ``towers``."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import Any

import open_clip

from ..towers.catalogue import MODIFIED_RESNET, TIMM, family_of
from .answer import Answer

URL_CACHE = "~/.cache/clip"  # open_clip's own, for weights from plain addresses
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
STRIDE_32 = (MODIFIED_RESNET.name, TIMM["convnext"].name, TIMM["swin"].name)  # pixels a cell
STRIDE_16 = (TIMM["vitamin"].name,)


def run(options: argparse.Namespace) -> Answer:
    """List the models of open_clip and what can be done with them."""
    wanted = (options.name or "").lower()
    rows = [
        describe(name)
        for name in open_clip.list_models()
        if wanted in name.lower() and (not options.cached or cached_tags(name))
    ]
    if not rows:
        where = " with cached weights" if options.cached else ""
        raise ValueError(f"open_clip has no model with {options.name or ''!r} in its name{where}.")
    return Answer(_table(rows, with_tags=bool(wanted) or options.cached), {"towers": rows})


def describe(name: str) -> dict[str, Any]:
    """What is known of a model from its config alone."""
    config = open_clip.get_model_config(name)
    row: dict[str, Any] = {"name": name, "family": None, "prompts": False, "patch_knn": False}
    size = _pair(config["vision_cfg"].get("image_size", 224))
    tags, cached = open_clip.list_pretrained_tags_by_model(name), cached_tags(name)
    common = {"input": size, "grid": None, "pretrained": tags, "cached": cached}
    try:
        family = family_of(config)
    except ValueError as error:
        return {**row, **common, "why_not": str(error)}
    why_not = None
    if not family.aligned:
        why_not = f"patches of a {family.name} tower cannot be compared with texts"
    grid = _grid(config["vision_cfg"], family.name, size)
    found = {"family": family.name, "prompts": family.aligned, "patch_knn": family.features}
    return {**row, **common, **found, "grid": grid, "why_not": why_not}


def cached_tags(name: str) -> list[str]:
    """The weights of a model that are on this machine."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    return [tag for tag in tags if is_cached(open_clip.get_pretrained_cfg(name, tag))]


def is_cached(weights: dict[str, Any]) -> bool:
    """Whether open_clip would find these weights without a network.

    Args:
        weights: An entry of open_clip's catalogue of weights.
    """
    hub, address = weights.get("hf_hub"), weights.get("url")
    if hub:
        from huggingface_hub import try_to_load_from_cache

        repository, file = os.path.split(hub)
        safe = re.sub(r"\.(bin|pth)$", ".safetensors", file)
        files = (safe, file) if file else HUB_FILES
        return any(isinstance(try_to_load_from_cache(repository, f), str) for f in files)
    if not address:
        return False
    return (Path(URL_CACHE).expanduser() / Path(address).name).is_file()


def _grid(vision: dict[str, Any], family: str, size: tuple[int, int]) -> tuple[int, int] | None:
    trunk = vision.get("timm_model_name") or ""
    patch = re.search(r"patch(\d+)", trunk)
    if patch:
        side = int(patch[1])
    elif family in STRIDE_32:
        side = 32
    elif family in STRIDE_16:
        side = 16
    else:
        side = 0 if trunk else vision.get("patch_size") or 0
    return (size[0] // side, size[1] // side) if side else None


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _table(rows: list[dict[str, Any]], *, with_tags: bool) -> str:
    lines: list[tuple[str, ...]]
    lines = [("model", "family", "prompts", "patch-kNN", "input", "grid", "weights", "cached")]
    lines += [_cells(row) for row in rows]
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
        usable = sum(row["patch_knn"] for row in rows)
        aligned = sum(row["prompts"] for row in rows)
        text.append(f"{len(rows)} models: patch-kNN reads {usable} of them, prompts {aligned}.")
        text.append("'towers NAME' lists the weights of the models with NAME in their name.")
    return "\n".join(text)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["name"],
        row["family"] or "unknown",
        _yes(row["prompts"]),
        _yes(row["patch_knn"]),
        _by(row["input"]),
        _by(row["grid"]),
        str(len(row["pretrained"])),
        str(len(row["cached"])),
    )


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


def _by(size: tuple[int, int] | None) -> str:
    return "" if size is None else f"{size[0]}x{size[1]}"
