"""Finds and loads open_clip models and their weights.

Detectors reach open_clip only through this file, ``model.py``, ``hub.py`` and ``towers/``; the
commands ``towers`` and ``download`` use it directly.
"""

from __future__ import annotations

import difflib
import json
import os
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import open_clip
import torch
from open_clip.constants import HF_CONFIG_NAME
from safetensors import SafetensorError
from torch import nn

from ..files.digest import digest_of_weights
from ..memory import out_of_memory_explained
from ..progress import usable_stderr
from . import hub
from .names import BUNDLED, HUB, LOCAL_DIR
from .neutral import neutral
from .root_logger import as_configured
from .towers.catalogue import Family, family_of

TOKENIZER_CONFIG = "tokenizer_config.json"  # which transformers asks for first
NOT_READ = (".md", ".py")  # model cards and code in a folder of weights
# Raised by open_clip and torch for files that contain no weights, or more than weights.
NO_WEIGHTS = (
    UnpicklingError, SafetensorError, BadZipFile, struct.error, EOFError, LookupError,
    AttributeError, TypeError, StopIteration,
)  # fmt: skip

_alone = threading.Lock()  # threads share the generator of random weights, and the root logger


@dataclass(frozen=True)
class Source:
    """Where a model and its weights come from, checked as far as possible without loading.

    Attributes:
        name: Name passed to open_clip, also for the tokenizer.
        pretrained: Tag or file; None if the name itself leads to the weights.
        random: True if the model keeps its random initial weights.
        quick_gelu: Whether the weights were trained with QuickGELU, if open_clip knows.
        seed: Seed of random weights.
    """

    name: str
    pretrained: str | None
    random: bool
    quick_gelu: bool = False
    seed: int = 0

    @property
    def config(self) -> dict[str, Any] | None:
        """The model's config; None if it would have to be downloaded."""
        if self.name.startswith(HUB):
            return None
        return open_clip.get_model_config(self.name)

    @property
    def family(self) -> Family | None:
        """The family of the image tower; None if the config would have to be downloaded."""
        return None if self.config is None else family_of(self.config)

    @property
    def on_hub(self) -> tuple[str, str] | None:
        """Repository on the Hugging Face hub and file in it, "" for any; None if not from there."""
        if self.name.startswith(HUB):
            return self.name.removeprefix(HUB), ""
        if self.random or self.name.startswith(LOCAL_DIR) or _is_file(self.pretrained):
            return None
        place = open_clip.get_pretrained_cfg(self.name, self.pretrained or "").get("hf_hub")
        return os.path.split(place) if place else None

    @property
    def identity(self) -> str:
        """A string that changes with the model, its weights and the version of open_clip.

        Files are told by their content, so that a copy or an installation anew is the same. Weights
        from the hub are those in the cache, so they have to be loaded before.
        """
        start = [self.seed, torch.__version__] if self.random else []
        cached = hub.cached_weights(*self.on_hub) if self.on_hub else []
        revisions = sorted({hub.commit_of(path) for path in cached})
        parts = [*self._named, self.quick_gelu, self._contents(), start, open_clip.__version__]
        return json.dumps([*parts, revisions])

    @property
    def _named(self) -> tuple[str, str | None]:
        """Name and tag, without the paths of what :meth:`_contents` tells."""
        name = LOCAL_DIR if self.name.startswith(LOCAL_DIR) else self.name
        return name, "" if _is_file(self.pretrained) else self.pretrained

    def _contents(self) -> list[tuple[str, str]]:
        """Names and digests of the files on this machine that it consists of."""
        if self.pretrained is not None and _is_file(self.pretrained):
            return [("", digest_of_weights(Path(self.pretrained)))]
        if not self.name.startswith(LOCAL_DIR):
            return []
        files = sorted(Path(self.name.removeprefix(LOCAL_DIR)).iterdir())
        read = [file for file in files if file.is_file() and file.suffix not in NOT_READ]
        return [(file.name, digest_of_weights(file)) for file in read]


def find_source(
    name: str, pretrained: str | None, *, download: bool = True, seed: int = 0
) -> Source:
    """Check a model name and its weights, without loading them or using the network.

    Args:
        name: Name of an open_clip model (``"ViT-B-32"``), ``"local-dir:DIR"`` with an
            ``open_clip_config.json`` and weights, ``"hf-hub:ORG/REPO"``, or ``"bundled"``.
        pretrained: Tag of open_clip weights, path of a weights file, or None for random weights.
            Ignored for the last three forms of ``name``, which lead to weights themselves.
        download: If False, no weights are downloaded; a model that would need a download gets
            random weights. Weights in a given directory or file are still used.
        seed: Seed of random weights.

    Raises:
        ValueError: If name, tag, file or directory is unknown; the message lists valid ones.
    """
    if not isinstance(name, str):
        raise ValueError(f"openclip_model_name={name!r}; it must be a name such as 'ViT-B-32'.")
    if pretrained is not None and not isinstance(pretrained, str):
        raise ValueError(f"openclip_pretrained={pretrained!r}; it must be a tag, a path or None.")
    if name == BUNDLED:
        from ..bundled import weights_dir

        return Source(f"{LOCAL_DIR}{weights_dir()}", None, random=False)
    if name.startswith(LOCAL_DIR):
        _check_directory(Path(name.removeprefix(LOCAL_DIR)))
        return Source(name, None, random=False)
    if name.startswith(HUB):
        if not download:
            raise ValueError(
                f"{name!r} has to be downloaded, but pretrained=False forbids it; use the name of "
                "an open_clip model, or 'local-dir:DIR'."
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
    if _is_file(pretrained):
        return Source(name, pretrained, random=False)
    if pretrained is None or not download:
        if "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]:
            raise ValueError(
                f"{name!r} has a text tower whose config has to be downloaded, so it cannot be "
                "built with random weights. Use another model, or pretrained weights."
            )
        if pretrained is not None:
            warnings.warn(
                f"{name!r} gets random weights, since pretrained=False forbids downloading "
                f"{pretrained!r}: its scores are meaningless. Pass pretrained=True (--pretrained), "
                "a weights file, or openclip_model_name='bundled'.",
                stacklevel=2,
            )
        return Source(name, None, random=True, seed=seed)
    if open_clip.is_pretrained_cfg(name, pretrained):
        quick_gelu = bool(open_clip.get_pretrained_cfg(name, pretrained).get("quick_gelu", False))
        # The "-quickgelu" variants differ in nothing else; the tag knows which one is right.
        base = name.removesuffix("-quickgelu")
        return Source(base if base in known else name, pretrained, False, quick_gelu)
    tags = open_clip.list_pretrained_tags_by_model(name)
    near = difflib.get_close_matches(pretrained, tags, n=1)
    hint = f"did you mean {near[0]!r}? All" if near else "choose from"
    raise ValueError(
        f"openclip_pretrained={pretrained!r} is neither a file nor known weights of {name!r}; "
        f"{hint}: {', '.join(tags) or 'none'}."
    )


def _check_directory(directory: Path) -> None:
    config = directory / "open_clip_config.json"
    if not config.is_file():
        raise ValueError(f"{directory} has no open_clip_config.json, which 'local-dir:' needs.")
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{config} is not valid JSON: {error}") from error
    model = content.get("model_cfg") if isinstance(content, dict) else None
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
        FileNotFoundError: If the weights are neither cached nor downloadable.
        ValueError: If a weights file does not fit the model, or is not one.
        MemoryError: If the model does not fit into memory.
        ImportError: If its text tower needs a library that is not installed.
    """
    if "hf_model_name" in _text_config(source):
        _require_transformers(f"The text tower of {source.name!r}")
    arguments: dict[str, Any] = {"force_quick_gelu": True} if source.quick_gelu else {}
    # Base weights of a text tower are never needed: CLIP weights contain both towers.
    arguments["pretrained_text"] = False
    # The host scores in inference_mode; a model built there could not be used outside.
    with (
        _alone,
        _library_at_work(),
        neutral(),
        torch.inference_mode(False),
        torch.random.fork_rng(devices=[]),
    ):
        torch.default_generator.manual_seed(source.seed)  # weights are drawn on the CPU alone
        try:
            with _from_hub(source), out_of_memory_explained(f"the model {source.name}"):
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
            # Torch's own message suggests running code from the file.
            raise ValueError(_no_weights(source)) from None
    return model.eval().requires_grad_(False)


def get_tokenizer(source: Source) -> Any:
    """Load the model's own tokenizer.

    Raises:
        FileNotFoundError: If its vocabulary is neither cached nor downloadable.
        ValueError: If it would have to be downloaded for a model with random weights, or consists
            of code.
        ImportError: If it needs a library that is not installed.
    """
    repository = _text_config(source).get("hf_tokenizer_name", "")
    if source.random and (repository or "siglip" in source.name.lower()):
        raise ValueError(
            f"The tokenizer of {source.name!r} has to be downloaded, which is not done for random "
            "weights; pass text_features_normal and text_features_anomaly, or use pretrained "
            "weights."
        )
    try:
        with _alone, _library_at_work(), _tokenizer_from_hub(source, repository):
            _refuse_programs(source.name)
            if repository:
                _require_transformers(f"The tokenizer of {source.name!r}")
            return open_clip.get_tokenizer(source.name)
    except ModuleNotFoundError as error:
        # The config of a repository on the hub is not known before.
        raise _missing(f"The tokenizer of {source.name!r}", error.name) from error
    except (RuntimeError, OSError) as error:
        raise _explained(source, error) from error


@contextmanager
def _library_at_work() -> Iterator[None]:
    """Let open_clip log and show bars without a trace in the process, or a terminal in it."""
    with as_configured(), usable_stderr():
        yield


def _from_hub(source: Source) -> AbstractContextManager[None]:
    """Spare the retries if weights from the hub are out of reach."""
    if source.on_hub is None:
        return nullcontext()
    repository, file = source.on_hub
    # A model that is named by its repository starts with its config.
    named = source.name.startswith(HUB)
    names = (HF_CONFIG_NAME,) if named else hub.weights_names(file)
    return hub.tried_twice(repository, names)


def _tokenizer_from_hub(source: Source, repository: str) -> AbstractContextManager[None]:
    """The same for a tokenizer."""
    if source.name.startswith(HUB):
        return _from_hub(source)
    if not repository or source.name.startswith(LOCAL_DIR):
        return nullcontext()
    return hub.tried_twice(repository, (TOKENIZER_CONFIG,))


def _text_config(source: Source) -> dict[str, Any]:
    """The config of the text tower; empty if it would have to be downloaded."""
    return (source.config or {}).get("text_cfg", {})


def _require_transformers(what: str) -> None:
    if find_spec("transformers") is None:
        raise _missing(what, "transformers")


def _missing(what: str, library: str | None) -> ImportError:
    return ImportError(f"{what} needs {library}: pip install 'pyimgano-openclip[siglip]'")


def _refuse_programs(name: str) -> None:
    """Raise a ValueError if a model's tokenizer is code from its repository or folder."""
    config = open_clip.get_model_config(name) or {}
    options = config.get("text_cfg", {}).get("tokenizer_kwargs") or {}
    if options.get("trust_remote_code"):
        raise ValueError(
            f"The tokenizer of {name!r} consists of code (trust_remote_code in its config), which "
            "is never run; use another model."
        )


def _no_weights(source: Source) -> str:
    problem = "is not a weights file that open_clip can read safely."
    if _is_local(source):
        return f"{source.pretrained or f'The file in {source.name}'} {problem}"
    return (
        f"The file cached for {source.name}, {source.pretrained} {problem} Remove it from "
        f"{cache_directory(source)} to download it again."
    )


def _is_local(source: Source) -> bool:
    return source.name.startswith(LOCAL_DIR) or _is_file(source.pretrained)


def _is_file(pretrained: str | None) -> bool:
    return os.path.isfile(pretrained or "")  # noqa: PTH113 - a tag can be an invalid path


def _explained(source: Source, error: Exception) -> Exception:
    where = source.name if source.pretrained is None else f"{source.name}, {source.pretrained}"
    if source.random or _is_local(source):
        return ValueError(
            f"The weights of {where} cannot be loaded: {' '.join(str(error).split())}"
        )
    return FileNotFoundError(
        f"The weights of {where} are not cached and could not be downloaded: {error}\n"
        f"They would be cached in {cache_directory(source)}. Without network access, either\n"
        " - run 'pyimgano-openclip download' on a connected machine, copy its folder here, and\n"
        "   pass openclip_model_name='local-dir:DIR' with that folder, or\n"
        " - load this model once on a connected machine, copy the cache here, and set\n"
        "   HF_HUB_OFFLINE=1, which uses it without asking the hub, or\n"
        " - pass openclip_pretrained='/path/to/weights.safetensors', or\n"
        " - pass openclip_model_name='bundled' for the tiny model in this package."
    )


def cache_directory(source: Source) -> Path:
    """Directory in which open_clip caches downloaded weights of this source."""
    if not source.name.startswith(HUB):
        config = open_clip.get_pretrained_cfg(source.name, source.pretrained or "")
        if not config.get("hf_hub"):
            return Path("~/.cache/clip").expanduser()
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)
