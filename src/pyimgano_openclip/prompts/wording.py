"""Builds texts about normal and damaged objects: states x templates, per class name.

The construction is the compositional prompt ensemble of WinCLIP (Jeong et al., CVPR 2023): every
state is inserted into every template, and each ensemble becomes one text vector. The words are our
own, and each text has the same weight; WinCLIP's words are in ``winclip.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import NamedTuple

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
DEFECT_STATES = ("{class_name} with a {defect}", "{class_name} with {defect}", "{defect}")
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

# (name, format, conversion) as in Formatter.parse; the last is text without a placeholder.
PLACEHOLDERS = (("", "", None), ("0", "", None), ("class_name", "", None), (None, None, None))

Defects = Mapping[str, Sequence[str]] | Sequence[str]


@dataclass(frozen=True)
class Prompts:
    """The sentences for one class name.

    Attributes:
        normal: Sentences about intact objects.
        anomaly: Sentences about damaged objects, whatever the damage.
        defects: Sentences about each named defect. On the anomalous side, each defect has the same
            weight as ``anomaly``.
    """

    normal: tuple[str, ...]
    anomaly: tuple[str, ...]
    defects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[object, ...]:
        """A hashable key, equal for equal prompts."""
        return self.normal, self.anomaly, tuple(self.defects.items())


class Wording(NamedTuple):
    """How prompts are built for a class name; None selects the built-in phrases.

    Attributes:
        text_prompts: ``{"normal": [...], "anomaly": [...]}``: whole sentences instead of states
            and templates.
        normal_states: Phrases such as ``"flawless {}"``.
        anomalous_states: Phrases such as ``"{} with a hole"``; without ``{}`` a phrase does not
            name the class.
        templates: Sentences to fill with each state, such as ``"a photo of a {}."``.
        defects: Names of the defects to tell apart, or a mapping from names to phrases.
    """

    text_prompts: Mapping[str, Sequence[str]] | None = None
    normal_states: Sequence[str] | None = None
    anomalous_states: Sequence[str] | None = None
    templates: Sequence[str] | None = None
    defects: Defects | None = None

    def prompts_for(self, class_name: str) -> Prompts:
        """Build all sentences for a class name; by default 154 normal and 132 anomalous ones.

        Args:
            class_name: What the images show, in plain words: ``"screw"``, ``"leather"``.

        Raises:
            ValueError: If a list is empty or a bare string, a placeholder is unknown, a template
                has none, a side is missing, or whole sentences are given together with states, or
                with templates that nothing is put into.
        """
        templates = _sentences("templates", TEMPLATES if self.templates is None else self.templates)
        for template in templates:
            if _fill(template, "a") == _fill(template, "b"):
                raise ValueError(
                    f"The template {template!r} has no {{}} for the state, so that normal and "
                    "anomalous prompts would be the same."
                )
        named = {
            name: _compose(f"defects[{name!r}]", states, templates, class_name)
            for name, states in self._defect_states().items()
        }
        if self.text_prompts is None:
            normal, anomaly = (
                _compose(argument, given, templates, class_name)
                for argument, given in (
                    (
                        "normal_states",
                        NORMAL_STATES if self.normal_states is None else self.normal_states,
                    ),
                    (
                        "anomalous_states",
                        ANOMALOUS_STATES
                        if self.anomalous_states is None
                        else self.anomalous_states,
                    ),
                )
            )
            return Prompts(normal, anomaly, named)
        if self.normal_states is not None or self.anomalous_states is not None:
            raise ValueError("text_prompts cannot be combined with states: they are sentences.")
        if self.templates is not None and self.defects is None:
            raise ValueError("text_prompts are whole sentences; templates would change nothing.")
        sides = self.text_prompts if isinstance(self.text_prompts, Mapping) else {}
        if set(sides) != {"normal", "anomaly"}:
            raise ValueError(
                f"text_prompts has the keys {[*sides]}; it needs exactly 'normal' and 'anomaly', "
                "each a list of sentences."
            )
        normal, anomaly = (
            _compose(f"text_prompts[{side!r}]", self.text_prompts[side], ("{}",), class_name)
            for side in ("normal", "anomaly")
        )
        return Prompts(normal, anomaly, named)

    def _defect_states(self) -> Mapping[str, Sequence[str]]:
        if self.defects is None:
            return {}
        if isinstance(self.defects, Mapping):
            _sentences("defects", list(self.defects))
            return self.defects
        return {
            name: [
                state.format(class_name="{}", defect=name.replace("{", "{{").replace("}", "}}"))
                for state in DEFECT_STATES
            ]
            for name in _sentences("defects", self.defects)
        }


def _compose(
    argument: str, states: Sequence[str], templates: Sequence[str], class_name: str
) -> tuple[str, ...]:
    described = [_fill(state, class_name) for state in _sentences(argument, states)]
    return tuple(_fill(template, text) for template in templates for text in described)


def _sentences(argument: str, given: Sequence[str]) -> Sequence[str]:
    listed = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
    if not listed or not all(isinstance(text, str) for text in given):
        raise ValueError(f"{argument} must be a list of strings: {given!r}.")
    if not given:
        raise ValueError(f"{argument} is empty; it needs at least one entry.")
    return given


def _fill(sentence: str, class_name: str) -> str:
    try:
        placeholders = [found[1:] for found in Formatter().parse(sentence)]
        # Others could read attributes, or pad to a billion characters.
        odd = [found for found in placeholders if found not in PLACEHOLDERS]
        if not odd:
            return sentence.format(class_name, class_name=class_name)
        problem = f"unknown placeholder {odd[0][0]!r}"
    except (IndexError, ValueError) as error:
        problem = str(error)
    raise ValueError(
        f"The prompt {sentence!r} cannot be filled with the class name ({problem}); use {{}} or "
        "{class_name} as placeholder and double other braces."
    )
