"""Few-shot detector: compares patch tokens with a memory bank of normal patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .arrays import Floats, Scores, Size
from .bank.copies import all_copies, distinct
from .bank.enrolment import Added, Enrolment, among_others
from .bank.matches import Match, as_given, nearest_matches
from .bank.memory_bank import ROW_TYPES, MemoryBank, RowType
from .bank.relatives import more_groups, told_groups
from .bank.scorer import NearestScorer, scored_by
from .bank.search import SearchBackend, check_backend
from .bank.whole import Whole
from .checks import check_choice, check_count, check_number, one_of
from .detector.base import METADATA, TAGS, items_of
from .detector.calibrated import CalibratedDetector
from .detector.enrolled import Enrolled, restored, training_scores
from .detector.learnt import Calibration, Lesson, image_scores
from .detector.spans import DISTANCE
from .encoder.settings import LEAST_LENGTH, check_layers
from .encoder.tokens import InjectedEmbedder
from .files.checkpoint import Checkpoint
from .images.items import Item, as_items
from .images.roi import for_sizes
from .images.views import JITTER, View, views_of
from .maps.overview import soft_maximum, unit_of
from .maps.scores import ImageScores, image_score
from .pool.products import product_beside
from .pool.standing import standing

MOST_JITTER = 0.25  # of the side


@dataclass(kw_only=True, eq=False, repr=False)
class VisionOpenCLIPPatchKNN(CalibratedDetector):
    """Few-shot detector: patches are anomalous when far from all patches of normal images.

    Patch tokens from several depths and neighbourhoods (MuSc, Li et al., ICLR 2024) are compared
    with a memory bank of tokens from normal images (PatchCore, Roth et al., CVPR 2022). The score
    of a patch is its cosine distance to the nearest stored token. Training scores leave out the
    image's own tokens, so the threshold holds for new images.

    With ``smallest_defect`` and windows, the details in windows and the whole image are compared
    apart, each with tokens of its kind. A patch score is the details' with a fifth of the whole
    image's at this place. The image score is a soft maximum of both, each measured by what one in
    ten normal images exceeds, so that defects count that are not small.

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
        layers: Relative depths of the feature tokens, each in (0, 1]. The tower is not run deeper
            than the last one. With ``smallest_defect`` half the smallest of them is added, but not
            for the whole image beside windows, since small things are told best early in the tower.
        neighbourhoods: Odd sides in patches of the squares over which feature tokens are
            averaged. (1,) may work better when a fine texture changes as a whole.
        dimension: Length of feature tokens after a random projection, at least 8; None for no
            projection, which takes a longer search and more memory.
        rotations: Number of evenly spaced orientations stored per training image; 1 stores only
            the original, 8 suits parts that lie in any direction.
        jitter: Share of the side by which copies of training images are moved up, down, left and
            right to be stored as well, since parts rarely lie exactly as in another image, at most
            0.25; 0 for none, None for 0.02, or 0 with a custom embedder. :meth:`fit` encodes four
            copies of each of up to 25 images; with more of them 100 copies, evenly spread over all.
            The time to score an image does not change.
        n_neighbors: Number of nearest stored tokens over which a patch's distance is averaged.
        knn_backend: Search library: ``"numpy"``, ``"torch"`` and ``"faiss"`` are exact;
            ``"faiss-ivf"`` is approximate, for very large banks; ``"auto"`` is torch, or NumPy with
            a custom embedder. ``"sklearn"`` is another name of ``"numpy"``.
        memory_bank_dtype: Data type of the stored tokens: ``"float32"``, or ``"float16"`` to halve
            the memory and the checkpoint.
        coreset_sampling_ratio: Share of the patches to keep, in (0, 1].
        max_patches: Maximum number of patches to keep, as a coreset that covers the others; None
            for no limit.
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
        ValueError: If an argument is out of range.
        ImportError: If open_clip or the library of ``knn_backend`` is needed but not installed.
    """

    layers: Sequence[float] = (0.5, 0.75)
    neighbourhoods: Sequence[int] = (1, 3)
    dimension: int | None = 384
    rotations: int = 1
    jitter: float | None = None
    n_neighbors: int = 1
    knn_backend: SearchBackend = "auto"
    memory_bank_dtype: RowType = "float32"
    coreset_sampling_ratio: float = 1.0
    max_patches: int | None = 5_000

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

    def __post_init__(self) -> None:
        check_backend(self.knn_backend)
        ratio = check_number("coreset_sampling_ratio", self.coreset_sampling_ratio, above=0, most=1)
        self._put("coreset_sampling_ratio", ratio)
        check_choice("memory_bank_dtype", self.memory_bank_dtype, ROW_TYPES)
        check_count("n_neighbors", self.n_neighbors)
        check_count("rotations", self.rotations, most=360)
        if self.jitter is not None:
            check_number("jitter", self.jitter, above=0, most=MOST_JITTER, itself=True)
        if self.dimension is not None:
            check_count("dimension", self.dimension, least=LEAST_LENGTH)
        if self.max_patches is not None:
            check_count("max_patches", self.max_patches)
        super().__post_init__()
        self._learnt: Enrolled = Enrolled()

    @property
    def memory_bank_(self) -> MemoryBank:
        """The stored patch tokens, a :class:`~.bank.memory_bank.MemoryBank`.

        Its ``tokens`` have unit length, shape (N, D), in ``memory_bank_dtype``.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        return self._learnt.filled

    @property
    def groups_(self) -> tuple[str, ...] | None:
        """The group of each image in the bank, as :meth:`fit` was told; None if it was not."""
        return self._learnt.relatives.groups

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
    def covering_distance_(self) -> float:
        """:attr:`covering_radius_` as a cosine distance, which patch scores and thresholds are.

        A bank that is thinned raises the score of a normal patch by about so much at most: if it is
        not far below the threshold, keep more patches. With the bundled tower it was by less on
        leather, tile and cork, but there is no guarantee, since it is measured on a projection, and
        cosine distances do not add up. It grows each time that a growing bank is thinned; from 1 on
        it tells nothing.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        return min(2.0, self.covering_radius_**2 / 2)  # a projection can lengthen distances

    def partial_fit(
        self,
        x: object = None,
        y: object = None,  # noqa: ARG002 - scikit-learn's signature
        *,
        X: object = None,
        groups: object = None,
    ) -> VisionOpenCLIPPatchKNN:
        """Add normal images to the memory bank, thin it again, and update the threshold.

        A ``threshold_`` that the caller has set stays; see :meth:`computed_threshold`.

        Training scores of earlier images are updated while the bank keeps all patches. Once the
        bank has been thinned they stay unchanged, and the threshold is mostly too high, the more so
        the fewer images there were at first, above all with windows: better fit on all images at
        once if you have them. Only the score of an image that was learnt alone, which was by its
        own copies, is measured anew by the patches of it that the bank had. Like the images of
        :meth:`fit`, an added image keeps its training score when it is scored again; new images
        that show the same get low scores. If anything fails or is interrupted, the detector is left
        unchanged.

        Args:
            x: Images, as for :meth:`fit`; resized as chosen there.
            y: Ignored; all images are assumed to be normal.
            X: Alias for ``x``.
            groups: As for :meth:`fit`; needed if and only if they were given there.

        Returns:
            The detector itself.

        Raises:
            ValueError: If there is no image, or one cannot be read, regardless of ``on_error``; the
                message names it.
        """
        with self._lock:
            learnt = self._learnt
            earlier: Scores = getattr(self, "decision_scores_", np.empty(0))
        items = as_items(one_of(x, X))
        if learnt.bank is None:
            learn = partial(self._learn, groups=told_groups(groups, len(items)))
        else:
            told = more_groups(learnt.relatives.groups, groups, len(items))
            learn = partial(self._learn_more, learnt=learnt, earlier=earlier, groups=told)
        return self._teach(items, learn, adding=True)

    def nearest(self, image: Item | ImageScores, count: int = 5) -> list[Match]:
        """Find the nearest stored patches of an image's hottest patches.

        Args:
            image: An image in any form that the README names; or a result of :meth:`score_iter`
                with tokens, of which nothing is read again.
            count: Number of patches.

        Returns:
            The hottest patches, hottest first, each with its nearest stored patch; a training image
            is compared with the others only, or with itself, apart from where it touches the patch,
            if there are no others. An unreadable image gives an empty list and a warning with
            ``on_error="nan"``.

        Raises:
            RuntimeError: Before :meth:`fit`.
            ValueError: If the image cannot be read.
        """
        check_count("count", count)
        with self._lock:
            scoring = self._freeze(items_of(image))
            learnt = self._learnt
        scored = self._look(image, scoring, with_tokens=True)
        if scored.tokens is None:
            return []
        own = learnt.left_out_with(scored.tokens.identity)
        found = nearest_matches(learnt.filled, scored, count, self._views(), own)
        return as_given(found, learnt.numbers)

    def region_threshold(self) -> float:
        """Map value that a pixel has to exceed to be hot in :meth:`explain`.

        Of the maps of training images, each compared with the others, the share ``contamination``
        has a higher peak. It moves in proportion to a ``threshold_`` that the caller sets.

        Raises:
            RuntimeError: If there is no threshold yet.
        """
        with self._lock:
            return super().region_threshold()

    def region_share(self) -> float:
        """Tell what :meth:`region_threshold` is as a multiple of ``threshold_``."""
        return self._learnt.region_share(self.contamination)

    def _embedder_settings(self) -> dict[str, Any]:
        overview = layers = check_layers(self.layers)
        if self.smallest_defect is not None:
            layers = (min(layers) / 2, *layers)
        names = ("neighbourhoods", "dimension")
        chosen = {name: getattr(self, name) for name in names}
        return {"tokens": "features", "layers": layers, "overview_layers": overview, **chosen}

    def _settings_of_no_score(self) -> frozenset[str]:
        # All exact searches give the same result.
        return frozenset() if self.knn_backend == "faiss-ivf" else frozenset({"knn_backend"})

    def _scorer(self, learnt: Enrolled) -> NearestScorer:
        bank, method, topk = learnt.filled, self.aggregation_method, self.aggregation_topk
        return NearestScorer(
            bank, self.n_neighbors, method, topk, learnt.scores, learnt.overview, learnt.unit
        )

    def _largest_score(self, learnt: Enrolled) -> float:
        if learnt.overview is None:
            return DISTANCE
        return soft_maximum(DISTANCE, DISTANCE, learnt.unit)

    def _learn(self, items: Sequence[Item], groups: tuple[str, ...] | None) -> Lesson:
        learnt = Enrolled(self._embedder.choose_canvas(items))
        return self._learn_more(items, learnt, np.empty(0), groups)

    def _learn_more(
        self,
        items: Sequence[Item],
        learnt: Enrolled,
        earlier: Scores,
        groups: tuple[str, ...] | None,
    ) -> Lesson:
        """Learn from more images; ``earlier`` are the scores of those that were learnt before."""
        banks = [bank.copy() for bank in learnt.banks] or self._new_banks(learnt.canvas)
        added, bank = self._enrolment(learnt)(banks, items, groups), banks[0]
        if not added.distances:
            return _known_already(learnt, earlier, added)
        kept = len(bank.images) - len(added.distances)
        before = [scored.by_scale for scored in learnt.scores[:kept]]
        if before and all_copies(learnt.near) and not all_copies(added.copies):
            each = zip(before, added.near, strict=False)
            before = [
                among_others(learnt.banks, banks, number, near.tolist(), alone, self.n_neighbors)
                for number, (alone, near) in enumerate(each)
            ]
        every, unit = self._scored([*before, *added.distances], bank)
        by_patch = [found.patches for found in every]
        known = Enrolled(
            learnt.canvas,
            bank,
            tuple(added.near),
            (*learnt.numbers, *added.numbers),
            every,
            added.standing,
            added.relatives,
            banks[1] if len(banks) > 1 else None,
            unit,
            whole=Whole.grown(
                learnt.whole, added.portraits, added.near, by_patch, turned=self.rotations > 1
            ),
        )
        if len(known.scores) < len(bank.images):  # of version 0.1.0, and thinned
            new = np.concatenate([earlier, image_scores(every)])[list(added.numbers)]
            scores = np.concatenate([earlier, new])
            return Lesson(replace(known, scores=()), scores, Calibration.of(scores))
        calibration = _calibration(known, added)
        return Lesson(known, image_scores(known.scores)[list(known.numbers)], calibration)

    def _enrolment(self, learnt: Enrolled) -> Enrolment:
        return Enrolment(
            self._embedder,
            learnt.canvas,
            for_sizes(self._roi, learnt.sizes),
            self.channel_order,
            self._views(),
            self.n_neighbors,
            self._bank_size,
            partial(standing, product=product_beside(self._embedder)),
        )

    def _scored(
        self, distances: Sequence[tuple[Floats, ...]], bank: MemoryBank
    ) -> tuple[tuple[ImageScores, ...], float]:
        """Scores of the last images in the bank by distances, and the unit of the overview."""
        aggregate = partial(image_score, method=self.aggregation_method, topk=self.aggregation_topk)
        scales = [[aggregate(found) for found in scale] for scale in zip(*distances, strict=True)]
        unit = unit_of(*scales) if len(scales) > 1 else 1.0
        images = bank.images[len(bank.images) - len(distances) :]
        each = zip(distances, images, strict=True)
        return tuple(scored_by(found, image.size, aggregate, unit) for found, image in each), unit

    def _views(self) -> tuple[View, ...]:
        """The views of each image that the bank has."""
        usual = 0.0 if isinstance(self._embedder, InjectedEmbedder) else JITTER
        return views_of(self.rotations, usual if self.jitter is None else self.jitter)

    def _standing(self) -> Scores:
        learnt = self._learnt
        if learnt.bank is None:
            return super()._standing()  # raises
        scores = learnt.standing
        return scores[list(learnt.numbers)] if len(scores) else scores

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

    def _new_banks(self, canvas: Size | None) -> list[MemoryBank]:
        """One for each scale at which images on a canvas are seen."""
        if canvas is None or isinstance(self._embedder, InjectedEmbedder):
            return [self._new_bank()]
        known = self._embedder.canvases  # a file may name any canvas
        windows = known.may_choose(canvas) and known.windows(canvas) is not None
        return [self._new_bank() for _ in range(1 + windows)]

    def _bank_size(self, n_patches: int) -> int:
        size = max(1, round(self.coreset_sampling_ratio * n_patches))
        return size if self.max_patches is None else min(size, self.max_patches)

    def _from_checkpoint(self, checkpoint: Checkpoint, canvas: Size | None) -> Enrolled:
        return restored(
            checkpoint,
            canvas,
            self._new_banks(canvas),
            len(self._views()),
            self._scored,
            one_length=self.dimension is not None,
        )

    def _training_scores(self, checkpoint: Checkpoint) -> Scores:
        return training_scores(checkpoint)

    def _learnt_facts(self) -> dict[str, str]:
        facts, bank = super()._learnt_facts(), self._learnt.bank
        if bank is None:
            return facts
        kept = f"{len(bank)} patches"
        if not bank.is_complete:
            kept = f"{len(bank)} of {bank.seen} patches"
            if self.covering_distance_ < 1:
                kept += ", the others within a cosine distance of about "
                kept += f"{self.covering_distance_:.3g}"
        return {**facts, "fitted on": f"{len(bank.images)} images", "bank": kept}


def _known_already(learnt: Enrolled, earlier: Scores, added: Added) -> Lesson:
    """What copies of images that were learnt before tell: which groups are one."""
    own = [earlier[learnt.numbers.index(number)] for number in added.numbers]
    known, calibration = replace(learnt, numbers=(*learnt.numbers, *added.numbers)), None
    if added.relatives.groups != learnt.relatives.groups:
        known = replace(known, near=tuple(added.near), relatives=added.relatives)
        calibration = _calibration(known, added) if known.scores else None
    return Lesson(known, np.append(earlier, own), calibration)


def _calibration(known: Enrolled, added: Added) -> Calibration:
    """What the thresholds follow from: different images."""
    scores, parts = image_scores(known.scores), added.relatives.parts(len(known.scores))
    if not all_copies(added.copies):
        added.relatives.tell()
    apart = distinct(added.copies, scores)
    return Calibration.of(scores[apart], None if parts is None else parts[apart])
