"""Detector for unlabelled images: compares the images of a pool with each other."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

from .arrays import Scores, Size
from .bank.copies import tell_copies
from .bank.matches import Match, as_given
from .checks import check_choice, check_count, one_of
from .detector.base import METADATA, TAGS, OpenCLIPDetector, items_of
from .detector.learnt import Calibration, Learnt, Lesson, image_scores
from .detector.promises import FewImagesWarning
from .detector.saving import TRAINING_SCORES
from .detector.thresholds import OUTLIERS, pool_threshold
from .encoder.settings import check_layers, check_neighbourhoods
from .encoder.tokens import outcomes_within
from .files.checkpoint import Checkpoint, CheckpointError
from .images.items import Item, as_items, in_rgb
from .images.notices import callers_level
from .images.roi import area_of
from .images.unreadable import UnreadableError
from .maps.gaps import Gaps, gap
from .maps.scores import Aggregation, ImageScores
from .pool.gathering import Gathering, TooFewError, readable
from .pool.nearest import least_and_most
from .pool.products import product_beside
from .pool.recipes import KNOWN, RECIPES, Recipe, RecipeName
from .pool.scorer import PoolScorer
from .pool.shares import SPAN
from .pool.state import Pool, restored_pool

if TYPE_CHECKING:
    from .files.tensor_file import Arrays


class Met(NamedTuple):
    """What came of comparing images with each other.

    Attributes:
        pool: The readable ones; None if there are none.
        missing: Why an image cannot be read, by its index.
    """

    pool: Pool | None
    missing: dict[int, UnreadableError]


ThresholdRule = Literal["share", "outliers"]
MOST = 200  # images that each is compared with, by default
FEWEST = 4  # images, of which one can stand out


@dataclass(frozen=True)
class Pooled(Learnt):
    """What the detector has learnt.

    Attributes:
        scorer: What compares images with the pool; None before there is one.
    """

    scorer: PoolScorer | None = None

    @property
    def filled(self) -> PoolScorer:
        """The scorer.

        Raises:
            RuntimeError: Before there is one.
        """
        if self.scorer is None:
            raise RuntimeError(
                "There is no pool yet; call fit() with unlabelled images, most of them normal."
            )
        return self.scorer

    @property
    def each_size(self) -> tuple[Size, ...]:
        """Those of the images of the pool."""
        return tuple(image.size for image in self.scorer.pool.images) if self.scorer else ()

    @property
    def identities(self) -> frozenset[str]:
        """Those of the images of the pool."""
        return frozenset(self.scorer.pool.by_identity) if self.scorer else frozenset()

    def stored(self) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint keeps: the pool."""
        return self.filled.pool.stored()


@dataclass(kw_only=True, eq=False, repr=False)
class VisionOpenCLIPMutual(OpenCLIPDetector):
    """Detector for a folder and nothing else: patches are anomalous when few images have the like.

    The images of an unlabelled pool, most of them normal, are compared with each other (MuSc, Li et
    al., ICLR 2024). The score of a patch is the harmonic mean, over all other images, of its cosine
    distance to the nearest patch of that image. An image is never compared with itself, nor with
    near copies of itself. :meth:`fit` takes the pool; new images are then compared with it, and its
    own keep their scores. Without ``fit``, the images of one call are the pool.

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
        resize: ``"keep"`` resizes all images to one aspect ratio, the median of the pool;
            ``"squash"`` resizes them to a square.
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
        recipe: ``"fused"`` compares the tokens of all depths and neighbourhoods as one. ``"musc"``
            is the published method: four depths and three neighbourhoods compared apart, the mean
            distance to the nearest 30 % of the images, the maximum of the map as image score,
            averaged over images with similar class tokens (RsCIN). It costs 24 times as much, needs
            a tower, and ignores ``aggregation_method`` and ``aggregation_topk``. It looks at whole
            images, at once: not with ``roi`` or ``smallest_defect``.
        layers: Relative depths of the feature tokens, each in (0, 1]; None for those of the recipe:
            (0.25, 0.5, 0.75), or (0.25, 0.5, 0.75, 1).
        neighbourhoods: Odd sides in patches of the squares over which feature tokens are
            averaged; None for those of the recipe: (1, 3), or (1, 3, 5).
        max_comparisons: Maximum number of images that each is compared with, at least 2: a seeded
            sample in a larger pool, so that the cost is linear in the pool.
        threshold_rule: ``"share"`` for the score that a share ``contamination`` of the pool
            exceeds; ``"outliers"``, where that share is unknown, for the scores that stand out by
            1.75 standard deviations from the median of their logarithms, by the median deviation.
        aggregation_method: How the image score is computed from patch scores: ``"max"``, as MuSc
            does it, ``"topk_mean"`` or ``"mean"``.
        aggregation_topk: Share of the patches that ``"topk_mean"`` averages, in (0, 1]; None for
            the 2 hottest, whatever the grid.
        contamination: Share of anomalous images expected in the pool, in (0, 0.5], of those on
            which something can be seen.
        batch_size: Maximum number of images per pass; None to choose by device. On a CPU in
            float32, scores differ by less than 1e-6 between batches of different sizes, since
            matrix products of different shapes are summed in a different order.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"``, or ``"auto"`` for bfloat16 if the
            hardware supports it, else float32.
        random_seed: Seed of whatever is random: the weights of an untrained model, the sample that
            each image of a large pool is compared with.
        channel_order: Channel order of arrays and tensors: ``"rgb"``, or ``"bgr"`` as OpenCV reads
            them. Files are not affected. Can be changed at any time.
        on_error: How to handle unreadable images during scoring: ``"raise"`` a ValueError, or
            ``"nan"`` to set their scores and maps to NaN and their labels to 1, with one warning
            that counts them. Unreadable images to learn from always raise. Can be changed at any
            time; not saved in checkpoints. ``pyimgano-infer`` compares scores with the threshold
            itself, so that it labels NaN with 0: leave it at ``"raise"`` there.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If open_clip is needed but not installed.
    """

    recipe: RecipeName = "fused"
    layers: Sequence[float] | None = None
    neighbourhoods: Sequence[int] | None = None
    max_comparisons: int = MOST
    threshold_rule: ThresholdRule = "share"
    aggregation_method: Aggregation = "max"

    _refused_from: ClassVar[float] = SPAN
    registry_tags: ClassVar[tuple[str, ...]] = (*TAGS, "unsupervised", "neighbors")
    registry_metadata: ClassVar[Mapping[str, Any]] = {
        **METADATA,
        "description": "Unlabelled images: compares the images of a folder with each other; image "
        "scores, anomaly maps, no words and no normal images needed",
        "paper": "MuSc: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual "
        "Scoring of the Unlabeled Images",
        "year": 2024,
        "supervision": "unsupervised",
    }

    def __post_init__(self) -> None:
        check_choice("recipe", self.recipe, RECIPES)
        check_choice("threshold_rule", self.threshold_rule, get_args(ThresholdRule))
        check_count("max_comparisons", self.max_comparisons, least=2)
        if self.layers is not None:
            check_layers(self.layers)
        if self.neighbourhoods is not None:
            check_neighbourhoods(self.neighbourhoods)
        if self.embedder is not None and self._recipe.published:
            raise ValueError(
                "recipe='musc' needs the class token and four depths of a tower, which a custom "
                "embedder does not return; use recipe='fused'."
            )
        if self.smallest_defect is not None and self._recipe.published:
            raise ValueError(
                f"smallest_defect={self.smallest_defect!r} contradicts recipe='musc', which shows "
                "each image to the tower at once; use recipe='fused', or set force_image_size."
            )
        if self.roi is not None and self._recipe.published:
            raise ValueError(
                "recipe='musc' compares class tokens, which see whole images, beyond roi=; use "
                "recipe='fused'."
            )
        super().__post_init__()
        self._learnt: Pooled = Pooled()

    @property
    def pool_(self) -> Pool:
        """The images that were compared with each other, a :class:`~.pool.state.Pool`.

        Its ``tokens`` are those of the images that new ones are compared with, one image after the
        other, shape (R, L, D): R patches, L = 1 unless ``recipe="musc"``.

        Raises:
            RuntimeError: Before :meth:`fit`.
        """
        return self._learnt.filled.pool

    def nearest(self, image: Item | ImageScores, count: int = 5) -> list[Match]:
        """Find the images of the pool that an image resembles most and least.

        Args:
            image: An image in any form that the README names; or a result of :meth:`score_iter`
                with tokens, of which nothing is read again.
            count: Number of images of either kind.

        Returns:
            For each of these images, most similar first, the image's hottest patch and the patch
            most like it there. Images are similar if most patches of one have the like in the
            other, by the median over all patches, which is not the ``distance`` of that one. An
            image is not compared with itself, nor with its near copies, unless all images of the
            pool are. An unreadable image gives an empty list and a warning with
            ``on_error="nan"``.

        Raises:
            RuntimeError: Before :meth:`fit`.
            ValueError: If the image cannot be read.
        """
        check_count("count", count)
        with self._lock:
            scoring = self._freeze(items_of(image))
            scorer = self._learnt.filled
        scored = self._look(image, scoring, with_tokens=True)
        if scored.tokens is None:
            return []
        return as_given(least_and_most(scorer, scored, count), scorer.pool.numbers)

    @property
    def _recipe(self) -> Recipe:
        return KNOWN[self.recipe]

    @property
    def _parts(self) -> int:
        """Number of combinations of depths and neighbourhoods."""
        settings = self._embedder_settings()
        return len(settings["layers"]) * len(settings["neighbourhoods"])

    def _embedder_settings(self) -> dict[str, Any]:
        recipe = self._recipe
        chosen = {
            "layers": recipe.layers if self.layers is None else self.layers,
            "neighbourhoods": (
                recipe.neighbourhoods if self.neighbourhoods is None else self.neighbourhoods
            ),
        }
        if not recipe.published:
            return {"tokens": "features", **chosen}
        # Class tokens come with aligned tokens only.
        return {"tokens": "aligned", "attention": "none", "dimension": None, **chosen}

    def _scorer(self, learnt: Pooled) -> PoolScorer:
        return learnt.filled

    def fit(
        self,
        x: object = None,
        y: object = None,  # noqa: ARG002 - scikit-learn's signature
        *,
        X: object = None,
        skip_unreadable: bool = False,
    ) -> VisionOpenCLIPMutual:
        """Compare the images of an unlabelled pool with each other and set the threshold.

        The threshold follows from ``contamination`` or from the scores; see ``threshold_rule``.
        Images on which nothing can be seen always exceed it. Neither it nor other images depend on
        them: they are compared with the others, but no others with them. If anything fails or is
        interrupted, the detector is left unchanged. Tokens are kept as for patch-kNN, with 2 bytes
        per number (4 with ``recipe="musc"``).

        Args:
            x: Images in any form that the README names, in a list or one stacked array
                (N, H, W, 3), or the path of a folder of them; most of them normal.
            y: Ignored.
            X: Alias for ``x``.
            skip_unreadable: Whether unreadable images are left out, with one warning, in place of
                an error.

        Returns:
            The detector itself; ``decision_scores_`` has one score per readable image.

        Raises:
            ValueError: If there are not two different images on which something can be seen, or one
                cannot be read; the message names it.
            OSError: If the disk with the temporary directory is full.
        """
        items = as_items(one_of(x, X))
        return self._teach(items, partial(self._lesson, skip_unreadable=skip_unreadable))

    def _lesson(self, items: Sequence[Item], *, skip_unreadable: bool) -> Lesson:
        canvas = self._embedder.choose_canvas(items, skip_unreadable=skip_unreadable)
        gaps = Gaps("left out")
        met = self._compare(items, canvas, gaps, skip_unreadable=skip_unreadable)
        if met.pool is None:
            raise ValueError(f"None of the {len(items)} images can be read: {gaps.named}")
        places = [place for place in range(len(items)) if place not in met.missing]
        tell_copies([items[place] for place in places], met.pool.numbers, places=places)
        scorer = self._scorer_of(met.pool, canvas)
        scores = image_scores(scorer.training)
        own = scores[list(met.pool.numbers)]
        return Lesson(Pooled(canvas, scorer), own, Calibration.of(scores))

    @property
    def _gathering(self) -> Gathering:
        recipe, most, seed = self._recipe, self.max_comparisons, self.random_seed
        product = product_beside(self._embedder)
        return Gathering(recipe, self._parts, product, most, seed, self._roi)

    def _scorer_of(self, pool: Pool, canvas: Size | None) -> PoolScorer:
        method, topk = self.aggregation_method, self.aggregation_topk
        product = product_beside(self._embedder)
        return PoolScorer(pool, self._recipe, self._parts, canvas, method, topk, product)

    def _threshold(self, calibration: Calibration) -> tuple[float, Any]:
        return pool_threshold(self, calibration, SPAN)

    def _take_over(self, lesson: Lesson) -> None:
        if lesson.calibration is not None and self.threshold_rule == OUTLIERS:
            _tell_few(int((lesson.calibration.scores < SPAN).sum()))
        super()._take_over(lesson)

    def _score(
        self, items: Iterable[Item], *, at_first: int, with_tokens: bool = False
    ) -> Generator[ImageScores, None, None]:
        with self._lock:
            fitted = self._learnt.scorer is not None
        if fitted:
            return super()._score(items, at_first=at_first, with_tokens=with_tokens)
        return self._score_as_pool(list(items))

    def _score_as_pool(self, items: Sequence[Item]) -> Generator[ImageScores, None, None]:
        """Score images by each other; nothing is learnt from them.

        Raises:
            ValueError: If fewer than two different images can be read.
        """
        canvas = self._learnt.canvas or self._embedder.choose_canvas(items, skip_unreadable=True)
        try:
            met = self._compare(items, canvas, Gaps(), skip_unreadable=self.on_error == "nan")
        except TooFewError as error:
            remedy = "Call fit() with a pool to score single images against it."
            raise ValueError(f"{error} {remedy}") from error
        scored: Iterator[ImageScores] = iter(())
        if met.pool is not None:
            found = self._scorer_of(met.pool, canvas).training
            scored = (found[number] for number in met.pool.numbers)  # without their areas
        name = type(self).__name__
        for place, item in enumerate(items):
            missing = met.missing.get(place)
            if missing is not None:
                yield gap(item, missing)
            else:
                yield replace(next(scored), area=area_of(self._roi, item), detector=name)

    def _compare(
        self, items: Sequence[Item], canvas: Size | None, gaps: Gaps, *, skip_unreadable: bool
    ) -> Met:
        """Compare those images with each other that can be read, and warn of the others.

        Raises:
            UnreadableError: If an image cannot be read, unless they are skipped.
            TooFewError: If an image, but no two different ones can be read; it names the others.
        """
        in_order = [in_rgb(item, self.channel_order) for item in items]
        published = self._recipe.published
        outcomes = outcomes_within(
            self._embedder, self._roi, in_order, canvas, with_features=published
        )
        missing: dict[int, UnreadableError] = {}
        told = readable(outcomes, items, missing, skip=skip_unreadable, roi=self._roi)
        with closing(told) as read:
            first, pool = next(read, None), None
            try:
                if first is not None:
                    pool = self._gathering(chain([first], read), len(items))
            except TooFewError as error:
                if not missing:
                    raise
                _add(gaps, missing)
                raise TooFewError(f"{error} Not read: {gaps.named.rstrip('.')}.") from error
        _add(gaps, missing)
        gaps.warn()
        return Met(pool, missing)

    def _from_checkpoint(self, checkpoint: Checkpoint, canvas: Size | None) -> Pooled:
        published = self._recipe.published
        pool = restored_pool(checkpoint, with_embeddings=published)
        parts = pool.tokens.shape[1]
        trained = len(self._training_scores(checkpoint)) == len(pool.numbers)
        if not trained or parts != (self._parts if published else 1):
            raise CheckpointError(f"{checkpoint.path} is damaged: not one score per image.")
        return Pooled(canvas, self._scorer_of(pool, canvas))

    def _training_scores(self, checkpoint: Checkpoint) -> Scores:
        return checkpoint.numbers(TRAINING_SCORES, 1, "float64")

    def _learnt_facts(self) -> dict[str, str]:
        facts, scorer = super()._learnt_facts(), self._learnt.scorer
        if scorer is None:
            return facts
        pool = scorer.pool
        compared = f"{len(pool.kept)} of {len(pool.images)} images"
        return {**facts, "pool": f"{len(pool.images)} images", "new ones meet": compared}


def _add(gaps: Gaps, missing: Mapping[int, UnreadableError]) -> None:
    for error in missing.values():
        gaps.add(error)


def _tell_few(count: int) -> None:
    """Warn if too few images can be judged for one to stand out."""
    if count >= FEWEST:
        return
    warnings.warn(
        f"threshold_rule='outliers' looks for what stands out, but the pool has {count} different "
        f"images that can be judged, and fewer than {FEWEST} do not tell what is usual; the "
        "threshold is a guess. Pass more images, better twenty, or set threshold_.",
        FewImagesWarning,
        stacklevel=callers_level(),
    )
