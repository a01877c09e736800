"""Puts the command line's words in place of Python's in the library's messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Arguments of detectors and their methods that have an option of their own.
OPTIONS = {
    "batch_size": "--batch-size",
    "class_name": "--class-name",
    "confidence": "--confidence",
    "contamination": "--contamination",
    "defects": "--defects",
    "device": "--device",
    "groups": "--group-by",
    "on_error": "--on-error",
    "openclip_model_name": "--model",
    "openclip_pretrained": "--pretrained",
    "precision": "--precision",
    "roi": "--roi",
    "smallest_defect": "--smallest-defect",
}
# The others, which --set gives.
SETTINGS = (
    "aggregation_method", "aggregation_topk", "anomalous_states", "attention", "channel_order",
    "coreset_sampling_ratio", "dimension", "force_image_size", "jitter", "knn_backend", "layers",
    "max_comparisons", "max_patches", "max_tokens", "memory_bank_dtype", "mode", "n_neighbors",
    "neighbourhoods", "normal_states", "pretrained", "random_seed", "recipe", "references",
    "resize", "rotations", "stages", "templates", "text_prompts", "threshold_rule", "windows",
)  # fmt: skip
# What asks for a call, or names a place in a list, which a user of commands never saw.
SENTENCES = (
    (r"Call fit\(\) with a pool to score single images against it", "Pass more images, or "
     "--detector FILE or --class-name WORD"),
    (r"Call use_quantile_thresholding\(\) first for one", "Fit again for one"),
    (r"call choose_canvas\(\) with typical images", "fit again with typical images"),
    (r"score an image, or call read_references\(\) or fit\(\)", "fit again"),
    (r"call fit\(\) with normal images first", "'fit' with normal images first"),
    (r"call fit\(\) first", "'fit' first"),
    (r"call fit\(\), or pass threshold=", "'fit' first, or give --threshold"),
    (r"pass it: load_detector\(path,", "only Python can load it: load_detector(path,"),
    (r"fit\(\.\.\., groups=\), or ", ""),
    (r"\(groups=, --group-by", "(--group-by"),
    (r"written by save_checkpoint\(\)", "written by 'fit'"),
    (r"open_clip\.list_models\(\)", "pyimgano-openclip towers"),
    (r"set_most_pixels\(\) of pyimgano_openclip\.images\.opening", "--max-pixels N"),
    (r"increase max_patches or coreset_sampling_ratio",
     "increase --set max_patches=N or coreset_sampling_ratio=SHARE"),
    (r"set threshold_", "give --threshold"),
    (r"(?<![\w/\\.=-])vision_openclip_patchknn(?![\w/\\]|\.\w)", "patch-kNN (no --class-name)"),
    (r"(?s)\bx\[\d+\] \((.*?)\)(?= is a copy of|; x\[|; and \d|$)", r"\1"),
    (r"\bx\[\d+\]: ", ""),
    (r"(?<!--set )(?<![\w/\\.=-])smallest_defect(?![\w/\\=-]|\.\w)", "--smallest-defect"),
)  # fmt: skip
# Values as Python writes them, brackets at most two deep, or a word in place of one.
STRING = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
BRACKETS = r"\((?:[^()]|\([^()]*\))*\)|\[(?:[^][]|\[[^][]*\])*\]"
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
VALUE = rf"{STRING}|{BRACKETS}|{NUMBER}|True|False|None|nan|inf|[A-Z]+"
# What is a word of its own, and so no part of a path; what --set gives already stays.
BEFORE, MARK, AFTER = r"(?<!--set )(?<![^\s(])", r"[,;:.)]", r"(?=[,;:.)]*(?:\s|$))"
NAMES = "|".join([*OPTIONS, *SETTINGS])
ASSIGNED = re.compile(rf"{BEFORE}({NAMES})=(?:({VALUE}){AFTER}|(?={MARK}){AFTER})")
JSON = {"True": "true", "False": "false", "None": "null"}


def command_words(text: str, *paths: str) -> str:
    """Put the command line's names in place of the library's.

    Args:
        text: A message of the library.
        paths: Those that it may be about, which stay as they are.
    """
    for path in paths:
        if path in text and command_words(path) != path:
            others = [other for other in paths if other != path]
            return path.join(command_words(part, *others) for part in text.split(path))
    for found, said in SENTENCES:
        text = re.sub(found, said, text)
    text = ASSIGNED.sub(_as_given, text)
    return re.sub(r"(--[a-z-]+)( [^\s(]+)? \(\1\)", r"\1\2", text)  # the library named it, too


def given_paths(values: Iterable[Any]) -> list[str]:
    """The texts and paths among options, as they were typed and as messages may spell them.

    The longest come first, since one may be a part of another.
    """
    given = {os.fspath(found) for found in texts(list(values))}
    spelled = given | {os.path.abspath(path) for path in given}  # noqa: PTH100 - keeps links
    return sorted(spelled | {os.path.realpath(path) for path in given}, key=len, reverse=True)


def texts(value: Any) -> Iterator[str | Path]:
    """The texts and paths in a value of options, however deep."""
    if isinstance(value, (str, Path)):
        yield value
    elif isinstance(value, Mapping):
        yield from texts(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from texts(part)


def _as_given(found: re.Match[str]) -> str:
    """An argument with its value as it is typed."""
    name, value = found[1], JSON.get(found[2], found[2] or "")
    if value.startswith(("'", '"')):
        value = re.sub(r"\\(['\"\\])", r"\1", value[1:-1])
    elif value.startswith(("(", "[")):
        value = value.replace("(", "[").replace(",)", "]").replace(")", "]")
    if name in OPTIONS:
        return f"{OPTIONS[name]} {value}".rstrip()
    return f"--set {name}={value}"
