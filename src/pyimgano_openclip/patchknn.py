"""Few-shot: patch tokens are compared with a memory bank of normal patches."""

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
    """Few-shot detector: an anomalous patch is one that no normal image has.

    Patch tokens of several depths and neighbourhoods (MuSc, Li et al., ICLR 2024) are compared with
    a memory bank of those of normal images (PatchCore, Roth et al., CVPR 2022). The score of a
    patch is its cosine distance to the nearest stored token. Training scores leave out the image's
    own tokens, so the threshold holds for images not seen yet.

    Args:
        embedder: Object with ``embed(image) -> (patches (N, D), (rows, cols), (H, W))`` to use
            instead of an open_clip model.
        openclip_model_name: A model of open_clip, ``"local-dir:DIR"``, ``"hf-hub:ORG/REPO"`` or
            ``"bundled"``, the tiny model inside this package.
        openclip_pretrained: A tag of open_clip or the path of a weights file; None for random
            weights.
        pretrained: False never downloads; weights that would have to be are replaced by random
            ones.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, ..., or ``"auto"``: CUDA if torch
            finds it, else Apple's MPS, else the CPU.
        force_image_size: Side in pixels of the tower's input, or (height, width).
        resize: ``"keep"`` reads all images at the median proportions of those of :meth:`fit`,
            ``"squash"`` makes them square.
        max_tokens: Most patches of an image; None for four times the tower's own number.
        layers: Relative depths that feature tokens are taken at, each in (0, 1]. The tower is not
            run any deeper.
        neighbourhoods: Odd windows, in patches, that feature tokens are averaged over. (1,) alone
            may be better where the whole of a fine texture changes.
        rotations: Copies of each training image to store, turned by equal parts of a full circle;
            8 for parts that lie in any direction, 1 for the image alone.
        n_neighbors: Stored tokens that a patch's distance is averaged over.
        knn_backend: What searches: ``"numpy"``, ``"torch"``, ``"sklearn"`` or ``"faiss"``, all
            exactly; ``"faiss-ivf"`` approximately, for very large banks; ``"auto"`` is torch, or
            NumPy with an embedder of your own.
        memory_bank_dtype: Type of the stored numbers: ``"float32"``, or ``"float16"`` for half the
            memory and half the checkpoint.
        coreset_sampling_ratio: Share of the patches to keep, in (0, 1].
        max_patches: Most patches to keep, a coreset that covers the others; None for no limit.
        aggregation_method: Image score from patch scores: ``"topk_mean"``, ``"max"``, ``"mean"``.
        aggregation_topk: Share of the patches in ``"topk_mean"``, in (0, 1].
        contamination: Share of normal images that the threshold lets be flagged, in (0, 0.5].
        batch_size: Maximum number of images per pass; None chooses by device. On a CPU in float32,
            scores differ by less than 1e-6 between batches of different sizes, since matrix
            products of different shapes are summed in a different order.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"``: bfloat16 where the
            hardware computes in it, else float32.
        random_seed: Seed of the coreset and of random weights.
        channel_order: ``"rgb"``, or ``"bgr"`` for arrays and tensors as OpenCV reads them. Files
            are not affected.
        on_error: What becomes of an image that cannot be read when it is scored: ``"raise"`` a
            ValueError, or ``"nan"``: its score and map are NaN, its label is 1, and one warning
            counts such images. Training images have to be readable. May be set at any time, and is
            not saved.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If open_clip, or the library of ``knn_backend``, is needed and missing.
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
        "description": "Few-shot: patch tokens of OpenCLIP against a memory bank of normal "
        "patches; image scores, anomaly maps, honest thresholds",
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
        layers: Sequence[float] = (0.25, 0.5, 0.75),
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
        """How far any training patch is from the nearest stored one, at most; 0 if all are stored.

        It falls as ``max_patches`` or ``coreset_sampling_ratio`` rises. A Euclidean distance r of
        unit-length tokens, a cosine distance of r ** 2 / 2, measured on a random projection to 128
        numbers. Saved in checkpoints.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        return self.memory_bank_.covering_radius

    @property
    def _free_settings(self) -> frozenset[str]:
        # The bank in the file is the outcome of these; they count when it grows.
        free = {"coreset_sampling_ratio", "max_patches", "memory_bank_dtype"}
        # All exact searches find the same.
        return frozenset(free if self.knn_backend == "faiss-ivf" else {*free, "knn_backend"})

    def _state(self) -> tuple[Arrays, dict[str, Any]]:
        return self.memory_bank_.state()

    def _restored(self, checkpoint: Checkpoint) -> dict[str, Any]:
        bank = self._new_bank()
        bank.restore(checkpoint)
        checkpoint.numbers(TRAINING_SCORES, 1, "float64")  # a bank was never without them
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
        """Add normal images to the memory bank, thin it again, and set the threshold anew.

        Training scores of earlier images are renewed as long as the bank has kept all patches.
        Once it was thinned they stay as they were, which makes the threshold a little too high
        rather than too low. Like the images of :meth:`fit`, an added image keeps its training score
        when it is scored again; further images that show the same score low. If anything fails or
        is interrupted, the detector is left as it was.

        Args:
            x: Paths or arrays, as for :meth:`fit`; read on the canvas chosen there.
            y: Ignored; all images are taken as normal.
            X: Another name of ``x``.

        Returns:
            The detector itself.

        Raises:
            ValueError: If there is no image, or one cannot be read, whatever ``on_error`` says; the
                message names it.
        """
        if self._bank is None:
            return cast(VisionOpenCLIPPatchKNN, self.fit(x, X=X))
        items, bank = as_items(one_of(x, X)), self._bank.copy()
        enrolled = [*self._enrolled, *(self._content_key(item) for item in items)]
        with memory_for(f"what is learnt from {len(items)} images"):
            scored = self._enrol(bank, items, self.canvas_)
        scores = _image_scores(scored)
        # Scores of one image's views say nothing any more once there are other images.
        if len(scores) < len(bank.images) and len(self._bank.images) > 1:
            scores = np.concatenate([self.decision_scores_, scores])
        training = {**self._training, **_training(enrolled[-len(scored) :], scored)}
        self._accept(scores, {"_bank": bank, "_enrolled": enrolled, "_training": training})
        return self

    def nearest(self, image: Item, count: int = 5) -> list[Match]:
        """Show what the hottest patches of an image were compared with.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.
            count: How many patches.

        Returns:
            The hottest patches, hottest first, each with the stored patch nearest to it. With
            ``on_error="nan"``, and a warning, none for an image that cannot be read.

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
        """A training image keeps its training scores: it would find itself in the bank.

        The host scores them once more after fitting, to calibrate.
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
        """Add images to a bank; scores of those that :class:`~.enrolment.Enrolment` measures."""
        enrolment = Enrolment(
            self._embedder, canvas, self.rotations, self.n_neighbors, self._bank_size
        )
        distances = list(enrolment(bank, [self._in_rgb(item) for item in items]))
        alone = len(bank.images) == 1
        images = bank.images * len(distances) if alone else bank.images[-len(distances) :]
        method, topk = self.aggregation_method, self.aggregation_topk
        return [
            ImageScores(found.reshape(image.grid), image_score(found, method, topk), image.size)
            for found, image in zip(distances, images, strict=True)
        ]

    def _bank_size(self, n_patches: int) -> int:
        size = max(1, round(self.coreset_sampling_ratio * n_patches))
        return size if self.max_patches is None else min(size, self.max_patches)


@dataclass(frozen=True, eq=False)
class NearestScorer:
    """Scores one image against a memory bank; see :class:`~.scoring.Scorer`."""

    bank: MemoryBank
    n_neighbors: int
    aggregation: Aggregation
    topk: float

    @property
    def key(self) -> Hashable:
        """The bank by identity, and the settings."""
        return (id(self.bank), self.n_neighbors, self.aggregation, self.topk)

    def __call__(self, patches: PatchTokens) -> ImageScores:
        """Patch scores and image score of one image."""
        distance = self.bank.nearest_distance(flat(patches), self.n_neighbors)
        scores = distance.reshape(patches.tokens.shape[:2])
        score = image_score(scores, self.aggregation, self.topk)
        return ImageScores(patches=scores, image=score, size=patches.size)


def _training(
    keys: Sequence[Hashable | None], scored: Sequence[ImageScores]
) -> dict[Hashable, ImageScores]:
    """Training scores by image; a single image has those of its hottest stand-in."""
    if len(keys) == 1 < len(scored):
        scored = [max(scored, key=lambda view: view.image)]
    return {key: found for key, found in zip(keys, scored, strict=True) if key is not None}


def _image_scores(scored: Sequence[ImageScores]) -> Scores:
    return np.array([found.image for found in scored], dtype=np.float64)
