"""Zero-shot: patch tokens are compared with texts of normal and damaged objects."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .detector import (
    DEFAULT_MODEL,
    DEFAULT_PRETRAINED,
    ImageScores,
    Labels,
    OpenCLIPDetector,
    Scores,
    check_choice,
)
from .embedding import ATTENTIONS, Attention, Floats, PatchEmbedder, PatchTokens, Size, unit
from .items import Item
from .maps import Aggregation, image_score
from .prompts import PromptPair, custom_prompts, default_prompts

TEMPERATURE = 0.07  # of the two-class softmax, as in WinCLIP (Jeong et al., CVPR 2023)

Mode = Literal["probability", "diff", "ratio"]
NEUTRAL = {"probability": 0.5, "diff": 0.0, "ratio": 0.5}  # neither text is closer


class VisionOpenCLIPPromptScore(OpenCLIPDetector):
    """Zero-shot detector: an anomalous patch is one that points along the text of damage.

    The image score is half the score of the whole image's embedding and half that of the highest
    patches (WinCLIP, Jeong et al., CVPR 2023); the patch tokens come from a side path of value
    attention (see ``towers.py``). It scores without :meth:`fit`; :meth:`fit` on normal images only
    replaces the threshold.

    Args:
        embedder: Object with ``embed(image) -> (patches (N, D), (rows, cols), (H, W))`` to use
            instead of an open_clip model; then both text features are needed.
        class_name: What the images show, as one would call it: ``"screw"``, ``"leather"``.
        text_prompts: ``{"normal": [...], "anomaly": [...]}`` instead of the default sentences;
            ``{}`` stands for the class name.
        text_features_normal: Text vector of normal, shape (D,), instead of sentences.
        text_features_anomaly: Text vector of anomalous, shape (D,).
        openclip_model_name: A model of open_clip, ``"local-dir:DIR"``, ``"hf-hub:ORG/REPO"`` or
            ``"bundled"``, the tiny model inside this package.
        openclip_pretrained: A tag of open_clip or the path of a weights file; None for random
            weights.
        pretrained: False never downloads; weights that would have to be are replaced by random
            ones.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        force_image_size: Side in pixels of the tower's input, or (height, width).
        resize: ``"keep"`` keeps the images' proportions, ``"squash"`` makes them square.
        max_tokens: Most patches of an image; None for four times the tower's own number.
        attention: Side path of the patch tokens: ``"vv"``, ``"qq"``, ``"kk"``, or ``"none"`` for
            the plain last tokens.
        stages: Number of depths the side path is read at.
        mode: ``"probability"``: scores in (0, 1), 0.5 where neither text is closer. ``"diff"``:
            difference of the cosines, in [-2, 2]. ``"ratio"``: share of the anomalous similarity,
            in [0, 1].
        aggregation_method: Image score from patch scores: ``"topk_mean"``, ``"max"``, ``"mean"``.
        aggregation_topk: Share of the patches in ``"topk_mean"``, in (0, 1].
        contamination: Share of normal images that :meth:`fit` lets the threshold flag, in (0, 0.5].
        batch_size: Images per pass; None chooses by device.
        random_seed: Seed of random weights.

    Raises:
        ValueError: If an argument is out of range or contradicts another.
        ImportError: If open_clip is needed and missing.
    """

    def __init__(
        self,
        *,
        embedder: PatchEmbedder | None = None,
        class_name: str = "object",
        text_prompts: Mapping[str, Sequence[str]] | None = None,
        text_features_normal: npt.ArrayLike | None = None,
        text_features_anomaly: npt.ArrayLike | None = None,
        openclip_model_name: str = DEFAULT_MODEL,
        openclip_pretrained: str | None = DEFAULT_PRETRAINED,
        pretrained: bool = True,
        device: str = "auto",
        force_image_size: int | Size | None = None,
        resize: Literal["keep", "squash"] = "keep",
        max_tokens: int | None = None,
        attention: Attention = "auto",
        stages: int = 4,
        mode: Mode = "probability",
        aggregation_method: Aggregation = "topk_mean",
        aggregation_topk: float = 0.01,
        contamination: float = 0.1,
        batch_size: int | None = None,
        random_seed: int = 0,
    ) -> None:
        check_choice("mode", mode, get_args(Mode))
        check_choice("attention", attention, ATTENTIONS)
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
            contamination=contamination,
            aggregation_method=aggregation_method,
            aggregation_topk=aggregation_topk,
            random_seed=random_seed,
            attention=attention,
            stages=stages,
        )
        self.text_prompts = text_prompts
        self.text_features_normal = text_features_normal
        self.text_features_anomaly = text_features_anomaly
        self.attention = attention
        self.stages = stages
        self.mode = mode
        self._text_cache: dict[PromptPair, TextVectors] = {}
        self._own_text = self._check_text_features()
        self.set_class_name(class_name)

    def set_class_name(self, class_name: str) -> VisionOpenCLIPPromptScore:
        """Look for damage of another kind of object.

        Texts already encoded for a class are kept; the threshold of an earlier :meth:`fit` is not
        touched.

        Args:
            class_name: What the images show: ``"screw"``, ``"leather"``.

        Raises:
            ValueError: If the name is empty, not a string, or does not fit the prompts.
        """
        if not isinstance(class_name, str) or not class_name.strip():
            raise ValueError(f"class_name={class_name!r}; it must be a word such as 'screw'.")
        if self.text_prompts is None:
            self._prompts = default_prompts(class_name)
        else:
            self._prompts = custom_prompts(self.text_prompts, class_name)
        self.class_name = class_name
        return self

    def predict(
        self, x: object = None, return_confidence: bool = False, *, X: object = None
    ) -> Labels | tuple[Labels, Scores]:
        """Labels: 1 for an image whose score is above the threshold, else 0.

        Before :meth:`fit` the threshold is the neutral score, where neither text is closer: 0.5,
        or 0 with ``mode="diff"``. The confidence of a label needs :meth:`fit`.
        """
        if hasattr(self, "threshold_") or return_confidence:
            return super().predict(x, return_confidence, X=X)
        return (self.decision_function(x, X=X) > NEUTRAL[self.mode]).astype(np.int64)

    def _check_text_features(self) -> TextVectors | None:
        normal, anomaly = self.text_features_normal, self.text_features_anomaly
        if (normal is None) != (anomaly is None):
            missing = "text_features_normal" if normal is None else "text_features_anomaly"
            raise ValueError(f"{missing} is missing: both text features are needed, or neither.")
        if normal is None or anomaly is None:
            if self.embedder is not None:
                raise ValueError(
                    "An embedder of your own needs text_features_normal and text_features_anomaly, "
                    "since this package cannot know its text encoder."
                )
            return None
        return text_vectors(normal, anomaly)

    def _scorer(self) -> PromptScorer:
        prompts = self._prompts
        text = self._own_text or self._text_cache.get(prompts)
        if text is None:
            text = text_vectors(*self._embedder.encode_ensembles([prompts.normal, prompts.anomaly]))
            self._text_cache[prompts] = text
        return PromptScorer(text, self.mode, self.aggregation_method, self.aggregation_topk)

    def _learn(self, items: Sequence[Item], canvas: Size | None) -> Scores:
        scorer = self._scorer()
        scores = [scorer(patches).image for patches in self._embedder.stream(items, canvas)]
        return np.array(scores, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Unit-length text vectors of both sides, shape (D,), float32. Compared by identity."""

    normal: Floats
    anomaly: Floats


def text_vectors(normal: npt.ArrayLike, anomaly: npt.ArrayLike) -> TextVectors:
    """Check two text vectors and scale them to unit length.

    Raises:
        ValueError: If they are not two finite, nonzero vectors of one length.
    """
    checked = {}
    for side, given in (("normal", normal), ("anomaly", anomaly)):
        vector = np.asarray(given, dtype=np.float32)
        vector = vector.reshape(-1) if 1 in vector.shape else vector
        if vector.ndim != 1 or not np.isfinite(vector).all() or not vector.any():
            raise ValueError(
                f"The text vector of {side!r} has shape {np.shape(given)}; expected one finite, "
                "nonzero vector of shape (D,)."
            )
        checked[side] = unit(vector)
    if checked["normal"].shape != checked["anomaly"].shape:
        raise ValueError(
            f"The text vectors differ in length: normal {checked['normal'].size}, "
            f"anomaly {checked['anomaly'].size}."
        )
    return TextVectors(**checked)


@dataclass(frozen=True)
class PromptScorer:
    """Scores one image against two text vectors; see :class:`~.detector.Scorer`."""

    text: TextVectors
    mode: Mode
    aggregation: Aggregation
    topk: float

    @property
    def key(self) -> Hashable:
        """The scorer itself: all of it goes into a score."""
        return self

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Patch scores and image score of one image."""
        scores = self._compare(patches.tokens)
        score = image_score(scores, self.aggregation, self.topk)
        if patches.pooled is not None:
            score = (score + float(self._compare(patches.pooled))) / 2
        return ImageScores(patches=scores, image=score, size=patches.size)

    def _compare(self, tokens: Floats) -> Floats:
        if tokens.shape[-1] != self.text.normal.size:
            raise ValueError(
                f"The patch tokens have {tokens.shape[-1]} numbers, the text vectors "
                f"{self.text.normal.size}; they come from different models."
            )
        return _in_mode(tokens @ self.text.normal, tokens @ self.text.anomaly, self.mode)


def prompt_patch_scores(
    patches: npt.ArrayLike,
    *,
    text_normal: npt.ArrayLike,
    text_anomaly: npt.ArrayLike,
    mode: Mode = "diff",
) -> Floats:
    """Score patches by whether they point along the anomalous or the normal text.

    Args:
        patches: Tokens in the space of the texts, shape (..., D); scaled to unit length here.
        text_normal: Text vector of normal, shape (D,).
        text_anomaly: Text vector of anomalous, shape (D,).
        mode: ``"diff"``: difference of the cosines, in [-2, 2]. ``"probability"``: two-class
            softmax with temperature 0.07, in (0, 1), as in WinCLIP (Jeong et al., CVPR 2023).
            ``"ratio"``: ``(1 + cos_a) / (2 + cos_a + cos_n)``, in [0, 1].

    Returns:
        Shape (...), float32; higher is more anomalous.

    Raises:
        ValueError: If shapes disagree, a vector is zero or not finite, or the mode is unknown.
    """
    check_choice("mode", mode, get_args(Mode))
    tokens = np.asarray(patches, dtype=np.float32)
    if tokens.ndim < 1 or not np.isfinite(tokens).all():
        raise ValueError(f"patches of shape {tokens.shape} must be finite, of shape (..., D).")
    scorer: Any = PromptScorer(text_vectors(text_normal, text_anomaly), mode, "max", 1.0)
    scores: Floats = scorer._compare(unit(tokens))
    return scores


def _in_mode(normal: Floats, anomaly: Floats, mode: Mode) -> Floats:
    """Scores from the cosines with both texts; monotone in their difference or their share."""
    difference = anomaly - normal
    if mode == "diff":
        return difference
    if mode == "ratio":
        similar = np.maximum(1 + anomaly, 0)
        total = similar + np.maximum(1 + normal, 0)
        return np.where(total > 0, similar / np.maximum(total, 1e-12), 0.5).astype(np.float32)
    scores: Floats = 1 / (1 + np.exp(-difference / TEMPERATURE))
    return scores
