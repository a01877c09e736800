"""What makes scoring by prompts ours, WinCLIP's or CLIP Surgery's, one value each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from ..files.checkpoint import short
from . import surgery, winclip
from .references import References
from .scorer import PromptScorer
from .surgery import SurgeryScorer
from .winclip import Associations, WinCLIPScorer

RecipeName = Literal["winclip", "clip-surgery"]
NAMES: tuple[str, ...] = get_args(RecipeName)
# Arguments of which a method is made.
METHOD = (
    "text_prompts",
    "normal_states",
    "anomalous_states",
    "templates",
    "defects",
    "resize",
    "attention",
    "stages",
    "windows",
    "mode",
    "aggregation_method",
    "aggregation_topk",
)
OWN_SENTENCES = ("text_prompts", "text_features_normal", "text_features_anomaly", "defects")

ReferenceImages: TypeAlias = References | Associations


@dataclass(frozen=True)
class Recipe:
    """A method of scoring by prompts.

    Attributes:
        name: Its name as an argument; None for ours.
        fixes: Arguments of the detector that it fixes, and their values.
        refuses: Arguments that have to be None, since the method has nothing like them.
        embedder: Settings of the embedder that are no arguments of the detector.
        scorer: What turns tokens into scores.
        references: What references are compared with; None without any.
        scaled_texts: Whether text vectors are scaled to length 1 before they are averaged.
    """

    name: RecipeName | None = None
    fixes: Mapping[str, Any] = field(default_factory=dict)
    refuses: tuple[str, ...] = ()
    embedder: Mapping[str, Any] = field(default_factory=dict)
    scorer: type[PromptScorer] = PromptScorer
    references: type[References | Associations] = References
    scaled_texts: bool = True

    def in_force(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of which the method is made, with those that the recipe fixes.

        Args:
            given: Arguments of the detector; one that is equal to its default counts as not given.
            defaults: The defaults of arguments.

        Raises:
            ValueError: If an argument contradicts the recipe.
        """
        for name in self.refuses:
            if given[name] is not None:
                raise ValueError(
                    f"{name} contradicts recipe={self.name!r}, whose texts, input and scores are "
                    "fixed; leave out one of them."
                )
        for name, fixed in self.fixes.items():
            value = _hashable(given[name])
            if value != fixed and value != _hashable(defaults[name]):
                raise ValueError(
                    f"{name}={short(given[name])} contradicts recipe={self.name!r}, which has "
                    f"{short(fixed)}; leave out one of them."
                )
        self._expect_square(given["force_image_size"])
        return {**{name: given[name] for name in METHOD}, **self.fixes}

    def _expect_square(self, size: Any) -> None:
        sides = size if isinstance(size, (tuple, list)) else ()
        if self.name is not None and len(set(sides)) > 1:
            raise ValueError(
                f"force_image_size={size} contradicts recipe={self.name!r}, which resizes images "
                "to a square; pass one side."
            )


OURS = Recipe()
WINCLIP = Recipe(
    name="winclip",
    fixes={
        "normal_states": winclip.NORMAL_STATES,
        "anomalous_states": winclip.ANOMALOUS_STATES,
        "templates": winclip.TEMPLATES,
        "resize": "squash",
        "attention": "none",
        "stages": 1,
        "windows": winclip.WINDOWS,
        "mode": "probability",
        "aggregation_method": "max",
        "aggregation_topk": 1.0,
    },
    refuses=(*OWN_SENTENCES, "embedder", "max_tokens", "smallest_defect", "roi"),
    embedder={"final": True},
    scorer=WinCLIPScorer,
    references=Associations,
    scaled_texts=False,
)
CLIP_SURGERY = Recipe(
    name="clip-surgery",
    fixes={
        "normal_states": surgery.NORMAL_STATES,
        "anomalous_states": surgery.ANOMALOUS_STATES,
        "templates": surgery.TEMPLATES,
        "resize": "squash",
        "attention": "vv",
        "stages": 1,
        "windows": (),
        "mode": "diff",
        "aggregation_method": "max",
        "aggregation_topk": 1.0,
    },
    refuses=(*OWN_SENTENCES, "embedder", "max_tokens", "smallest_defect", "roi", "references"),
    embedder={"surgery": surgery.LAST_BLOCKS, "positions": "bilinear"},
    scorer=SurgeryScorer,
)
RECIPES: Mapping[object, Recipe] = {recipe.name: recipe for recipe in (OURS, WINCLIP, CLIP_SURGERY)}


def recipe_named(name: object) -> Recipe:
    """The recipe of an argument.

    Raises:
        ValueError: If there is none of that name.
    """
    if name is not None and (not isinstance(name, str) or name not in NAMES):
        raise ValueError(f"recipe={name!r} is unknown; choose from {', '.join(NAMES)}, or None.")
    return RECIPES[name]


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
