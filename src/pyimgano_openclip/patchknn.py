"""Few-shot detector: compares patch tokens with a memory bank of normal patches."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np

from .checks import check_choice, check_count, check_number, one_of
from .detector import (
    DEFAULT_MODEL,
    DEFAULT_PRETRAINED,
    METADATA,
    TAGS,
    OpenCLIPDetector,
)
from .embedding import InjectedEmbedder, PatchEmbedder, PatchTokens, Precision, Size
from .enrolment import Enrolment, flat
from .explain import Match, patch_box, stored_box
from .gaps import OnError
from .items import ChannelOrder, Item, as_items
from .maps import Aggregation, ImageScores, image_score
from .memory import memory_for
from .memory_bank import ROW_TYPES, MemoryBank, RowType
from .saving import TRAINING_SCORES
from .scoring import Scores
from .search import SearchBackend, check_backend

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .tensor_file import Arrays


class VisionOpenCLIPPatchKNN(OpenCLIPDetector):
    """Few-shot detector: patches are anomalous when far from all patches of normal images.

    Patch tokens from several depths and neighbourhoods (MuSc, Li et al., ICLR 2024) are compared
    with a memory bank of tokens from normal images (PatchCore, Roth et al., CVPR 2022). The score
    of a patch is its cosine distance to the nearest stored token. Training scores leave out the
    image's own tokens, so the threshold holds for new images.

    Args:
        embedder: Object with ``embed(image) -> (patches (N, D), (rows, cols), (H, W))`` to use
            instead of an open_clip model.
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
            :meth:`fit`, ``"squash"`` to a square.
        max_tokens: Maximum number of patches per image; None for four times the tower's own number.
        layers: Relative depths of the feature tokens, each in (0, 1]. The tower is not run deeper
            than the last one.
        neighbourhoods: Odd window sizes in patches over which feature tokens are averaged. (1,)
            may work better when a fine texture changes as a whole.
        rotations: Number of evenly spaced orientations stored per training image; 1 stores only
            the original, 8 suits parts that lie in any direction.
        n_neighbors: Number of nearest stored tokens over which a patch's distance is averaged.
        knn_backend: Search library: ``"numpy"``, ``"torch"``, ``"sklearn"`` and ``"faiss"`` are
            exact; ``"faiss-ivf"`` is approximate, for very large banks; ``"auto"`` is torch, or
            NumPy with a custom embedder.
        memory_bank_dtype: Data type of the stored tokens: ``"float32"``, or ``"float16"`` to halve
            the memory and the checkpoint.
        coreset_sampling_ratio: Share of the patches to keep, in (0, 1].
        max_patches: Maximum number of patches to keep, as a coreset that covers the others; None
            for no limit.
        aggregation_method: How the image score is computed from patch scores: ``"topk_mean"``,
            ``"max"`` or ``"mean"``.
        aggregation_topk: Share of the patches that ``"topk_mean"`` averages, in (0, 1].
        contamination: Accepted share of normal images above the threshold, in (0, 0.5].
        batch_size: Maximum number of images per pass; None to choose by device. On a CPU in
            float32, scores differ by less than 1e-6 between batches of different sizes, since
            matrix products of different shapes are summed in a different order.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"`` for bfloat16 if the
            hardware supports it, else float32.
        random_seed: Seed of the coreset and of random weights.
        channel_order: Channel order of arrays and tensors: ``"rgb"``, or ``"bgr"`` as OpenCV reads
            them. Files are not affected.
        on_error: How to handle unreadable images during scoring: ``"raise"`` a ValueError, or
            ``"nan"`` to set their scores and maps to NaN and their labels to 1, with one warning
            that counts them. Unreadable training images always raise. Can be changed at any time;
            not saved in checkpoints.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If open_clip or the library of ``knn_backend`` is needed but not installed.
    """

    registry_tags: ClassVar[tuple[str, ...]] = (
        *TAGS,
        "few-shot",
        "knn",
        "neighbors",
        "memory_bank",
    )
    registry_metadata: ClassVar[Mapping[str, Any]] = {
        **METADATA,
        "description": "Few-shot: compares OpenCLIP patch tokens with a memory bank of normal "
        "patches; image scores, anomaly maps, calibrated thresholds",
        "paper": "Towards Total Recall in Industrial Anomaly Detection (PatchCore); "
        "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation",
        "year": 2024,
        "supervision": "few-shot",
    }

    def __init__(
        self,
        *,
        embedder: PatchEmbedder | None = None,
        openclip_model_name: str = DEFAULT_MODEL,
        openclip_pretrained: str | os.PathLike[str] | None = DEFAULT_PRETRAINED,
        pretrained: bool = True,
        device: str = "auto",
        force_image_size: int | Size | None = None,
        resize: Literal["keep", "squash"] = "keep",
        max_tokens: int | None = None,
        layers: Sequence[float] = (0.5, 0.75),
        neighbourhoods: Sequence[int] = (1, 3),
        rotations: int = 1,
        n_neighbors: int = 1,
        knn_backend: SearchBackend = "auto",
        memory_bank_dtype: RowType = "float32",
        coreset_sampling_ratio: float = 1.0,
        max_patches: int | None = 20_000,
        aggregation_method: Aggregation = "topk_mean",
        aggregation_topk: float = 0.03,
        contamination: float = 0.1,
        batch_size: int | None = None,
        precision: Precision = "auto",
        random_seed: int = 0,
        channel_order: ChannelOrder = "rgb",
        on_error: OnError = "raise",
    ) -> None:
        check_backend(knn_backend)
        ratio = check_number("coreset_sampling_ratio", coreset_sampling_ratio, above=0, most=1)
        check_choice("memory_bank_dtype", memory_bank_dtype, ROW_TYPES)
        check_count("n_neighbors", n_neighbors)
        check_count("rotations", rotations, most=360)
        if max_patches is not None:
            check_count("max_patches", max_patches)
        super().__init__(
            tokens="features",
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
            layers=layers,
            neighbourhoods=neighbourhoods,
        )
        self.layers = layers
        self.neighbourhoods = neighbourhoods
        self.rotations = rotations
        self.n_neighbors = n_neighbors
        self.knn_backend = knn_backend
        self.memory_bank_dtype = memory_bank_dtype
        self.coreset_sampling_ratio = ratio
        self.max_patches = max_patches
        self._bank: MemoryBank | None = None
        self._enrolled: list[Hashable | None] = []  # keys of the images in the bank
        self._training: dict[Hashable, ImageScores] = {}

    @property
    def memory_bank_(self) -> MemoryBank:
        """The stored patch tokens.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        if self._bank is None:
            raise RuntimeError("The memory bank is empty; call fit() with normal images first.")
        return self._bank

    @property
    def covering_radius_(self) -> float:
        """Largest distance from a training patch to its nearest stored one; 0 if all are stored.

        It falls as ``max_patches`` or ``coreset_sampling_ratio`` rises. It is a Euclidean distance
        r of unit-length tokens, equal to a cosine distance of r ** 2 / 2, measured on a random
        projection to 128 dimensions. Saved in checkpoints.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        return self.memory_bank_.covering_radius

    @property
    def _free_settings(self) -> frozenset[str]:
        # The saved bank already results from these; they matter only when it grows.
        free = {"coreset_sampling_ratio", "max_patches", "memory_bank_dtype"}
        # All exact searches give the same result.
        return frozenset(free if self.knn_backend == "faiss-ivf" else {*free, "knn_backend"})

    def _state(self) -> tuple[Arrays, dict[str, Any]]:
        return self.memory_bank_.state()

    def _restored(self, checkpoint: Checkpoint) -> dict[str, Any]:
        bank = self._new_bank()
        bank.restore(checkpoint)
        checkpoint.numbers(TRAINING_SCORES, 1, "float64")  # saved with every bank
        return {"_bank": bank, "_enrolled": [None] * len(bank.images), "_training": {}}

    def _scorer(self, canvas: Size | None) -> NearestScorer:  # noqa: ARG002 - in the bank
        return NearestScorer(
            self.memory_bank_, self.n_neighbors, self.aggregation_method, self.aggregation_topk
        )

    def partial_fit(
        self,
        x: object = None,
        y: object = None,  # noqa: ARG002 - scikit-learn's signature
        *,
        X: object = None,
    ) -> VisionOpenCLIPPatchKNN:
        """Add normal images to the memory bank, thin it again, and update the threshold.

        Training scores of earlier images are updated while the bank keeps all patches. Once the
        bank has been thinned they stay unchanged, which makes the threshold slightly too high
        rather than too low. Like the images of :meth:`fit`, an added image keeps its training score
        when it is scored again; new images that show the same get low scores. If anything fails or
        is interrupted, the detector is left unchanged.

        Args:
            x: Paths or arrays, as for :meth:`fit`; resized as chosen there.
            y: Ignored; all images are assumed to be normal.
            X: Alias for ``x``.

        Returns:
            The detector itself.

        Raises:
            ValueError: If there is no image, or one cannot be read, regardless of ``on_error``; the
                message names it.
        """
        if self._bank is None:
            return cast(VisionOpenCLIPPatchKNN, self.fit(x, X=X))
        items, bank = as_items(one_of(x, X)), self._bank.copy()
        enrolled = [*self._enrolled, *(self._content_key(item) for item in items)]
        with memory_for(f"what is learnt from {len(items)} images"):
            scored = self._enrol(bank, items, self.canvas_)
        scores = _image_scores(scored)
        # Scores of one image's views are obsolete once there are other images.
        if len(scores) < len(bank.images) and len(self._bank.images) > 1:
            scores = np.concatenate([self.decision_scores_, scores])
        training = {**self._training, **_training(enrolled[-len(scored) :], scored)}
        self._accept(scores, {"_bank": bank, "_enrolled": enrolled, "_training": training})
        return self

    def nearest(self, image: Item, count: int = 5) -> list[Match]:
        """Find the nearest stored patches of an image's hottest patches.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.
            count: Number of patches.

        Returns:
            The hottest patches, hottest first, each with its nearest stored patch. An unreadable
            image gives an empty list and a warning with ``on_error="nan"``.

        Raises:
            RuntimeError: Before :meth:`fit`.
            ValueError: If the image cannot be read.
        """
        check_count("count", count)
        bank = self.memory_bank_
        patches = self._look(image, self.canvas_)
        if patches is None:
            return []
        grid = patches.tokens.shape[:2]
        scores, rows = bank.nearest_rows(flat(patches), self.n_neighbors)
        hottest = np.argsort(-scores, kind="stable")[:count].tolist()
        closest, _ = bank.nearest_rows(flat(patches)[hottest])
        matches = []
        for patch, distance in zip(hottest, closest.tolist(), strict=True):
            row = int(rows[patch, 0])
            origin = bank.origin(row)
            rotation = 360 * origin.turn / self.rotations
            matches.append(
                Match(
                    score=float(scores[patch]),
                    box=patch_box(patch, grid, patches.size),
                    distance=distance,
                    training_image=origin.image,
                    path=bank.images[origin.image].path,
                    training_box=stored_box(bank, row, rotation),
                    rotation=rotation,
                )
            )
        return matches

    def _learn(self, items: Sequence[Item], canvas: Size | None) -> tuple[Scores, dict[str, Any]]:
        bank = self._new_bank()
        enrolled = [self._content_key(item) for item in items]  # before they are read
        scored = self._enrol(bank, items, canvas)
        training = _training(enrolled, scored)
        learnt = {"_bank": bank, "_enrolled": enrolled, "_training": training}
        return _image_scores(scored), learnt

    def _recall(self, key: tuple[Hashable, Size | None, Hashable]) -> ImageScores | None:
        """Return the training scores of a training image, which would find itself in the bank.

        The host scores training images again after fitting, for calibration.
        """
        known = self._training.get(key[0])
        if known is None:
            return super()._recall(key)
        return replace(
            known, image=image_score(known.patches, self.aggregation_method, self.aggregation_topk)
        )

    def _learnt_facts(self) -> dict[str, str]:
        facts = super()._learnt_facts()
        if self._bank is None:
            return facts
        kept = f"{len(self._bank)} patches"
        if not self._bank.is_complete:
            kept = f"{len(self._bank)} of {self._bank.seen} patches"
            kept += f", covering radius {self.covering_radius_:.3g}"
        return {**facts, "fitted on": f"{len(self._bank.images)} images", "bank": kept}

    def _new_bank(self) -> MemoryBank:
        injected, backend = isinstance(self._embedder, InjectedEmbedder), self.knn_backend
        if backend == "auto":
            backend = "numpy" if injected else "torch"
        return MemoryBank(
            backend,
            "cpu" if injected else str(self._embedder.device),
            row_type=self.memory_bank_dtype,
            seed=self.random_seed,
        )

    def _enrol(
        self, bank: MemoryBank, items: Sequence[Item], canvas: Size | None
    ) -> list[ImageScores]:
        """Add images to a bank; score those that :class:`~.enrolment.Enrolment` measures."""
        enrolment = Enrolment(
            self._embedder, canvas, self.rotations, self.n_neighbors, self._bank_size
        )
        distances = list(enrolment(bank, [self._in_rgb(item) for item in items]))
        alone = len(bank.images) == 1
        images = bank.images * len(distances) if alone else bank.images[-len(distances) :]
        method, topk = self.aggregation_method, self.aggregation_topk
        return [
            ImageScores.of(found.reshape(image.grid), image_score(found, method, topk), image.size)
            for found, image in zip(distances, images, strict=True)
        ]

    def _bank_size(self, n_patches: int) -> int:
        size = max(1, round(self.coreset_sampling_ratio * n_patches))
        return size if self.max_patches is None else min(size, self.max_patches)


@dataclass(frozen=True, eq=False)
class NearestScorer:
    """Scores an image against a memory bank; see :class:`~.scoring.Scorer`."""

    bank: MemoryBank
    n_neighbors: int
    aggregation: Aggregation
    topk: float

    @property
    def key(self) -> Hashable:
        """The bank's identity and the settings."""
        return (id(self.bank), self.n_neighbors, self.aggregation, self.topk)

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Compute the patch scores and the image score of one image."""
        distance = self.bank.nearest_distance(flat(patches), self.n_neighbors)
        scores = distance.reshape(patches.tokens.shape[:2])
        score = image_score(scores, self.aggregation, self.topk)
        return ImageScores.of(scores, score, patches.size)


def _training(
    keys: Sequence[Hashable | None], scored: Sequence[ImageScores]
) -> dict[Hashable, ImageScores]:
    """Training scores by image; a single image gets those of its hottest stand-in."""
    if len(keys) == 1 < len(scored):
        scored = [max(scored, key=lambda view: view.image)]
    return {key: found for key, found in zip(keys, scored, strict=True) if key is not None}


def _image_scores(scored: Sequence[ImageScores]) -> Scores:
    return np.array([found.image for found in scored], dtype=np.float64)
