"""Captions and prompts, and the small part of CLIP's vocabulary that they need.

Training runs on a compact vocabulary, because most of CLIP's 49,408 words never occur here;
`Vocabulary.widen` puts the rows back where open_clip's own tokenizer looks for them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import open_clip
import torch
from torch import Tensor

from pyimgano_openclip.prompts import wording as prompts
from pyimgano_openclip.samples import DEFECTS, FAMILIES

FULL_VOCABULARY = 49_408
CONTEXT = 32

GENERIC_NOUNS = (
    "object", "product", "item", "surface", "part", "thing", "material", "component", "sample",
    "workpiece", "texture", "piece", "device", "article", "specimen", "unit",
)  # fmt: skip
OTHER_NOUNS = (
    "hazelnut", "toothbrush", "transistor", "bottle", "grid", "metal nut", "candle", "cashew",
    "chewing gum", "macaroni", "pipe fryum", "pcb", "glass", "metal", "textile", "cloth",
    "ceramic", "stone", "panel", "photovoltaic module", "electroluminescence image", "wafer",
    "sensor", "spring", "pin", "tube", "box", "bag", "can", "juice bottle", "pushpin", "sheet",
    "vial", "fruit", "jelly", "wall", "plug", "lens", "mirror", "film", "tape", "rope", "wire",
    "bead", "ring", "disc", "tray", "cup", "lid", "seal", "gasket", "hose", "valve", "magnet",
    "engine", "blade", "pen", "phone", "screen", "display", "keyboard", "toy", "food", "bread",
    "wheel", "tyre", "road", "rail", "weld", "coating", "yarn", "stitch", "seam", "pcb assembly",
    "circuit", "solder joint", "crystal",
)  # fmt: skip
NORMAL_STATES = (
    *prompts.NORMAL_STATES,
    "good {}", "normal {}", "clean {}", "new {}", "unblemished {}", "faultless {}", "healthy {}",
    "{} with no damage", "{} without flaws", "{} without damage", "{} without any anomaly",
    "{} that passed inspection", "immaculate {}", "spotless {}", "acceptable {}", "ok {}",
)  # fmt: skip
ANOMALOUS_STATES = (
    *prompts.ANOMALOUS_STATES,
    "anomalous {}", "abnormal {}", "faulty {}", "bad {}", "flawed {}", "imperfect {}",
    "spoiled {}", "{} with an anomaly", "{} with defects", "{} with flaws",
    "{} that failed inspection", "rejected {}", "blemished {}", "dirty {}", "worn {}",
    "{} with something wrong",
)  # fmt: skip
TEMPLATES = (
    *prompts.TEMPLATES,
    "an image of a {}.", "an image of the {}.", "a picture of a {}.", "a picture of the {}.",
    "a photograph of a {}.", "this is a photo of a {}.", "there is a {} in the image.",
    "a low resolution photo of a {}.", "a good photo of the {}.", "a bad photo of the {}.",
    "an industrial photo of a {}.", "a microscope image of a {}.", "a grayscale photo of a {}.",
    "there is the {} in the scene.", "a jpeg corrupted photo of a {}.", "a close-up of a {}.",
)  # fmt: skip
UNKNOWN = "\N{REPLACEMENT CHARACTER}"  # in a text: a word that the model has never learned


class Vocabulary:
    """The tokens of CLIP that occur in training, renumbered from 1 in their order; 0 is any other.

    The end of text keeps the highest number, which is where open_clip reads the text vector. The
    embedding of 0 stays zero, as does padding, which CLIP also numbers 0.

    Attributes:
        used: Numbers in CLIP's own vocabulary, ascending.
    """

    def __init__(self) -> None:
        self._tokenizer = open_clip.SimpleTokenizer(context_length=CONTEXT)
        parts = [*FAMILIES, *DEFECTS, *GENERIC_NOUNS, *OTHER_NOUNS, "with a"]
        parts += [text.format(" ") for text in (*NORMAL_STATES, *ANOMALOUS_STATES, *TEMPLATES)]
        found = {number for part in parts for number in self._tokenizer.encode(part)}
        ends = {self._tokenizer.sot_token_id, self._tokenizer.eot_token_id}
        self.used = tuple(sorted((found | ends) - {0}))
        self._compact = {number: place for place, number in enumerate(self.used, start=1)}
        self._known: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.used) + 1

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Compact token numbers, shape (N, CONTEXT), padded with 0."""
        return torch.tensor([self._ids(text) for text in texts])

    def widen(self, embedding: Tensor) -> Tensor:
        """Rows (len(self), W) put where the stock tokenizer looks for them: (49408, W)."""
        wide = embedding.new_zeros(FULL_VOCABULARY, embedding.shape[1])
        wide[list(self.used)] = embedding[1:]
        return wide

    def _ids(self, text: str) -> list[int]:
        if text not in self._known:
            sot, eot = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
            numbers = [sot]
            for place, part in enumerate(text.split(UNKNOWN)):
                numbers += [-1] * (place > 0) + self._tokenizer.encode(part)
            numbers = [*numbers[: CONTEXT - 1], eot]
            padding = [-1] * (CONTEXT - len(numbers))
            self._known[text] = [self._compact.get(n, 0) for n in [*numbers, *padding]]
        return self._known[text]


class Writer:
    """Draws texts about pictures.

    Args:
        rng: Source of the texts.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def noun(self, family: str) -> str:
        """The family's name, or a generic, unknown or even wrong word in its place.

        Detectors are asked about products that no training has seen: the words around the noun
        must do the work.
        """
        chance = self._rng.random()
        if chance < 0.4:
            return family
        if chance < 0.7:
            return self._one(GENERIC_NOUNS)
        if chance < 0.85:
            return self._one((*OTHER_NOUNS, *FAMILIES))
        return " ".join([UNKNOWN] * int(self._rng.integers(1, 4)))

    def sides(self, family: str, count: int) -> tuple[list[str], list[str]]:
        """`count` normal and `count` anomalous prompts about one noun."""
        noun = self.noun(family)
        anomalous = [*ANOMALOUS_STATES, f"{{}} with a {self._one(DEFECTS)}"]
        return (
            [self._fill(self._one(NORMAL_STATES), noun) for _ in range(count)],
            [self._fill(self._one(anomalous), noun) for _ in range(count)],
        )

    def caption(self, family: str, defect: str | None) -> str:
        """A text for one picture, with the defect's name most of the time."""
        if defect is None:
            state = self._one(NORMAL_STATES)
        elif self._rng.random() < 0.7:
            state = f"{{}} with a {defect}"
        else:
            state = self._one(ANOMALOUS_STATES)
        return self._fill(state, family if self._rng.random() < 0.8 else self._one(GENERIC_NOUNS))

    def _fill(self, state: str, noun: str) -> str:
        return self._one(TEMPLATES).format(state.format(noun))

    def _one(self, options: Sequence[str]) -> str:
        return options[self._rng.integers(len(options))]
