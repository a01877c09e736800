"""From a model's name to an open_clip model with its weights, or to an error that helps.

Together with ``encoder.py`` and ``towers.py`` the only file that knows open_clip.
"""

from __future__ import annotations

import difflib
import json
import os
import pickle
import struct
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import open_clip
import torch
from safetensors import SafetensorError
from torch import nn

from .memory import memory_for
from .towers.catalogue import Family, family_of

BUNDLED = "bundled"
LOCAL_DIR = "local-dir:"
HUB = "hf-hub:"
# What open_clip and torch raise at a file that holds no weights, or more than weights.
NO_WEIGHTS = (
    pickle.UnpicklingError, SafetensorError, BadZipFile, struct.error, EOFError, LookupError,
    AttributeError, TypeError, StopIteration,
)  # fmt: skip

_seeding = threading.Lock()  # the generator of random weights is one for all threads


@dataclass(frozen=True)
class Source:
    """Where a model and its weights come from, checked as far as possible without loading.

    Attributes:
        name: What open_clip is asked for, also for the tokenizer.
        pretrained: A tag, a file, or None where the name itself leads to the weights.
        random: True if the tower keeps its random start weights.
        quick_gelu: What the weights were trained with, where open_clip knows it.
        seed: Seed of random weights.
    """

    name: str
    pretrained: str | None
    random: bool
    quick_gelu: bool = False
    seed: int = 0

    @property
    def config(self) -> dict[str, Any] | None:
        """The model's config, or None if it would have to be fetched."""
        if self.name.startswith(HUB):
            return None
        config: dict[str, Any] = open_clip.get_model_config(self.name)
        return config

    @property
    def family(self) -> Family | None:
        """The family of the image tower, or None if the config would have to be fetched."""
        return None if self.config is None else family_of(self.config)

    @property
    def identity(self) -> str:
        """A string that changes with the model, its weights, or the version of open_clip."""
        files = []
        if self.name.startswith(LOCAL_DIR):
            files = sorted(Path(self.name.removeprefix(LOCAL_DIR)).iterdir())
        elif self.pretrained is not None and Path(self.pretrained).is_file():
            files = [Path(self.pretrained)]
        stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
        start = [self.seed, torch.__version__] if self.random else []
        parts = [self.name, self.pretrained, self.quick_gelu, stamps, start, open_clip.__version__]
        return json.dumps(parts)


def find_source(
    name: str, pretrained: str | None, *, download: bool = True, seed: int = 0
) -> Source:
    """Check a model name and its weights. Loads nothing and asks no network.

    Args:
        name: A model of open_clip (``"ViT-B-32"``), ``"local-dir:DIR"`` with an
            ``open_clip_config.json`` and weights, ``"hf-hub:ORG/REPO"``, or ``"bundled"``.
        pretrained: A tag of open_clip, the path of a weights file, or None for random weights.
            Not used by the three forms of ``name`` that lead to weights themselves.
        download: If False, weights that would have to be fetched are left out: the tower keeps
            random weights. Weights in a named directory or file are used all the same.
        seed: Seed of random weights.

    Raises:
        ValueError: If name, tag, file or directory is unknown; the message lists what there is.
    """
    if not isinstance(name, str):
        raise ValueError(f"openclip_model_name={name!r}; it must be a name such as 'ViT-B-32'.")
    if pretrained is not None and not isinstance(pretrained, str):
        raise ValueError(f"openclip_pretrained={pretrained!r}; it must be a tag, a path or None.")
    if name == BUNDLED:
        from .bundled import weights_dir

        return Source(f"{LOCAL_DIR}{weights_dir()}", None, random=False)
    if name.startswith(LOCAL_DIR):
        _check_directory(Path(name.removeprefix(LOCAL_DIR)))
        return Source(name, None, random=False)
    if name.startswith(HUB):
        if not download:
            raise ValueError(
                f"{name!r} has to be fetched, but pretrained=False forbids it; use a model name of "
                "open_clip or 'local-dir:DIR'."
            )
        return Source(name, None, random=False)
    return _find_builtin(name.replace("/", "-"), pretrained, download=download, seed=seed)


def _find_builtin(name: str, pretrained: str | None, *, download: bool, seed: int) -> Source:
    known = open_clip.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, [BUNDLED, *known], n=5, cutoff=0.4)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
        raise ValueError(
            f"open_clip has no model {name!r}{hint} All names: open_clip.list_models()."
        )
    if pretrained is not None and Path(pretrained).is_file():
        return Source(name, pretrained, random=False)
    if pretrained is None or not download:
        if "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]:
            raise ValueError(
                f"{name!r} has a text tower whose config has to be fetched; without download it "
                "cannot be built. Use another model, or weights."
            )
        if pretrained is not None:
            warnings.warn(
                f"{name!r} keeps random weights, since pretrained=False forbids to fetch "
                f"{pretrained!r}: its scores say nothing. Pass pretrained=True (--pretrained), a "
                "weights file, or openclip_model_name='bundled'.",
                stacklevel=2,
            )
        return Source(name, None, random=True, seed=seed)
    if open_clip.is_pretrained_cfg(name, pretrained):
        quick_gelu = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))
        # The variants "-quickgelu" differ in nothing else; the tag knows which one is right.
        base = name.removesuffix("-quickgelu")
        return Source(base if base in known else name, pretrained, False, quick_gelu)
    tags = open_clip.list_pretrained_tags_by_model(name)
    raise ValueError(
        f"openclip_pretrained={pretrained!r} is neither a file nor known weights of {name!r}; "
        f"known: {', '.join(tags) or 'none'}."
    )


def _check_directory(directory: Path) -> None:
    config = directory / "open_clip_config.json"
    if not config.is_file():
        raise ValueError(
            f"{directory} has no open_clip_config.json; it is needed for 'local-dir:'."
        )
    try:
        told = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{config} is not valid JSON: {error}") from error
    model = told.get("model_cfg") if isinstance(told, dict) else None
    towers = model if isinstance(model, dict) else {}
    if not all(isinstance(towers.get(name), dict) for name in ("vision_cfg", "text_cfg")):
        raise ValueError(f"{config} has no entry 'model_cfg' with 'vision_cfg' and 'text_cfg'.")
    if not any(any(directory.glob(f"*{suffix}")) for suffix in (".safetensors", ".bin", ".pth")):
        raise ValueError(f"{directory} has no weights (*.safetensors, *.bin or *.pth).")


def load_model(source: Source) -> nn.Module:
    """Build the model on the CPU in float32, in evaluation mode, without gradients.

    Args:
        source: From :func:`find_source`.

    Raises:
        FileNotFoundError: If the weights are not cached and cannot be fetched.
        ValueError: If a weights file does not fit the model, or is none.
        MemoryError: If the model does not fit into memory.
    """
    arguments: dict[str, Any] = {"force_quick_gelu": True} if source.quick_gelu else {}
    # Base weights of a text tower are never needed: weights of CLIP contain both towers.
    arguments["pretrained_text"] = False
    # The host scores under inference_mode; a model built there could never be used outside.
    with _seeding, torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(source.seed)
        try:
            with memory_for(f"the model {source.name}"):
                model = open_clip.create_model(
                    source.name,
                    pretrained=source.pretrained,
                    load_weights=not source.random,
                    require_pretrained=not source.random,
                    **arguments,
                )
        except (RuntimeError, OSError) as error:
            raise _explained(source, error) from error
        except NO_WEIGHTS:
            if source.random:
                raise
            # Torch would advise to run what is in the file.
            raise ValueError(_no_weights(source)) from None
    loaded: nn.Module = model.eval().requires_grad_(False)
    return loaded


def get_tokenizer(source: Source) -> Any:
    """The model's own tokenizer.

    Raises:
        FileNotFoundError: If its vocabulary is not cached and cannot be fetched.
        ValueError: If it would have to be fetched for a tower of random weights, or is a program of
            its own.
    """
    config = source.config
    if source.random and config is not None:
        fetched = "hf_tokenizer_name" in config["text_cfg"] or "siglip" in source.name.lower()
        if fetched:
            raise ValueError(
                f"The tokenizer of {source.name!r} has to be fetched, which random weights do not "
                "do; pass text_features_normal and text_features_anomaly, or use weights."
            )
    try:
        _refuse_programs(source.name)
        return open_clip.get_tokenizer(source.name)
    except (RuntimeError, OSError) as error:
        raise _explained(source, error) from error


def _refuse_programs(name: str) -> None:
    """Raise a ValueError if a model's tokenizer is code out of its repository or folder."""
    config = open_clip.get_model_config(name) or {}
    options = config.get("text_cfg", {}).get("tokenizer_kwargs") or {}
    if options.get("trust_remote_code"):
        raise ValueError(
            f"The tokenizer of {name!r} is a program of its own (trust_remote_code in its config), "
            "which is not run; use another model."
        )


def _no_weights(source: Source) -> str:
    told = "is not a weights file that open_clip can read safely."
    if _is_local(source):
        return f"{source.pretrained or f'What is in {source.name}'} {told}"
    return (
        f"What is cached for {source.name}, {source.pretrained} {told} Remove it from "
        f"{cache_directory(source)}, so that it is fetched again."
    )


def _is_local(source: Source) -> bool:
    return source.name.startswith(LOCAL_DIR) or os.path.isfile(source.pretrained or "")  # noqa: PTH113


def _explained(source: Source, error: Exception) -> Exception:
    where = source.name if source.pretrained is None else f"{source.name}, {source.pretrained}"
    if source.random or _is_local(source):
        return ValueError(f"The weights of {where} cannot be loaded: {error}")
    return FileNotFoundError(
        f"The weights of {where} are not cached and could not be fetched: {error}\n"
        f"They would be cached in {cache_directory(source)}. Without network, either\n"
        " - load this model once on a connected machine and copy that folder here, or\n"
        " - pass openclip_pretrained='/path/to/weights.safetensors', or\n"
        " - pass openclip_model_name='local-dir:DIR' with open_clip_config.json and weights, or\n"
        " - pass openclip_model_name='bundled' for the tiny model inside this package."
    )


def cache_directory(source: Source) -> Path:
    """Where open_clip keeps weights of this source once they are downloaded."""
    if not source.name.startswith(HUB):
        config = open_clip.get_pretrained_cfg(source.name, source.pretrained or "")
        if not config.get("hf_hub"):
            return Path("~/.cache/clip").expanduser()
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
