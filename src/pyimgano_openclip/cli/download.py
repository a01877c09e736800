"""The command ``download``."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from ..encoder.fingerprint import fingerprint
from ..encoder.names import LOCAL_DIR, brings_weights
from ..encoder.weights import Source, find_source, get_tokenizer, load_model
from ..files.atomic import folder_beside
from ..files.digest import digest_of_file
from .answer import Answer
from .places import check_new

CONFIG, WEIGHTS, CHECKSUMS = "open_clip_config.json", "open_clip_model.safetensors", "SHA256SUMS"


def run(options: argparse.Namespace) -> Answer:
    """Save a model with its weights to a folder that loads without network access."""
    folder: Path = options.to
    check_new(folder, "--to", overwrite=options.overwrite)
    source = _source(options.model, options.pretrained)
    real = Path(os.path.realpath(folder))
    with folder_beside(real, ".download-") as partial:
        try:
            digest = _write(source, partial)
        except SafetensorError as error:  # what it raises on a full disk
            raise RuntimeError(f"{folder} cannot be written: {error}") from error
        names = sorted(path.name for path in partial.iterdir())
        if real.exists():
            _replace(partial, real)
        else:
            partial.chmod(0o777 & ~_umask())
            partial.rename(real)
    size = sum((folder / name).stat().st_size for name in names)
    facts = {
        "folder": str(folder),
        "openclip_model_name": f"{LOCAL_DIR}{folder.absolute()}",
        "files": names,
        "bytes": size,
        "fingerprint": digest,
    }
    lines = [
        f"{folder}: {size / 1e6:.0f} MB, verified",
        f"To check a copy: cd {folder.name} && sha256sum -c {CHECKSUMS}",
        f"To use it: --model {LOCAL_DIR}{folder}",
    ]
    return Answer(lines, facts)


def _replace(new: Path, folder: Path) -> None:
    """Put new files in place of those of an earlier download; files that it changed are kept."""
    checksums = folder / CHECKSUMS
    if checksums.is_file():
        for line in checksums.read_text("utf-8", "replace").splitlines():
            digest, _, name = line.partition("  ")
            path = folder / name
            stale = path.parent == folder and not (new / name).exists()
            if stale and digest_of_file(path, "sha256") == digest:
                path.unlink()
    for path in sorted(new.iterdir(), key=lambda path: path.name == CHECKSUMS):
        path.replace(folder / path.name)


def _source(model: str, pretrained: str) -> Source:
    if brings_weights(model):
        raise ValueError(f"{model} is not an open_clip model name; 'towers' lists them.")
    source = find_source(model, pretrained)
    text = (source.config or {}).get("text_cfg", {})
    if "hf_model_name" in text:
        raise ValueError(
            f"The text tower of {model} needs a config from the Hugging Face hub, which cannot be "
            "saved to a folder. Load the model once and copy the hub's cache folder instead."
        )
    return source


def _write(source: Source, folder: Path) -> str:
    """Write the files, verify them by loading them back, and return the fingerprint."""
    with _quiet_hub():
        model: Any = load_model(source)
    preprocessing = open_clip.get_model_preprocess_cfg(model.visual)
    tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = dict(source.config or {})
    if source.quick_gelu:
        config["quick_gelu"] = True
    full = {"model_cfg": config, "preprocess_cfg": _kept(preprocessing)}
    (folder / CONFIG).write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")
    if "hf_tokenizer_name" in config.get("text_cfg", {}):
        get_tokenizer(source).save_pretrained(folder)
    sums = {path.name: digest_of_file(path, "sha256") for path in sorted(folder.iterdir())}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / CHECKSUMS).write_text(lines, encoding="utf-8")
    written = fingerprint(model.visual, preprocessing)
    back = find_source(f"{LOCAL_DIR}{folder}", None)
    again: Any = load_model(back)
    read = fingerprint(again.visual, open_clip.get_model_preprocess_cfg(again.visual))
    if written != read or not _same(model, again):
        raise ValueError(f"The model that was loaded back differs from {source.name}.")
    get_tokenizer(back)
    return read


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Turn retries and errors of the libraries below into one error."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    except FileNotFoundError as error:
        reason = str(error.__cause__).splitlines()[0].rstrip(".")
        raise ConnectionError(
            f"The weights could not be downloaded: {reason}. This command needs network access; "
            "run it on a machine that has it, and copy the folder."
        ) from error
    finally:
        logging.disable(before)


def _same(model: nn.Module, again: nn.Module) -> bool:
    ours, theirs = model.state_dict(), again.state_dict()
    return ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)


def _kept(preprocessing: dict[str, Any]) -> dict[str, Any]:
    names = ("mean", "std", "interpolation", "resize_mode")
    return {name: preprocessing[name] for name in names if name in preprocessing}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
