"""Scores patches and images against text vectors; NumPy in, NumPy out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ..arrays import Floats, Size, unit
from ..encoder.tokens import PatchTokens
from ..maps.scores import Aggregation, ImageScores, image_score
from ..maps.spread import SMOOTHING

SAME = 1e-6  # by which numbers of unit vectors of equal texts may differ; others differ by 1e-3
TEMPERATURE = 0.07  # of the two-class softmax, as in WinCLIP (Jeong et al., CVPR 2023)

Mode = Literal["probability", "diff", "ratio"]
MODES: tuple[str, ...] = get_args(Mode)
NEUTRAL = {"probability": 0.5, "diff": 0.0, "ratio": 0.5}  # neither text is closer


class Thresholds(NamedTuple):
    """Values that a new normal image exceeds with probability ``contamination``.

    Attributes:
        label: Threshold for its image score.
        region: Threshold for the highest value of its map.
    """

    label: float
    region: float


@dataclass(frozen=True, eq=False)
class TextVectors:
    """Unit-length text vectors, each of shape (D,), float32; compared by identity.

    Attributes:
        normal: Vector of intact objects.
        anomaly: Vector of damaged objects, the mean over all kinds of damage.
        defects: Vectors of the named defects.
    """

    normal: Floats
    anomaly: Floats
    defects: Mapping[str, Floats] = field(default_factory=dict)


def text_vectors(
    normal: npt.ArrayLike, anomaly: npt.ArrayLike, defects: Mapping[str, Floats] | None = None
) -> TextVectors:
    """Check text vectors, scale them to unit length, and average the anomalous side.

    Raises:
        ValueError: If they are not finite, nonzero vectors of one length.
    """
    sides = {"normal": normal, "anomaly": anomaly, **(defects or {})}
    checked = {name: _checked(name, vector) for name, vector in sides.items()}
    if len({vector.size for vector in checked.values()}) > 1:
        lengths = ", ".join(f"{name} {vector.size}" for name, vector in checked.items())
        raise ValueError(f"The text vectors differ in length: {lengths}.")
    kinds = {name: checked[name] for name in defects or {}}
    damage = unit(np.mean([checked["anomaly"], *kinds.values()], axis=0))
    return TextVectors(normal=checked["normal"], anomaly=damage, defects=kinds)


class Normals(Protocol):
    """Normal images to compare with as well."""

    def distance(self, patches: PatchTokens) -> Floats:
        """Distances of the patches in [0, 1], (rows, cols); higher is more anomalous."""


@dataclass(frozen=True)
class PromptScorer:
    """Scores one image against two text vectors; see :class:`~..detector.scoring.Scorer`.

    Attributes:
        text: Text vectors; compared by identity.
        mode: How the cosines with both become a score.
        aggregation: How an image score is computed from patch scores.
        topk: Share of the patches that ``"topk_mean"`` averages; None for the 2 hottest.
        references: Normal images to compare with as well; compared by identity.
        smoothing: Standard deviation of the Gaussian of maps in patches.

    Raises:
        ValueError: If the text vectors of both sides are equal.
    """

    text: TextVectors
    mode: Mode
    aggregation: Aggregation
    topk: float | None
    references: Normals | None = None

    smoothing: ClassVar[float] = SMOOTHING

    def __post_init__(self) -> None:
        if np.abs(self.text.anomaly - self.text.normal).max() <= SAME:
            raise ValueError(
                "The text vectors of normal and anomalous objects are equal, so that all images "
                "would have the neutral score; use other prompts, which differ within the first "
                "words, or other text features."
            )

    @property
    def span(self) -> float:
        """Width of the range of image scores."""
        return 4.0 if self.mode == "diff" else 1.0

    @property
    def with_features(self) -> bool:
        """Whether there are references, which are compared by feature tokens."""
        return self.references is not None

    def known(self, image: str | None) -> ImageScores | None:  # noqa: ARG002 - every image is scored
        """None."""
        return None

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Score an image by the texts and, if there are any, the references."""
        scored = self.by_text(patches)
        if self.references is None:
            return scored
        return self.with_distance(scored, self.references.distance(patches))

    def with_distance(self, scored: ImageScores, distance: Floats) -> ImageScores:
        """The mean of scores by text and of the distance to the references, (rows, cols)."""
        far = image_score(distance, self.aggregation, self.topk)
        both = self._result((scored.patches + distance) / 2, (scored.image + far) / 2, scored.size)
        return replace(both, area=scored.area)

    def by_text(self, patches: PatchTokens) -> ImageScores:
        """Score an image by the texts alone.

        Where only some patches are looked at, the embedding of the whole image does not count.
        """
        pooled = patches.pooled if patches.inside is None else None
        whole = None if pooled is None else float(self.compare(pooled))
        scores = self.compare(patches.tokens)
        if patches.windows and whole is not None:
            scores = self._windowed(patches.windows, scores.shape, whole)
        scores = patches.only_inside(scores)
        score = image_score(scores, self.aggregation, self.topk)
        if whole is not None:
            score = (score + whole) / 2
        return replace(self._result(scores, score, patches.size), area=patches.area)

    def _result(self, patches: npt.NDArray[Any], image: float, size: Size) -> ImageScores:
        return replace(ImageScores.of(patches, image, size), smoothing=self.smoothing)

    def names_of(self, patches: PatchTokens) -> Floats:
        """Logits of the K named defects by the whole image, shape (K,)."""
        vectors = np.stack([*self.text.defects.values()], axis=-1)
        return self._whole(patches) @ vectors / TEMPERATURE

    def compare(self, tokens: Floats) -> Floats:
        """Score tokens of shape (..., D) by the mode; higher is more anomalous.

        Raises:
            ValueError: If their length differs from that of the text vectors.
        """
        if tokens.shape[-1] != self.text.normal.size:
            raise ValueError(
                f"The patch tokens have length {tokens.shape[-1]}, the text vectors "
                f"{self.text.normal.size}; they come from different models."
            )
        return _in_mode(tokens @ self.text.normal, tokens @ self.text.anomaly, self.mode)

    def _whole(self, patches: PatchTokens) -> Floats:
        """The embedding of the whole image, which not all custom embedders have."""
        if patches.pooled is None:
            raise ValueError("The embedder has no embedding of the whole image.")
        return patches.pooled

    def _windowed(
        self, windows: Mapping[int, Floats], grid: tuple[int, ...], whole: float
    ) -> Floats:
        """Harmonic mean over the window sizes and the whole image, as in WinCLIP."""
        maps = [spread_windows(self.compare(found), grid) for found in windows.values()]
        return harmonic_mean([*maps, np.full(grid, whole, dtype=np.float32)])


def spread_windows(scores: Floats, grid: tuple[int, ...]) -> Floats:
    """Score each patch by the harmonic mean of the windows that cover it.

    With the harmonic mean a patch is normal if any of its windows is (WinCLIP, Jeong et al., CVPR
    2023).

    Args:
        scores: Score of each window, shape (rows - side + 1, cols - side + 1), at least 0.
        grid: (rows, cols) of patches.

    Returns:
        Patch scores, shape (rows, cols).
    """
    side = grid[0] - scores.shape[0] + 1
    inverse, count = np.zeros(grid), np.zeros(grid)
    rows, cols = scores.shape
    with np.errstate(divide="ignore"):  # of a distance of 0 the inverse is infinite, the mean 0
        inverses = 1 / scores
    for down in range(side):
        for right in range(side):
            inverse[down : down + rows, right : right + cols] += inverses
            count[down : down + rows, right : right + cols] += 1
    return (count / inverse).astype(np.float32)


def harmonic_mean(maps: list[Floats]) -> Floats:
    """Elementwise harmonic mean of maps of one shape, all above 0."""
    return (len(maps) / np.sum([1 / found for found in maps], axis=0)).astype(np.float32)


def prompt_patch_scores(
    patches: npt.ArrayLike,
    *,
    text_normal: npt.ArrayLike,
    text_anomaly: npt.ArrayLike,
    mode: Mode = "diff",
) -> Floats:
    """Score patches by whether they are closer to the anomalous or to the normal text.

    Args:
        patches: Tokens in the space of the texts, shape (..., D); any length, normalised here.
        text_normal: Text vector of normal objects, shape (D,).
        text_anomaly: Text vector of anomalous objects, shape (D,).
        mode: ``"diff"``: difference of the cosines, in [-2, 2]. ``"probability"``: two-class
            softmax with temperature 0.07, in (0, 1), as in WinCLIP (Jeong et al., CVPR 2023).
            ``"ratio"``: ``(1 + cos_a) / (2 + cos_a + cos_n)``, in [0, 1].

    Returns:
        Scores, shape (...), float32; higher is more anomalous.

    Raises:
        ValueError: If shapes differ, a vector is zero or not finite, the texts are equal, or the
            mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(f"mode={mode!r} is unknown; choose from {', '.join(MODES)}.")
    tokens = np.asarray(patches, dtype=np.float32)
    if tokens.ndim < 1 or not np.isfinite(tokens).all():
        raise ValueError(f"patches of shape {tokens.shape} must be finite, of shape (..., D).")
    scorer = PromptScorer(text_vectors(text_normal, text_anomaly), mode, "max", 1.0)
    return scorer.compare(unit(tokens))


def _checked(name: str, given: npt.ArrayLike) -> Floats:
    vector = np.asarray(given, dtype=np.float32)
    vector = vector.reshape(-1) if 1 in vector.shape else vector
    if vector.ndim != 1 or not np.isfinite(vector).all() or not vector.any():
        raise ValueError(
            f"The text vector of {name!r} has shape {np.shape(given)}; expected one finite, "
            "nonzero vector of shape (D,)."
        )
    return unit(vector)


def _in_mode(normal: Floats, anomaly: Floats, mode: Mode) -> Floats:
    """Compute scores from the cosine similarities to both texts."""
    difference = anomaly - normal
    if mode == "diff":
        return difference
    if mode == "ratio":
        similar = np.maximum(1 + anomaly, 0)
        total = similar + np.maximum(1 + normal, 0)
        return np.where(total > 0, similar / np.maximum(total, 1e-12), 0.5).astype(np.float32)
    return 1 / (1 + np.exp(-difference / TEMPERATURE))
