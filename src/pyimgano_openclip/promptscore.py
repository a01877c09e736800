"""Zero-shot detector: compares patch tokens with texts about normal and damaged objects."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Hashable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from .checkpoint import Checkpoint, CheckpointError
from .checks import check_choice, check_number, one_of
from .detector import (
    DEFAULT_MODEL,
    DEFAULT_PRETRAINED,
    METADATA,
    TAGS,
    OpenCLIPDetector,
)
from .embedding import (
    ATTENTIONS,
    Attention,
    Floats,
    InjectedEmbedder,
    PatchEmbedder,
    PatchTokens,
    Precision,
    Size,
)
from .gaps import OnError
from .items import ChannelOrder, Item, as_items
from .maps import Aggregation, ImageScores
from .memory_bank import MemoryBank
from .progress import bar
from .prompt_scoring import (
    MODES,
    NEUTRAL,
    TEMPERATURE,
    Mode,
    PromptScorer,
    TextVectors,
    Thresholds,
    prompt_patch_scores,
    text_vectors,
)
from .prompts import Defects, Wording
from .references import References, gather_references
from .saving import as_canvas
from .scoring import Labels, Scorer, Scores
from .tensor_file import Arrays
from .tower_settings import check_windows

if TYPE_CHECKING:
    from .regions import Region

__all__ = ["VisionOpenCLIPPromptScore", "prompt_patch_scores"]

COMPARABLE = {"with_features": True}  # also return tokens to compare with references


class VisionOpenCLIPPromptScore(OpenCLIPDetector):
    """Zero-shot detector: patches are anomalous when closer to the damaged text than to the normal.

    The image score is the mean of the score of the whole image's embedding and that of the highest
    patches (WinCLIP, Jeong et al., CVPR 2023); the patch tokens come from a side path of value
    attention (see ``towers/side_path.py``). :meth:`fit` is optional; on normal images it only sets
    the thresholds. With a few normal images as references, half of each score is the distance to
    them (WinCLIP+).

    Args:
        embedder: Object with ``embed(image) -> (patches (N, D), (rows, cols), (H, W))`` to use
            instead of an open_clip model; both text features are then required.
        class_name: What the images show, in plain words: ``"screw"``, ``"leather"``.
        text_prompts: ``{"normal": [...], "anomaly": [...]}``, whole sentences instead of states
            and templates; ``{}`` stands for the class name.
        normal_states: Phrases such as ``"flawless {}"``; None for the built-in ones.
        anomalous_states: Phrases such as ``"{} with a hole"``; None for the built-in ones.
        templates: Sentences to fill with each state, such as ``"a photo of a {}."``; None for the
            built-in ones.
        defects: Defects to look for and to tell apart in :meth:`explain`: their names, or a mapping
            from names to phrases such as ``"{} with a scratch"``.
        references: A few normal images, paths or arrays, to compare with in addition to the texts;
            needs ``mode="probability"``. A reference that is scored is compared with the other
            references only; files are recognised by path, size and modification time, arrays by
            content. References loaded from a checkpoint are not recognised, so do not score those
            images. See also :meth:`fit`.
        text_features_normal: Text vector of normal objects, shape (D,), instead of sentences.
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
        resize: ``"keep"`` resizes all images to the median aspect ratio of those passed to
            :meth:`fit`, or of the references. Without either, it is chosen from the first images
            scored (while streaming, the first 64) and kept, so that scores stay comparable; if
            those may not be typical, fit the detector, pass ``force_image_size=(height, width)``,
            or use ``"squash"``, which resizes all images to a square.
        max_tokens: Maximum number of patches per image; None for four times the tower's own number.
        attention: Side path of the patch tokens: ``"vv"``, ``"qq"``, ``"kk"``, or ``"none"`` for
            the plain last tokens; ``"auto"`` is ``"vv"`` if the tower has a side path.
        stages: Number of depths at which the side path is read.
        windows: Window sizes in patches, such as (2, 3), to score WinCLIP's windows instead of
            patches; slow, and only with ``mode="probability"``.
        mode: ``"probability"``: scores in (0, 1), 0.5 where neither text is closer. ``"diff"``:
            difference of the cosines, in [-2, 2]. ``"ratio"``: share of the anomalous similarity,
            in [0, 1].
        aggregation_method: How the image score is computed from patch scores: ``"topk_mean"``,
            ``"max"`` or ``"mean"``.
        aggregation_topk: Share of the patches that ``"topk_mean"`` averages, in (0, 1].
        contamination: Accepted share of normal images above the fitted threshold, in (0, 0.5].
        batch_size: Maximum number of images per pass; None to choose by device. On a CPU in
            float32, scores differ by less than 1e-6 between batches of different sizes, since
            matrix products of different shapes are summed in a different order.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"`` for bfloat16 if the
            hardware supports it, else float32.
        random_seed: Seed of random weights.
        channel_order: Channel order of arrays and tensors: ``"rgb"``, or ``"bgr"`` as OpenCV reads
            them. Files are not affected.
        on_error: How to handle unreadable images during scoring: ``"raise"`` a ValueError, or
            ``"nan"`` to set their scores and maps to NaN and their labels to 1, with one warning
            that counts them. Unreadable training images and references always raise. Can be changed
            at any time; not saved in checkpoints.

    Raises:
        ValueError: If an argument is out of range or contradicts another, or the model's patches
            cannot be compared with texts.
        ImportError: If open_clip is needed but not installed.
    """

    registry_tags: ClassVar[tuple[str, ...]] = (*TAGS, "zero-shot", "prompt")
    registry_metadata: ClassVar[Mapping[str, Any]] = {
        **METADATA,
        "description": "Zero-shot: compares OpenCLIP patch tokens with texts about normal and "
        "damaged objects; image scores and anomaly maps",
        "paper": "WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation",
        "year": 2023,
        "supervision": "zero-shot",
    }

    def __init__(
        self,
        *,
        embedder: PatchEmbedder | None = None,
        class_name: str = "object",
        text_prompts: Mapping[str, Sequence[str]] | None = None,
        normal_states: Sequence[str] | None = None,
        anomalous_states: Sequence[str] | None = None,
        templates: Sequence[str] | None = None,
        defects: Defects | None = None,
        references: Sequence[Item] | None = None,
        text_features_normal: npt.ArrayLike | None = None,
        text_features_anomaly: npt.ArrayLike | None = None,
        openclip_model_name: str = DEFAULT_MODEL,
        openclip_pretrained: str | os.PathLike[str] | None = DEFAULT_PRETRAINED,
        pretrained: bool = True,
        device: str = "auto",
        force_image_size: int | Size | None = None,
        resize: Literal["keep", "squash"] = "keep",
        max_tokens: int | None = None,
        attention: Attention = "auto",
        stages: int = 4,
        windows: Sequence[int] = (),
        mode: Mode = "probability",
        aggregation_method: Aggregation = "topk_mean",
        aggregation_topk: float = 0.03,
        contamination: float = 0.1,
        batch_size: int | None = None,
        precision: Precision = "auto",
        random_seed: int = 0,
        channel_order: ChannelOrder = "rgb",
        on_error: OnError = "raise",
    ) -> None:
        check_choice("mode", mode, MODES)
        check_choice("attention", attention, ATTENTIONS)
        windows = check_windows(windows)
        if windows and mode != "probability":
            raise ValueError(f"windows={windows} need mode='probability', not {mode!r}.")
        if references is not None:
            references = self._check_references(references, mode)
        self._wording = Wording(text_prompts, normal_states, anomalous_states, templates, defects)
        super().__init__(
            tokens="aligned",
            embedder=embedder,
            openclip_model_name=openclip_model_name,
            openclip_pretrained=openclip_pretrained,
            pretrained=pretrained,
            device=device,
            force_image_size=force_image_size,
            resize=resize,
            max_tokens=max_tokens,
            batch_size=batch_size,
            precision=precision,
            contamination=contamination,
            aggregation_method=aggregation_method,
            aggregation_topk=aggregation_topk,
            random_seed=random_seed,
            channel_order=channel_order,
            on_error=on_error,
            attention=attention,
            stages=stages,
            windows=windows,
        )
        self.text_prompts = text_prompts
        self.normal_states = normal_states
        self.anomalous_states = anomalous_states
        self.templates = templates
        self.defects = defects
        self.references = references
        self._gathered: tuple[Size | None, References] | None = None
        self._thresholds: Thresholds | None = None
        self._of_references: tuple[Scorer, Thresholds] | None = None
        self.text_features_normal = text_features_normal
        self.text_features_anomaly = text_features_anomaly
        self.attention = attention
        self.stages = stages
        self.windows = windows
        self.mode = mode
        self._text_cache: dict[tuple[object, ...], TextVectors] = {}
        self._own_text = self._check_text_features()
        self.set_class_name(class_name)

    def set_class_name(self, class_name: str) -> VisionOpenCLIPPromptScore:
        """Switch to another kind of object.

        Texts that were already encoded and the thresholds of an earlier :meth:`fit` are kept, while
        ``set_params(class_name=...)`` discards them. Fit again, or set ``threshold_``, if the
        thresholds do not suit the new class.

        Args:
            class_name: What the images show: ``"screw"``, ``"leather"``.

        Raises:
            ValueError: If the name is empty, not a string, or does not fit the prompts.
        """
        if not isinstance(class_name, str) or not class_name.strip():
            raise ValueError(f"class_name={class_name!r}; it must be a word such as 'screw'.")
        self._prompts = self._wording.prompts_for(class_name)
        self.class_name = class_name
        return self

    def fit(
        self,
        x: object = None,
        y: object = None,
        *,
        X: object = None,
        use_as_references: bool = False,
    ) -> VisionOpenCLIPPromptScore:
        """Set the thresholds on normal images, and optionally use them as references.

        The aspect ratio that images are resized to is chosen from these images, unless there are
        references from a checkpoint, whose aspect ratio is kept.

        Args:
            x: Paths, or RGB arrays (H, W, 3) of uint8, or one stacked array (N, H, W, 3).
            y: Ignored; all images are assumed to be normal.
            X: Alias for ``x``.
            use_as_references: Whether to use the images as ``references``, replacing earlier ones.

        Returns:
            The detector itself, unchanged if anything fails or is interrupted.

        Raises:
            ValueError: If there is no image, one cannot be read, or ``mode`` does not support
                references.
        """
        before = dict(self.__dict__)
        items = as_items(one_of(x, X))
        try:
            if use_as_references:
                self.references, self._gathered = self._check_references(items, self.mode), None
            super().fit(items, y)
        except BaseException:
            self.__dict__ = before
            raise
        return self

    def predict(
        self, x: object = None, return_confidence: bool = False, *, X: object = None
    ) -> Labels | tuple[Labels, Scores]:
        """Label images: 1 if the score is above the threshold, else 0.

        Before :meth:`fit`, two or more ``references`` set the threshold as if they were fitted,
        which reads them once more. Otherwise it is the neutral score, where neither text is closer:
        0.5, or 0 with ``mode="diff"``; with a single reference that is too high for most damage.
        The confidence of a label requires :meth:`fit`.
        """
        return super().predict(x, return_confidence, X=X)

    def label_threshold(self) -> float:
        """Image score above which :meth:`predict` returns 1; see there."""
        if hasattr(self, "threshold_"):
            return float(self.threshold_)
        learnt = self._learnt_thresholds()
        return NEUTRAL[self.mode] if learnt is None else learnt.label

    def region_threshold(self) -> float:
        """Map value that a pixel has to exceed to be hot in :meth:`explain`.

        After :meth:`fit` it is the quantile of the training maps' peaks, as ``threshold_`` is that
        of the training scores. Before, as for :meth:`predict`, two or more ``references`` set it;
        otherwise it is the neutral score.
        """
        learnt = self._learnt_thresholds()
        return NEUTRAL[self.mode] if learnt is None else learnt.region

    def _learnt_thresholds(self) -> Thresholds | None:
        """Thresholds of :meth:`fit`, else those it would set on the references, else None."""
        references = self.references or ()
        if self._thresholds is not None or len(references) < 2:
            return self._thresholds
        canvas, scorer = self._frozen(references)
        found = self._of_references
        if found is None or found[0] != scorer:
            _, learnt = self._learn(references, canvas)
            found = self._of_references = scorer, learnt["_thresholds"]
        return found[1]

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

    @property
    def _free_settings(self) -> frozenset[str]:
        # stored in the file in any case
        return frozenset({"text_features_normal", "text_features_anomaly", "references"})

    def _state(self) -> tuple[Arrays, dict[str, Any]]:
        text = self._text()
        named = {f"text_defect_{name}": vector for name, vector in text.defects.items()}
        arrays = {"text_normal": text.normal, "text_anomaly": text.anomaly, **named}
        if self.references is not None:
            self._fix_canvas(self.references)
        learnt = self._learnt_thresholds()
        facts = {} if learnt is None else {"thresholds": learnt._asdict()}
        references = self._references_on(self.canvas_)
        if references is None:
            return arrays, facts
        rows, more = references.bank.state()
        return {**arrays, **rows}, {**facts, **more}

    def _restored(self, checkpoint: Checkpoint) -> dict[str, Any]:
        normal, anomaly = (_text_vector(checkpoint, side) for side in ("normal", "anomaly"))
        named = {name: _text_vector(checkpoint, f"defect_{name}") for name in self._prompts.defects}
        saved, own = TextVectors(normal, anomaly, named), self._own_text
        facts = dict(checkpoint.header["state"])
        saved_thresholds = facts.pop("thresholds", None)
        learnt = None if saved_thresholds is None else Thresholds(**saved_thresholds)
        for threshold in learnt or ():
            check_number("thresholds", threshold, above=-math.inf, most=sys.float_info.max)
        restored: dict[str, Any] = {"references": None, "_gathered": None, "_thresholds": learnt}
        if facts:
            bank = MemoryBank()
            bank.restore(checkpoint)
            restored["_gathered"] = as_canvas(checkpoint.header["canvas"]), References(bank)
        if own is None:
            return {**restored, "_text_cache": {**self._text_cache, self._prompts.key: saved}}
        for side in ("normal", "anomaly"):
            if not np.array_equal(getattr(saved, side), getattr(own, side)):
                raise CheckpointError(
                    f"{checkpoint.path} was saved with another text_features_{side} than this "
                    "detector has. Create the detector with the saved one, or save it again."
                )
        return restored

    def _check_references(self, references: Sequence[Item], mode: str) -> list[Item]:
        if mode != "probability":
            raise ValueError(f"references need mode='probability', not {mode!r}.")
        return as_items(references, "references")

    def _scorer(self, canvas: Size | None) -> PromptScorer:
        return PromptScorer(
            self._text(),
            self.mode,
            self.aggregation_method,
            self.aggregation_topk,
            self._references_on(canvas),
        )

    def _fix_canvas(self, items: Sequence[Item]) -> None:
        references = self.references
        if references is None:
            super()._fix_canvas(items)
            return
        with self._canvas_choice:
            if self.canvas_ is None:
                self.canvas_ = self._embedder.choose_canvas(references, argument="references")

    def _fit_canvas(self, items: Sequence[Item]) -> Size | None:
        """References from a checkpoint exist on one canvas only."""
        if self.references is None and self._gathered is not None:
            return self._gathered[0]
        return super()._fit_canvas(items)

    def _references_on(self, canvas: Size | None) -> References | None:
        """The references on a canvas, gathered once or loaded from a checkpoint."""
        gathered = self._gathered
        if gathered is not None and gathered[0] == canvas:
            return gathered[1]
        if self.references is None:
            return None
        keyed = [(self._content_key(item), item) for item in self.references]
        with closing(self._stream(self.references, canvas, "references")) as images:
            found = gather_references(images, keyed)
        self._gathered = canvas, found
        return found

    def _reading(self) -> dict[str, Any]:
        alone = self.references is None and self._gathered is None
        return {} if alone or isinstance(self._embedder, InjectedEmbedder) else COMPARABLE

    def _text(self) -> TextVectors:
        """The text vectors of the current class, encoded once per class."""
        prompts = self._prompts
        text = self._own_text or self._text_cache.get(prompts.key)
        if text is None:
            normal, anomaly, *kinds = self._embedder.encode_ensembles(
                [prompts.normal, prompts.anomaly, *prompts.defects.values()]
            )
            text = text_vectors(normal, anomaly, dict(zip(prompts.defects, kinds, strict=True)))
            self._text_cache[prompts.key] = text
        return text

    def _learn(self, items: Sequence[Item], canvas: Size | None) -> tuple[Scores, dict[str, Any]]:
        scorer = self._scorer(canvas)
        with closing(self._stream(items, canvas)) as stream:
            read = bar("encoding", "image", total=len(items), items=stream)
            scored = [
                self._score(scorer, patches, item, self._content_key(item))
                for item, patches in zip(items, read, strict=True)
            ]
        scores = np.array([found.image for found in scored], dtype=np.float64)
        peaks = np.array([found.anomaly_map().max() for found in scored], dtype=np.float64)
        learnt = Thresholds(self._upper_quantile(scores), self._upper_quantile(peaks))
        return scores, {"_thresholds": learnt}

    def _score(
        self, scorer: PromptScorer, patches: PatchTokens, item: Item, content: Hashable | None
    ) -> ImageScores:
        """Score an image; a reference is not compared with itself."""
        known = scorer.references
        return scorer(patches, None if known is None else known.number_of(content, item))

    def _learnt_facts(self) -> dict[str, str]:
        facts = {"class": self.class_name, **super()._learnt_facts()}
        if hasattr(self, "threshold_"):
            return facts
        if self._thresholds is None and len(self.references or ()) > 1:
            return {**facts, "threshold": "from the references"}
        return {**facts, "threshold": f"{self.label_threshold():.4g}"}

    def _name_region(self, region: Region, patches: PatchTokens, scorer: PromptScorer) -> Region:
        """Find the named defect whose text is nearest to the region's mean token."""
        named = scorer.text.defects
        if not named:
            return region
        # Imports OpenCV, which listing models does not need.
        from .regions import patches_inside

        token = patches.tokens[patches_inside(region, patches)].mean(axis=(0, 1))
        logits = np.array([token @ vector for vector in named.values()]) / TEMPERATURE
        chances = np.exp(logits - logits.max())
        chances /= chances.sum()
        best = int(chances.argmax())
        return replace(region, defect=list(named)[best], probability=float(chances[best]))


def _text_vector(checkpoint: Checkpoint, name: str) -> Floats:
    vector: Floats = checkpoint.unit_vectors(f"text_{name}", 1, "float32")
    return vector
