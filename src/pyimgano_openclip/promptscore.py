"""Zero-shot detector: compares patch tokens with texts about normal and damaged objects."""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from .arrays import Floats, Indices, Scores, Size
from .bank.copies import all_copies, distinct, tell_copies
from .bank.origins import as_identities
from .bank.relatives import told_groups
from .bank.roll import Roll
from .bank.whole import Whole
from .checks import check_choice, check_number, one_of
from .detector.base import METADATA, TAGS
from .detector.calibrated import CalibratedDetector
from .detector.learnt import Calibration, Learnt, Lesson, image_scores
from .detector.promises import upper_quantile
from .detector.saving import BY_REFERENCES, FITTED_ON, PEAKS, THRESHOLDS, saved_peaks
from .detector.showing import tell_learnt
from .detector.spans import of_mode
from .detector.thresholds import threshold_from
from .encoder.settings import check_windows
from .encoder.tokens import ATTENTIONS, Attention, PatchTokens, outcomes_within
from .files.checkpoint import Checkpoint, CheckpointError
from .files.tensor_file import Arrays
from .images.items import Item, as_items, in_rgb
from .images.notices import noticed
from .images.unreadable import or_raise
from .maps.names import named
from .maps.regions import Region
from .maps.scores import ImageScores
from .memory import out_of_memory_explained
from .progress import bar
from .prompts.recipes import RecipeName, ReferenceImages, recipe_named
from .prompts.references import References
from .prompts.scorer import (
    MODES,
    NEUTRAL,
    Mode,
    PromptScorer,
    TextVectors,
    Thresholds,
    prompt_patch_scores,
    text_vectors,
)
from .prompts.wording import Defects, Wording

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["VisionOpenCLIPPromptScore", "prompt_patch_scores"]

NOT_SETTLED: Mapping[str, Any] = {
    "thresholds": None, "calibration": None, "peaks": None, "by_references": False,
}  # fmt: skip
SAME_TEXT = 1e-5  # by which numbers of unit vectors may differ that were scaled to length 1 again


@dataclass(frozen=True)
class Taught(Learnt):
    """What a prompt detector has learnt.

    Attributes:
        texts: Text vectors by prompts, as far as they were encoded or loaded.
        references: The reference images; None without, and before they have been read.
        thresholds: Those of :meth:`~VisionOpenCLIPPromptScore.fit`, or before it those that it
            would set on the references, if two or more of them differ.
        by_references: Whether the thresholds, ``calibration`` and ``peaks`` are of the references.
        peaks: The highest map value of each image that ``calibration`` has a score of; None if
            there are no thresholds, and from a file that does not tell them.
        fitted_on: What tells the images of ``fit`` from others, as far as known.
    """

    texts: Mapping[Hashable, TextVectors] = field(default_factory=dict)
    references: ReferenceImages | None = None
    thresholds: Thresholds | None = None
    by_references: bool = False
    peaks: Scores | None = None
    fitted_on: frozenset[str] = frozenset()

    @property
    def identities(self) -> frozenset[str]:
        """Those of the images of ``fit`` and of the references."""
        return self.fitted_on | (self.references.identities if self.references else frozenset())

    @cached_property
    def sizes(self) -> frozenset[Size]:
        """(height, width) of the images of ``fit`` and of the references."""
        known = self.references
        own = known.bank.images if isinstance(known, References) else ()
        return super().sizes | {image.size for image in own}

    def stored(self) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint keeps: the only text vectors, thresholds and references."""
        (text,) = self.texts.values()
        named = {f"text_defect_{name}": vector for name, vector in text.defects.items()}
        peaks: Arrays = {} if self.peaks is None else {PEAKS: self.peaks}
        arrays: Arrays = {
            "text_normal": text.normal,
            "text_anomaly": text.anomaly,
            **named,
            **peaks,
        }
        facts: dict[str, Any] = {}
        if self.thresholds is not None:
            facts = {THRESHOLDS: self.thresholds._asdict(), FITTED_ON: sorted(self.fitted_on)}
        if self.references is None:
            return arrays, facts
        rows, more = self.references.stored()
        return {**arrays, **rows}, {**facts, **more, BY_REFERENCES: self.by_references}


class Gathered(NamedTuple):
    """References that have been read.

    Attributes:
        references: The references.
        by_text: Scores of each by the texts alone.
        roll: What else is kept of each.
    """

    references: ReferenceImages
    by_text: list[ImageScores]
    roll: Roll


@dataclass(kw_only=True, eq=False, repr=False)
class VisionOpenCLIPPromptScore(CalibratedDetector):
    """Zero-shot detector: patches are anomalous when closer to the damaged text than to the normal.

    Without a ``recipe`` the method is our own, put together from published parts; no figure of a
    paper is to be expected of it. The states x templates, the two-class softmax and the idea of
    references are WinCLIP's (Jeong et al., CVPR 2023), the value attention of the side path is CLIP
    Surgery's (Li et al., 2023). Ours are the words, the sums over stages, the image score, which is
    the mean of that of the whole image and of the hottest patches, and the tokens of references.
    :meth:`fit` is optional; on normal images it only sets the thresholds.

    With ``recipe="winclip"`` scores and maps are those of WinCLIP, or of WinCLIP+ with
    ``references``; its published figures are those of ViT-B-16-plus-240 with the weights
    laion400m_e31. As published, and only here, a reference that is scored finds itself; thresholds
    from references come from each compared with the others. With ``recipe="clip-surgery"`` they are
    those of CLIP Surgery's official code, shown there with CLIP's ViT-B/16, ViT-B-16-quickgelu with
    the weights openai, on an intact and a damaged object; its paper has no figures on anomalies.

    With ``roi``, the image score is that of the patches inside alone, without the embedding of the
    whole image. ``windows`` and recipes look at whole images and cannot be combined with it.

    The aspect ratio that images are resized to is that of the images passed to :meth:`fit`, or of
    the references. Without either, it is chosen from the first images scored (while streaming, the
    first 64) and kept, so that scores stay comparable; if those may not be typical, fit the
    detector, pass ``force_image_size=(height, width)``, or use ``resize="squash"``.

    Args:
        embedder: Object with ``embed(image) -> (patches (N, D), (rows, cols), (H, W))`` to use
            instead of an open_clip model.
        class_name: What the images show, in plain words: ``"screw"``, ``"leather"``.
        text_prompts: ``{"normal": [...], "anomaly": [...]}``, whole sentences instead of states
            and templates; ``{}`` stands for the class name.
        normal_states: Phrases such as ``"flawless {}"``; None for the built-in ones.
        anomalous_states: Phrases such as ``"{} with a hole"``; None for the built-in ones.
        templates: Sentences to fill with each state, such as ``"a photo of a {}."``; None for the
            built-in ones.
        defects: Defects to look for and to tell apart in :meth:`explain`: their names, or a mapping
            from names to phrases such as ``"{} with a scratch"``. The hottest region gets the name
            of the one that the whole image resembles, only where it leads clearly: by 0.5 of
            probability over the next. A single defect is looked for, but leads no other, so that no
            region gets its name.
        references: A few normal images, paths or arrays, to compare with in addition to the texts;
            needs ``mode="probability"``. Without a recipe, a reference that is scored is compared
            with the other references only; it is recognised by what it shows, as a
            file, a copy, an array or a Pillow image. See also :meth:`fit`. Those in a checkpoint
            are no argument: ``clone()`` of a loaded detector has none.
        text_features_normal: Text vector of normal objects, shape (D,), instead of sentences; both
            are required with a custom embedder.
        text_features_anomaly: Text vector of anomalous objects, shape (D,), instead of sentences.
        openclip_model_name: Name of an open_clip model, ``"local-dir:DIR"``,
            ``"hf-hub:ORG/REPO"``, or ``"bundled"`` for the tiny model in this package.
        openclip_pretrained: Tag of open_clip weights or path of a weights file; None for random
            weights.
        pretrained: If False, no weights are downloaded; a model that would need a download gets
            random weights.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, ..., or ``"auto"`` for CUDA if
            available, else Apple's MPS, else the CPU.
        force_image_size: Input size of the tower in pixels, one side or (height, width); None for
            its own.
        resize: ``"keep"`` resizes all images to one aspect ratio, the median of those passed to
            :meth:`fit`; ``"squash"`` resizes them to a square.
        max_tokens: Maximum number of patches that the tower sees at once, or through a window;
            None for four times its own number.
        smallest_defect: Side in pixels of the smallest defect to find, in images of the usual size
            (the median of those that choose the canvas; in an image of twice that size it is twice
            as large). The resolution follows: a patch covers two thirds of its side, so that such a
            defect fills most of one wherever it lies. What the tower cannot see at once it sees as
            a whole and through overlapping windows of its own size (``force_image_size``); scores
            come from both, and the time follows the number of windows, which the representation
            tells. None to show each image to the tower at once.
        roi: Where to look: a mask as a path or an array (H, W), inside where it is at least half as
            bright as its brightest pixel, and where it is not transparent; a folder with a mask for
            each image, of its name or with ``_mask`` behind it; a box (left, top, right, bottom), a
            polygon [(x, y), ...], or a list of these: in pixels, for images of the sizes that were
            learnt from only, or in shares of the sides if all numbers are in [0, 1] and one is a
            float. A patch counts if half of it is inside; a part that holds half of none counts
            with all that it touches. The others count neither in what is learnt nor in scores and
            regions; the map is 0 there, or as low as it gets if it has values below 0. The tower
            sees one colour outside, whatever is there (but a custom embedder sees whole images),
            and looks only through windows that show something inside. None for everywhere.
        attention: Side path of the patch tokens: ``"vv"``, ``"qq"``, ``"kk"``, or ``"none"`` for
            the plain last tokens; ``"auto"`` is ``"vv"`` if the tower has a side path.
        stages: Number of depths at which the side path is read.
        windows: Window sizes in patches, such as (2, 3), to score WinCLIP's windows instead of
            patches; slow, and only with ``mode="probability"``.
        mode: What patches score. ``"probability"``: in (0, 1), 0.5 where neither text is closer.
            ``"diff"``: difference of the cosines, in [-2, 2]. ``"ratio"``: share of the anomalous
            similarity, in [0, 1].
        recipe: None for our own method; ``"winclip"`` or ``"clip-surgery"`` for that one as
            published. It fixes texts, tower input (a square), side path or windows, mode and
            aggregation; an argument that contradicts it raises an error. The model and its input
            size stay free. Maps of a recipe are interpolated, not smoothed.
        aggregation_method: How the image score is computed from patch scores: ``"topk_mean"``,
            ``"max"`` or ``"mean"``.
        aggregation_topk: Share of the patches that ``"topk_mean"`` averages, in (0, 1]; None for
            the 2 hottest, whatever the grid.
        contamination: Accepted share of normal images above the threshold, in (0, 0.5].
        confidence: How sure that share is, in [0.5, 1): with 0.95 at most that share of new normal
            images is flagged by 95 % of all detectors that are fitted like this one. None for that
            share on average. No effect on a threshold by ``use_pot_thresholding()``.
        batch_size: Maximum number of images per pass; None to choose by device. On a CPU in
            float32, scores differ by less than 1e-6 between batches of different sizes, since
            matrix products of different shapes are summed in a different order.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"`` for bfloat16 if the
            hardware supports it, else float32.
        random_seed: Seed of whatever is random: the weights of an untrained model, the coreset of a
            memory bank.
        channel_order: Channel order of arrays and tensors: ``"rgb"``, or ``"bgr"`` as OpenCV reads
            them. Files are not affected. Can be changed at any time.
        on_error: How to handle unreadable images during scoring: ``"raise"`` a ValueError, or
            ``"nan"`` to set their scores and maps to NaN and their labels to 1, with one warning
            that counts them. Unreadable images to learn from always raise. Can be changed at any
            time; not saved in checkpoints. ``pyimgano-infer`` compares scores with the threshold
            itself, so that it labels NaN with 0: leave it at ``"raise"`` there.

    Raises:
        ValueError: If an argument is out of range or contradicts another, or the model's patches
            cannot be compared with texts.
        ImportError: If open_clip is needed but not installed.
    """

    class_name: str = "object"
    text_prompts: Mapping[str, Sequence[str]] | None = None
    normal_states: Sequence[str] | None = None
    anomalous_states: Sequence[str] | None = None
    templates: Sequence[str] | None = None
    defects: Defects | None = None
    references: Sequence[Item] | None = None
    text_features_normal: npt.ArrayLike | None = None
    text_features_anomaly: npt.ArrayLike | None = None
    attention: Attention = "auto"
    stages: int = 4
    windows: Sequence[int] = ()
    mode: Mode = "probability"
    # Ours: side paths are far ahead of WinCLIP's windows in maps, and no mixture of them wins
    # throughout; see "Which should be the default" in tests/benchmarks/README.md.
    recipe: RecipeName | None = None

    registry_tags: ClassVar[tuple[str, ...]] = (*TAGS, "zero-shot", "prompt")
    registry_metadata: ClassVar[Mapping[str, Any]] = {
        **METADATA,
        "description": "Zero-shot: compares OpenCLIP patch tokens with texts about normal and "
        "damaged objects; image scores and anomaly maps",
        "paper": "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation",
        "year": 2023,
        "supervision": "zero-shot",
    }

    def __post_init__(self) -> None:
        self._recipe = recipe_named(self.recipe)
        check_choice("mode", self.mode, MODES)
        check_choice("attention", self.attention, ATTENTIONS)
        self._put("windows", check_windows(self.windows))
        if self.windows and self.mode != "probability":
            raise ValueError(f"windows={self.windows} need mode='probability', not {self.mode!r}.")
        if self.windows and self.roi is not None:
            raise ValueError(f"windows={self.windows} reach beyond roi=; leave out one of them.")
        self._use_as_references(self.references)
        in_force = self._in_force
        self._wording = Wording(**{name: in_force[name] for name in Wording._fields})
        super().__post_init__()
        self._learnt: Taught = Taught()
        self._own_text = self._check_text_features()
        self.set_class_name(self.class_name)

    def set_class_name(self, class_name: str) -> VisionOpenCLIPPromptScore:
        """Switch to another kind of object.

        Texts that were already encoded and the thresholds of an earlier :meth:`fit`, or of the
        references in a checkpoint, are kept, while ``set_params(class_name=...)`` discards them.
        Training scores are those of the former class, so that they are forgotten, and nothing is
        promised of the thresholds until :meth:`fit`.

        Args:
            class_name: What the images show: ``"screw"``, ``"leather"``.

        Raises:
            ValueError: If the name is empty, not a string, or does not fit the prompts.
        """
        if not isinstance(class_name, str) or not class_name.strip():
            raise ValueError(f"class_name={class_name!r}; it must be a word such as 'screw'.")
        prompts = self._wording.prompts_for(class_name)
        with self._lock:
            if class_name != self.class_name:
                self._forget_thresholds_of_references()
                self._forget("decision_scores_", "labels_", "pot_info_")
                self._learnt = replace(self._learnt, calibration=None, peaks=None)
            self._prompts = prompts
            self._put("class_name", class_name)
        return self

    def _change(self, name: str, value: Any) -> None:
        if name == "class_name":
            raise AttributeError("class_name cannot be assigned; use set_class_name().")
        super()._change(name, value)

    def _forget_thresholds_of_references(self) -> None:
        """Read the references again when the thresholds are wanted that follow from them."""
        with self._lock:
            if self._learnt.by_references:
                read_again = {"references": None, **NOT_SETTLED}
                # Those of a checkpoint cannot be, so that its thresholds stay, and promise nothing.
                more = read_again if self._reference_items else {"calibration": None, "peaks": None}
                self._learnt = replace(self._learnt, **more)

    def _thresholds_follow(self) -> None:
        super()._thresholds_follow()
        learnt = self._learnt
        if learnt.by_references:
            self._learnt = self._following(learnt)
            self._tell_few(self._calibration())

    def fit(
        self,
        x: object = None,
        y: object = None,
        *,
        X: object = None,
        groups: object = None,
        use_as_references: bool = False,
    ) -> VisionOpenCLIPPromptScore:
        """Set the thresholds on normal images, and optionally use them as references.

        The aspect ratio that images are resized to is chosen from these images, unless there are
        references from a checkpoint, whose aspect ratio is kept.

        Args:
            x: Images in any form that the README names, in a list or one stacked array
                (N, H, W, 3), or the path of a folder of them.
            y: Ignored; all images are assumed to be normal.
            X: Alias for ``x``.
            groups: What tells the parts that images show, one for each image. Each part counts as
                much as any other, and references of one part are not compared with each other.
                Without, or if each image has a group of its own, a warning says so where images
                seem to be shots of the same parts, and those of one part count as one.
            use_as_references: Whether to use the images as ``references``, replacing earlier ones.

        Returns:
            The detector itself, unchanged if anything fails or is interrupted.

        Raises:
            ValueError: If there is no image, one cannot be read, or ``mode`` does not support
                references.
        """
        if not use_as_references:
            return super().fit(x, y, X=X, groups=groups)
        items = as_items(one_of(x, X))
        self._check_references()
        with out_of_memory_explained(f"what is learnt from {len(items)} images"):
            told = told_groups(groups, len(items))
            canvas = self._embedder.choose_canvas(items)
            lesson = self._learn_references(items, canvas, "x", told)
        with self._lock:
            self._take_over(lesson)
            self._use_as_references(items)
        tell_learnt(self)
        return self

    def read_references(self) -> VisionOpenCLIPPromptScore:
        """Read the ``references`` now, instead of with the first image that is scored.

        With two or more of them, copies counted once, and before :meth:`fit`, this sets the
        thresholds, as if they were fitted, and :meth:`promise` tells of them. Without references,
        or once they have been read, it does nothing.

        Raises:
            ValueError: If one of them cannot be read.
        """
        with self._lock:
            before, items = self._learnt, self._reference_items
            if not items or before.references is not None:
                return self
            canvas = before.canvas
            if canvas is None:
                canvas = self._embedder.choose_canvas(items, argument="references")
            lesson = self._learn_references(items, canvas, "references")
            learnt, known = cast(Taught, lesson.learnt), cast(Calibration, lesson.calibration)
            if before.thresholds is not None:
                kept = {name: getattr(before, name) for name in (*NOT_SETTLED, "fitted_on")}
                self._learnt = replace(learnt, **kept)
            elif len(known.scores) == 1:
                self._learnt = replace(learnt, **NOT_SETTLED)
            else:
                self._tell_few(known)
                self._learnt = replace(learnt, calibration=known, by_references=True)
        return self

    def label_threshold(self) -> float:
        """Image score above which :meth:`predict` returns 1.

        Before :meth:`fit`, two or more different ``references`` set it as if they were fitted.
        Otherwise it is the neutral score, where neither text is closer: 0.5, or 0 with
        ``mode="diff"``; with a single reference that is too high for most damage.

        Raises:
            RuntimeError: If references set it that have not been read yet.
        """
        with self._lock:
            if hasattr(self, "threshold_"):
                return float(self.threshold_)
            settled = self._settled()
            return NEUTRAL[self.mode_in_force] if settled is None else settled.label

    def region_threshold(self) -> float:
        """Map value that a pixel has to exceed to be hot in :meth:`explain`.

        After :meth:`fit` it is the quantile of the training maps' peaks, as ``threshold_`` is that
        of the training scores. Before, it is set as :meth:`label_threshold` is.

        Raises:
            RuntimeError: If references set it that have not been read yet.
        """
        settled = self._settled()
        return NEUTRAL[self.mode_in_force] if settled is None else settled.region

    def region_share(self) -> float:
        """0, since :meth:`region_threshold` is set apart from ``threshold_``."""
        return 0.0

    @property
    def _in_force(self) -> Mapping[str, Any]:
        """The arguments of which the method is made, with those that the recipe fixes."""
        defaults = {known.name: known.default for known in fields(self)}
        return self._recipe.in_force(self.get_params(deep=False), defaults)

    @property
    def mode_in_force(self) -> Mode:
        """``mode``, or that of the recipe."""
        return self._in_force["mode"]

    def _settled(self) -> Thresholds | None:
        with self._lock:
            learnt = self._learnt
            unread = learnt.references is None and len(self._reference_items) > 1
            if learnt.thresholds is None and unread:
                raise RuntimeError(
                    "The references set the threshold, but have not been read yet; score an image, "
                    "or call read_references() or fit()."
                )
            return learnt.thresholds

    def _largest_score(self, learnt: Taught) -> float:  # noqa: ARG002 - it has no part in it
        return of_mode(self.mode_in_force)

    def _check_text_features(self) -> TextVectors | None:
        normal, anomaly = self.text_features_normal, self.text_features_anomaly
        if (normal is None) != (anomaly is None):
            missing = "text_features_normal" if normal is None else "text_features_anomaly"
            raise ValueError(f"{missing} is missing; pass both text features or neither.")
        if normal is None or anomaly is None:
            if self.embedder is not None:
                raise ValueError(
                    "A custom embedder needs text_features_normal and text_features_anomaly, since "
                    "its text encoder is unknown."
                )
            return None
        words = ("text_prompts", "normal_states", "anomalous_states", "templates", "defects")
        if given := [name for name in words if getattr(self, name) is not None]:
            raise ValueError(
                f"{given[0]} are sentences to encode; text features leave no room for them."
            )
        return text_vectors(normal, anomaly)

    def _calibration(self) -> Calibration:
        learnt = self._learnt
        if learnt.by_references and learnt.calibration is not None:
            return learnt.calibration
        if not hasattr(self, "decision_scores_"):
            self._settled()  # raises if references have to be read first
        return super()._calibration()

    def _use_as_references(self, given: Sequence[Item] | None) -> None:
        """Keep references as they are given, so that the detector can be cloned, and as a list."""
        items = [] if given is None else as_items(given, "references")
        if items:
            self._check_references()
        self._put("references", items if isinstance(given, Iterator) else given)
        self._reference_items = items

    def _check_references(self) -> None:
        if self.mode_in_force != "probability":
            raise ValueError(f"references need mode='probability', not {self.mode_in_force!r}.")

    def _embedder_settings(self) -> dict[str, Any]:
        names = ("attention", "stages", "windows", "resize")
        settings = {name: self._in_force[name] for name in names}
        return {"tokens": "aligned", **settings, **self._recipe.embedder}

    def _settings_of_no_score(self) -> frozenset[str]:
        # stored in the file in any case
        return frozenset({"text_features_normal", "text_features_anomaly", "references"})

    def _live_settings(self) -> frozenset[str]:
        if all(in_rgb(item, "bgr") is item for item in self._reference_items):
            return super()._live_settings()
        return super()._live_settings() - {"channel_order"}  # in which they are read as well

    def _ready(self, items: Sequence[Item]) -> Taught:
        """What has been learnt, with the references read and the texts encoded."""
        with self._lock:
            self.read_references()
            learnt = self._learnt = self._with_text(super()._ready(items))
            return learnt

    @property
    def _text_key(self) -> Hashable:
        """What text vectors are known by: own ones are the same for all prompts."""
        return self._prompts.key if self._own_text is None else None

    def _encode_text(self) -> TextVectors:
        if self._own_text is not None:
            return self._own_text
        prompts = self._prompts
        normal, anomaly, *kinds = self._embedder.encode_ensembles(
            [prompts.normal, prompts.anomaly, *prompts.defects.values()],
            scaled=self._recipe.scaled_texts,
        )
        return text_vectors(normal, anomaly, dict(zip(prompts.defects, kinds, strict=True)))

    def _scorer(self, learnt: Taught) -> PromptScorer:
        in_force = self._in_force
        return self._recipe.scorer(
            learnt.texts[self._text_key],
            in_force["mode"],
            in_force["aggregation_method"],
            in_force["aggregation_topk"],
            learnt.references,
        )

    def _with_text(self, learnt: Taught) -> Taught:
        """The same with the text vectors of the current class, which are encoded once."""
        if self._text_key in learnt.texts:
            return learnt
        return replace(learnt, texts={**learnt.texts, self._text_key: self._encode_text()})

    def _learn(self, items: Sequence[Item], groups: tuple[str, ...] | None) -> Lesson:
        with self._lock:
            learnt, references = self._with_text(self._learnt), self._reference_items
            scorer = replace(self._scorer(learnt), references=None)
        kept = learnt.references  # those of a checkpoint exist on one canvas only
        canvas = learnt.canvas if not references and kept else self._embedder.choose_canvas(items)
        if references and (kept is None or canvas != learnt.canvas):
            kept = self._gather(references, canvas, scorer, "references").references
        scorer = replace(scorer, references=kept)
        roll = Roll(with_features=scorer.with_features)
        beside = replace(learnt, references=kept, whole=None).sizes
        with closing(self._read(items, canvas, "x", beside)) as images:
            scored = [scorer(patches) for patches in images if roll.add(patches)]
        tell_copies(items, roll.given)
        relatives = roll.relatives(groups)
        relatives.tell(compared=False)
        copies = relatives.copies(roll.sketches, roll.grids)
        whole = Whole.of(roll.portraits, relatives.left_out(copies, roll.sketches))
        seen = frozenset(roll.identities)
        learnt = replace(learnt, canvas=canvas, references=kept, whole=whole, fitted_on=seen)
        return self._lesson(
            learnt, scored, roll.given, roll.trusted(copies), relatives.parts(len(scored))
        )

    def _learn_references(
        self,
        items: Sequence[Item],
        canvas: Size | None,
        argument: str,
        groups: tuple[str, ...] | None = None,
    ) -> Lesson:
        """Use images as references, each of which is compared with the others."""
        with self._lock:
            learnt = self._with_text(self._learnt)
            scorer = replace(self._scorer(learnt), references=None)
        read, by_text, roll = self._gather(items, canvas, scorer, argument)
        relatives = roll.relatives(groups)
        parts = relatives.parts(len(by_text))
        if not all_copies(read.copies):
            relatives.tell(compared=False)
        own = None if parts is None else tuple(map(str, parts.tolist()))
        references = read.grouped(relatives.told or own)
        scored = [
            scorer.with_distance(scores, references.own_distance(number))
            for number, scores in enumerate(by_text)
        ]
        whole = Whole.of(roll.portraits, references.near)
        learnt = replace(
            learnt, canvas=canvas, references=references, whole=whole, fitted_on=frozenset()
        )
        return self._lesson(learnt, scored, roll.given, references.copies, parts)

    def _gather(
        self, items: Sequence[Item], canvas: Size | None, scorer: PromptScorer, argument: str
    ) -> Gathered:
        """Read the references."""
        by_text, roll = list[ImageScores](), Roll()

        def once(images: Iterable[PatchTokens]) -> Iterator[PatchTokens]:
            for patches in filter(roll.add, images):
                by_text.append(scorer.by_text(patches))
                yield patches

        with closing(self._read(items, canvas, argument)) as images:
            references = self._recipe.references.of_images(once(images))
        tell_copies(items, roll.given, argument=argument)
        return Gathered(references, by_text, roll)

    def _read(
        self,
        items: Sequence[Item],
        canvas: Size | None,
        argument: str,
        beside: frozenset[Size] = frozenset(),
    ) -> Generator[PatchTokens, None, None]:
        """The tokens of each image, in one pass; ``beside`` are the sizes of references."""
        in_order = [in_rgb(item, self.channel_order) for item in items]
        outcomes = outcomes_within(self._embedder, self._roi, in_order, canvas, with_features=True)
        in_turn = noticed(or_raise(outcomes, argument), items, self._roi, beside)
        with closing(outcomes), closing(in_turn) as stream:
            yield from bar("encoding", "image", total=len(items), items=stream)

    def _lesson(
        self,
        learnt: Taught,
        scored: Sequence[ImageScores],
        given: Sequence[int],
        copies: Sequence[Indices],
        parts: Indices | None,
    ) -> Lesson:
        """What follows from the scores of images, and from which of them each item is.

        Args:
            learnt: What has been learnt but the thresholds.
            scored: Scores of the images, each once.
            given: Index of the image that each item is.
            copies: For each image, itself and its near copies; the highest values of them count.
            parts: The part that each image shows; None if each shows another.
        """
        scores = image_scores(scored)
        every = np.array([found.anomaly_map().max() for found in scored], dtype=np.float64)
        apart = distinct(copies, scores)
        peaks = np.array([every[copies[image]].max() for image in apart])
        known = Calibration.of(scores[apart], None if parts is None else parts[apart])
        thresholds = self._thresholds(known, peaks)
        learnt = replace(learnt, thresholds=thresholds, by_references=False, peaks=peaks)
        return Lesson(learnt, scores[list(given)], known)

    def _thresholds(self, known: Calibration, peaks: Scores) -> Thresholds:
        """What follows from the scores of images and the highest values of their maps."""
        label, _ = threshold_from(self, known, self.confidence)
        of_peaks = known._replace(scores=peaks)
        return Thresholds(label, upper_quantile(of_peaks, self.contamination, self.confidence))

    def _process_decision_scores(self) -> Self:
        with self._lock:
            super()._process_decision_scores()
            self._learnt = self._following(self._learnt)
        return self

    def _following(self, learnt: Taught) -> Taught:
        """The same with the thresholds that follow now, as far as their scores are known."""
        if learnt.peaks is None:
            return learnt
        return replace(learnt, thresholds=self._thresholds(self._calibration(), learnt.peaks))

    def _to_save(self) -> Taught:
        with self._lock:
            learnt = self._ready([])
            return replace(learnt, texts={None: learnt.texts[self._text_key]})

    def _from_checkpoint(self, checkpoint: Checkpoint, canvas: Size | None) -> Taught:
        normal, anomaly = (_text_vector(checkpoint, side) for side in ("normal", "anomaly"))
        named = {name: _text_vector(checkpoint, f"defect_{name}") for name in self._prompts.defects}
        text = TextVectors(normal, anomaly, named)
        if self._own_text is not None:
            self._expect_text(checkpoint, text)
        facts = dict(checkpoint.header["state"])
        saved, by_references = facts.pop(THRESHOLDS, None), facts.pop(BY_REFERENCES, False)
        fitted_on = as_identities(facts.pop(FITTED_ON, None))
        thresholds = None if saved is None else Thresholds(**saved)
        for threshold in thresholds or ():
            check_number("thresholds", threshold, above=-math.inf, most=sys.float_info.max)
        references = self._recipe.references.restored(checkpoint) if facts else None
        texts, peaks = {self._text_key: text}, saved_peaks(checkpoint)
        by_references = by_references is True and peaks is not None
        return Taught(canvas, texts, references, thresholds, by_references, peaks, fitted_on)

    def _expect_text(self, checkpoint: Checkpoint, saved: TextVectors) -> None:
        """Raise an error unless the saved text vectors are this detector's own."""
        for side in ("normal", "anomaly"):
            found, own = getattr(saved, side), getattr(self._own_text, side)
            if found.shape != own.shape or not np.allclose(found, own, rtol=0, atol=SAME_TEXT):
                raise CheckpointError(
                    f"{checkpoint.path} was saved with another text_features_{side} than this "
                    "detector has. Create the detector with the saved one, or save it again."
                )

    def _restore(self, checkpoint: Checkpoint) -> VisionOpenCLIPPromptScore:
        with self._lock:
            super()._restore(checkpoint)
            self._use_as_references(None)  # those of the checkpoint take their place
        return self

    def _learnt_facts(self) -> dict[str, str]:
        facts = {"class": self.class_name, **super()._learnt_facts()}
        known = self._learnt.references
        count = len(self._reference_items) if known is None else len(known.copies)
        if count:
            facts["references"] = f"{count} images"
        if hasattr(self, "threshold_"):
            return facts
        if self._learnt.thresholds is None and known is None and count > 1:
            return {**facts, "threshold": "from the references"}
        return {**facts, "threshold": f"{self.label_threshold():.4g}"}

    def __sklearn_is_fitted__(self) -> bool:
        """True: it needs no images."""
        return True

    @property
    def map_smoothing(self) -> float:
        """Standard deviation of the Gaussian of anomaly maps in patches; 0 with a recipe."""
        return self._recipe.scorer.smoothing

    def _names(self, scorer: PromptScorer) -> bool:
        return bool(scorer.text.defects)

    def _name_regions(
        self, regions: list[Region], patches: PatchTokens, scorer: PromptScorer
    ) -> list[Region]:
        """Name the hottest region by the defect that the image resembles, if one leads clearly."""
        return named(regions, [*scorer.text.defects], scorer.names_of(patches))


def _text_vector(checkpoint: Checkpoint, name: str) -> Floats:
    return checkpoint.unit_vectors(f"text_{name}", 1, "float32")
