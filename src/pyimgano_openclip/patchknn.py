"""Few-shot: patch tokens are compared with a memory bank of normal patches."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .detector import (
    DEFAULT_MODEL,
    DEFAULT_PRETRAINED,
    ImageScores,
    OpenCLIPDetector,
    Scores,
    check_choice,
    check_number,
)
from .embedding import Floats, InjectedEmbedder, PatchEmbedder, PatchTokens, Size
from .items import Item
from .maps import Aggregation, image_score
from .memory_bank import SEARCH_BACKENDS, MemoryBank, SearchBackend, distance_within


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
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        force_image_size: Side in pixels of the tower's input, or (height, width).
        resize: ``"keep"`` keeps the images' proportions, ``"squash"`` makes them square.
        max_tokens: Most patches of an image; None for four times the tower's own number.
        layers: Relative depths that feature tokens are taken at, each in (0, 1].
        neighbourhoods: Odd windows, in patches, that feature tokens are averaged over.
        n_neighbors: Stored tokens that a patch's distance is averaged over.
        knn_backend: What searches: ``"numpy"``, ``"torch"``, ``"sklearn"`` or ``"faiss"``, all
            exactly; ``"auto"`` is torch, or NumPy with an embedder of your own.
        coreset_sampling_ratio: Share of the patches to keep, in (0, 1].
        max_patches: Most patches to keep; None for no limit.
        aggregation_method: Image score from patch scores: ``"topk_mean"``, ``"max"``, ``"mean"``.
        aggregation_topk: Share of the patches in ``"topk_mean"``, in (0, 1].
        contamination: Share of normal images that the threshold lets be flagged, in (0, 0.5].
        batch_size: Images per pass; None chooses by device.
        random_seed: Seed of the coreset, the projection and random weights.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If open_clip is needed and missing.
    """

    def __init__(
        self,
        *,
        embedder: PatchEmbedder | None = None,
        openclip_model_name: str = DEFAULT_MODEL,
        openclip_pretrained: str | None = DEFAULT_PRETRAINED,
        pretrained: bool = True,
        device: str = "auto",
        force_image_size: int | Size | None = None,
        resize: Literal["keep", "squash"] = "keep",
        max_tokens: int | None = None,
        layers: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        neighbourhoods: Sequence[int] = (1, 3),
        n_neighbors: int = 1,
        knn_backend: SearchBackend = "auto",
        coreset_sampling_ratio: float = 1.0,
        max_patches: int | None = 20_000,
        aggregation_method: Aggregation = "topk_mean",
        aggregation_topk: float = 0.01,
        contamination: float = 0.1,
        batch_size: int | None = None,
        random_seed: int = 0,
    ) -> None:
        check_choice("knn_backend", knn_backend, SEARCH_BACKENDS)
        check_number("coreset_sampling_ratio", coreset_sampling_ratio, above=0, most=1)
        check_number("n_neighbors", n_neighbors, above=0, most=math.inf)
        if max_patches is not None:
            check_number("max_patches", max_patches, above=0, most=math.inf)
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
            contamination=contamination,
            aggregation_method=aggregation_method,
            aggregation_topk=aggregation_topk,
            random_seed=random_seed,
            layers=layers,
            neighbourhoods=neighbourhoods,
        )
        self.layers = layers
        self.neighbourhoods = neighbourhoods
        self.n_neighbors = n_neighbors
        self.knn_backend = knn_backend
        self.coreset_sampling_ratio = coreset_sampling_ratio
        self.max_patches = max_patches
        self._bank: MemoryBank | None = None

    @property
    def memory_bank_(self) -> MemoryBank:
        """The stored patch tokens.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        if self._bank is None:
            raise RuntimeError("The memory bank is empty; call fit() with normal images first.")
        return self._bank

    def _scorer(self) -> NearestScorer:
        return NearestScorer(
            self.memory_bank_, self.n_neighbors, self.aggregation_method, self.aggregation_topk
        )

    def _learn(self, items: Sequence[Item], canvas: Size | None) -> Scores:
        images = list(self._embedder.stream(items, canvas))
        tokens = [flat(image) for image in images]
        bank = self._new_bank(tokens)
        bank.thin(self._bank_size(len(bank)), self.random_seed)
        if len(images) > 1:
            distances = [
                bank.distance_to_other_images(index, image, self.n_neighbors)
                for index, image in enumerate(tokens)
            ]
        elif isinstance(self._embedder, InjectedEmbedder):
            distances = [distance_within(images[0].tokens, self.n_neighbors)]
        else:
            distances = [
                bank.nearest_distance(flat(view), self.n_neighbors)
                for view in self._embedder.stream(_views_of(items[0]), canvas)
            ]
        self._bank = bank
        method, topk = self.aggregation_method, self.aggregation_topk
        return np.array([image_score(d, method, topk) for d in distances], dtype=np.float64)

    def _new_bank(self, tokens: Sequence[Floats]) -> MemoryBank:
        if isinstance(self._embedder, InjectedEmbedder):
            return MemoryBank(tokens, "numpy" if self.knn_backend == "auto" else self.knn_backend)
        backend = "torch" if self.knn_backend == "auto" else self.knn_backend
        return MemoryBank(tokens, backend, str(self._embedder.device))

    def _bank_size(self, n_patches: int) -> int:
        size = max(1, round(self.coreset_sampling_ratio * n_patches))
        return size if self.max_patches is None else min(size, self.max_patches)


@dataclass(frozen=True, eq=False)
class NearestScorer:
    """Scores one image against a memory bank; see :class:`~.detector.Scorer`."""

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


def flat(image: PatchTokens) -> Floats:
    """Patch tokens row by row, shape (rows * cols, D)."""
    return image.tokens.reshape(-1, image.tokens.shape[-1])


def _views_of(item: Item) -> list[Item]:
    # Pillow and OpenCV are loaded where images are, not where models are listed.
    from .frame import read_pixels
    from .views import augmented_views

    return list(augmented_views(read_pixels(item)))
