"""Texts of normal and damaged objects: states x templates, per class name.

The scheme is the compositional prompt ensemble of WinCLIP (Jeong et al., CVPR 2023): every state
is put into every template, and each side of the ensemble becomes one text vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

NORMAL_STATES = (
    "{}",
    "intact {}",
    "flawless {}",
    "perfect {}",
    "undamaged {}",
    "{} without any defect",
    "{} in good condition",
)
ANOMALOUS_STATES = (
    "damaged {}",
    "defective {}",
    "broken {}",
    "{} with a flaw",
    "{} with a defect",
    "{} with damage",
)
TEMPLATES = (
    "{}",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of one {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a cropped photo of a {}.",
    "a cropped photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of a {}.",
    "a dark photo of the {}.",
    "a blurry photo of a {}.",
    "a blurry photo of the {}.",
    "a sharp photo of a {}.",
    "a black and white photo of a {}.",
    "a photo of a small {}.",
    "a photo of a large {}.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for anomaly detection.",
    "an inspection image of a {}.",
)


@dataclass(frozen=True)
class PromptPair:
    """The texts of both sides for one class. An anomalous patch is one that resembles ``anomaly``.

    Attributes:
        normal: Sentences about intact objects.
        anomaly: Sentences about damaged objects.
    """

    normal: tuple[str, ...]
    anomaly: tuple[str, ...]


def default_prompts(class_name: str) -> PromptPair:
    """States x templates for ``class_name``: 154 normal and 132 anomalous sentences.

    Args:
        class_name: What the images show, as one would call it: ``"screw"``, ``"leather"``.
    """
    return PromptPair(
        normal=_compose(NORMAL_STATES, class_name), anomaly=_compose(ANOMALOUS_STATES, class_name)
    )


def custom_prompts(text_prompts: Mapping[str, Sequence[str]], class_name: str) -> PromptPair:
    """Prompts of the user, each filled with the class name.

    Args:
        text_prompts: ``{"normal": [...], "anomaly": [...]}``; ``{}`` or ``{class_name}`` in a
            sentence stands for the class name, other sentences are taken as they are.
        class_name: The class name to fill in.

    Raises:
        ValueError: If a side is missing or empty, is a bare string, or a placeholder is unknown.
    """
    if set(text_prompts) != {"normal", "anomaly"}:
        raise ValueError(
            f"text_prompts has the keys {sorted(text_prompts)}; it needs exactly 'normal' and "
            "'anomaly', each a list of sentences."
        )
    sides: dict[str, tuple[str, ...]] = {}
    for side, sentences in text_prompts.items():
        if isinstance(sentences, str) or not all(isinstance(text, str) for text in sentences):
            raise ValueError(f"text_prompts[{side!r}] must be a list of strings: {sentences!r}.")
        if not sentences:
            raise ValueError(f"text_prompts[{side!r}] is empty; it needs at least one sentence.")
        sides[side] = tuple(_fill(sentence, class_name) for sentence in sentences)
    return PromptPair(**sides)


def _compose(states: Sequence[str], class_name: str) -> tuple[str, ...]:
    described = [state.format(class_name) for state in states]
    return tuple(template.format(text) for template in TEMPLATES for text in described)


def _fill(sentence: str, class_name: str) -> str:
    try:
        return sentence.format(class_name, class_name=class_name)
    except (IndexError, KeyError, ValueError) as error:
        raise ValueError(
            f"The prompt {sentence!r} cannot be filled with the class name ({error}); use {{}} or "
            "{class_name} as placeholder and double other braces."
        ) from error
