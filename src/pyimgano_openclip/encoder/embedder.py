"""Turns images into patch tokens, and sentences into text vectors.

The boundary to torch: everything that it returns is NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import Floats, Size, unit
from ..checks import check_choice, check_number
from ..images.identity import Recall, Recalled, nothing_known
from ..images.items import Item, as_items, as_source
from ..images.look import shrunk
from ..images.pixels import Pixels
from ..images.read_ahead import in_batches
from ..images.reading import Frame, image_size, read_frame
from ..images.roi import Roi
from ..images.unreadable import UnreadableError, attempt, or_raise
from ..memory import in_halves
from . import text_cache, weights
from .canvases import Canvases
from .features import Projection, ProjectionKind, projected, tokens_by_kind
from .fingerprint import fingerprint
from .hardware import choose_device, choose_dtype
from .model import LazyModel, Loaded
from .neutral import neutral
from .settings import (
    check_image_size,
    check_layers,
    check_neighbourhoods,
    check_numbers,
    check_windows,
)
from .tokens import Attention, PatchTokens, Positions, Precision
from .towers import Request, Tower
from .towers.catalogue import EXAMPLES
from .windows import Maps, WindowPlan, join, mosaic, one_by_one

LARGEST_DEFECT = 1e6  # pixels; larger than any image
BATCH_SIZE = {"cpu": 8, "cuda": 32}  # images

T = TypeVar("T")
Outcomes: TypeAlias = Generator[PatchTokens | UnreadableError, None, None]

Tokens: TypeAlias = Literal["features", "aligned"]


@dataclass(eq=False, repr=False)
class OpenCLIPPatchEmbedder:
    """Computes patch tokens and text vectors with an open_clip model.

    Nothing is loaded until the first image or sentence. It also works with other pyimgano
    detectors that accept an ``embedder``: ``create_model("vision_anomalydino", embedder=...)``.

    Args:
        model_name: Name of an open_clip model, ``"local-dir:DIR"``, ``"hf-hub:ORG/REPO"`` or
            ``"bundled"``.
        pretrained: Tag of open_clip weights or path of a weights file; None for random weights.
        tokens: ``"features"`` for comparing images with images, ``"aligned"`` for comparing
            patches with texts.
        attention: Side path of the aligned tokens: ``"vv"``, ``"qq"``, ``"kk"`` or ``"none"``;
            ``"auto"`` is ``"vv"`` if the tower has a side path.
        stages: Number of equal groups of blocks over which the side path is summed.
        layers: Relative depths of the feature tokens, each in (0, 1].
        neighbourhoods: Odd sides in patches of the squares over which feature tokens are averaged.
        windows: Sides in patches of windows that are embedded separately, in addition to the
            aligned tokens (WinCLIP).
        dimension: Length of feature tokens after a random projection, at least 8; None for no
            projection.
        surgery: Number of last blocks whose side path is accumulated on the tokens that enter them,
            as in CLIP Surgery; 0 for the sums over ``stages``.
        final: Whether the feature tokens beside aligned ones are the last before the projection, as
            in WinCLIP+, instead of those of ``layers``.
        positions: Interpolation of position embeddings to other grids: ``"bicubic"`` as open_clip,
            or ``"bilinear"`` as CLIP Surgery.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, ...
        image_size: Input size of the tower in pixels, one side or (height, width); None for its
            own.
        resize: ``"keep"`` keeps the proportions of the images on a rectangular grid,
            ``"squash"`` resizes them to the tower's own shape.
        max_tokens: Maximum number of patches that the tower sees at once; None for four times its
            own number.
        smallest_defect: Side in pixels, on images of the usual size, of what should fill most of a
            patch, which covers two thirds of that side; images that the tower cannot see at once at
            such a resolution are seen as a whole and through overlapping windows of the tower's
            size, see :mod:`~.windows`. None to show each image to the tower at once.
        overview_layers: Relative depths of the feature tokens of whole images that are seen through
            windows as well; these tokens then come beside those of windows, as
            ``PatchTokens.overview``. None to join both scales in each token.
        batch_size: Maximum number of images or windows per pass; None to choose by device. On a
            CPU in float32, tokens differ by less than 1e-6 between batches of different sizes,
            since matrix products of different shapes are summed in a different order.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` (not on the CPU), or ``"auto"``:
            bfloat16 where the hardware computes in it, else float32.
        random_seed: Seed of random weights.
        download: If False, no weights are downloaded; a model that would need a download gets
            random weights.

    Raises:
        ValueError: If an argument is out of range, the model or its weights are unknown, or its
            tower does not support such tokens.
    """

    model_name: str = "ViT-B-16-plus-240"
    pretrained: str | os.PathLike[str] | None = "laion400m_e31"
    _: KW_ONLY
    tokens: Tokens = "features"
    attention: Attention = "auto"
    stages: int = 4
    layers: Sequence[float] = (0.5, 0.75)
    neighbourhoods: Sequence[int] = (1, 3)
    windows: Sequence[int] = ()
    dimension: int | None = 384
    surgery: int = 0
    final: bool = False
    positions: Positions = "bicubic"
    device: Any = "auto"  # a torch.device from here on
    image_size: int | Size | None = None
    resize: Literal["keep", "squash"] = "keep"
    max_tokens: int | None = None
    smallest_defect: float | None = None
    overview_layers: Sequence[float] | None = None
    batch_size: int | None = None
    precision: Precision = "auto"
    random_seed: int = 0
    download: bool = True

    def __post_init__(self) -> None:
        check_numbers(
            stages=self.stages,
            surgery=self.surgery,
            dimension=self.dimension,
            resize=self.resize,
            max_tokens=self.max_tokens,
            batch_size=self.batch_size,
            random_seed=self.random_seed,
        )
        check_choice("tokens", self.tokens, get_args(Tokens))
        check_choice("attention", self.attention, get_args(Attention))
        check_choice("positions", self.positions, get_args(Positions))
        if isinstance(self.pretrained, os.PathLike):
            self.pretrained = os.fspath(self.pretrained)
        self.layers = check_layers(self.layers)
        self.overview_layers = (
            None if self.overview_layers is None else check_layers(self.overview_layers)
        )
        self.neighbourhoods = check_neighbourhoods(self.neighbourhoods)
        self.windows = check_windows(self.windows)
        self.image_size = check_image_size(self.image_size)
        self.device = choose_device(self.device)
        self.dtype = choose_dtype(self.precision, self.device)
        self._source = weights.find_source(
            self.model_name, self.pretrained, download=self.download, seed=self.random_seed
        )
        self._model = LazyModel(self._source, self.device, self.dtype)
        self._check_family()
        if self.smallest_defect is not None:
            check_number("smallest_defect", self.smallest_defect, above=0, most=LARGEST_DEFECT)
        dimension = self.dimension
        self._projection = None if dimension is None else Projection(dimension)
        self._projection_of_overview = None if dimension is None else Projection(dimension)
        self._joined: Projection | None = None

    def embed(self, image: Item) -> tuple[Floats, Size, Size]:
        """Compute the patch tokens of one image on a grid that fits its aspect ratio.

        Args:
            image: An image in any form that the README names, arrays in RGB.

        Returns:
            Tokens of shape (rows * cols, D), float32, row by row from the top left;
            (rows, cols); (height, width) of the image in pixels.

        Raises:
            ValueError: If the image cannot be read.
            FileNotFoundError: If the weights are neither cached nor downloadable.
        """
        return self.embed_batch([image])[0]

    def embed_batch(self, images: Iterable[Item]) -> list[tuple[Floats, Size, Size]]:
        """Compute the patch tokens of images on one grid that fits their median aspect ratio.

        Args:
            images: Images in any form that the README names, arrays in RGB, as a list or one
                stacked array (N, H, W, 3), or the path of a folder of them.

        Returns:
            For each image, in order, the same as :meth:`embed`.

        Raises:
            ValueError: If there is no image, or one cannot be read; the message names it.
            FileNotFoundError: As for :meth:`embed`.
        """
        items = as_items(images, "images")
        canvas = self.choose_canvas(items, argument="images")
        found = []
        outcomes = cast(Outcomes, self.outcomes(items, canvas))
        for patches in or_raise(outcomes, "images"):
            rows, cols, width = patches.tokens.shape
            found.append((patches.tokens.reshape(rows * cols, width), (rows, cols), patches.size))
        return found

    @property
    def projection(self) -> ProjectionKind | None:
        """Kind of the projection of feature tokens; None without one."""
        return None if self._projection is None else self._projection.kind

    def with_projection(self, kind: ProjectionKind | None) -> OpenCLIPPatchEmbedder:
        """This embedder, or one that shares the loaded tower, with a projection of this kind.

        Raises:
            ValueError: If the kind is unknown.
        """
        if kind is None or self.dimension is None or kind == self.projection:
            return self
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__, _projection=Projection(self.dimension, kind))
        return twin

    def choose_canvas(
        self, items: Sequence[Item], *, argument: str = "x", skip_unreadable: bool = False
    ) -> Size | None:
        """Choose (height, width) in pixels to which images like these are resized.

        Reads the image headers and loads the model for its own size, but decodes no image.

        Args:
            items: Images, as for :meth:`embed_batch`.
            argument: Name of the caller's list, for messages.
            skip_unreadable: Whether to ignore unreadable images; the result is None if there are
                no others.

        Raises:
            ValueError: If an image cannot be read, unless ``skip_unreadable``.
            FileNotFoundError: As for :meth:`embed`.
        """
        canvases = self.canvases
        if canvases.fixed and canvases.smallest_defect is None:
            return canvases.native
        sizes = [attempt(image_size, item) for item in as_source(items, argument)]
        if skip_unreadable:
            sizes = [found for found in sizes if not isinstance(found, UnreadableError)]
        known = list(or_raise(sizes, argument))
        return canvases.choose(known) if known else None

    @property
    def canvases(self) -> Canvases:
        """The canvases to which images can be resized; loads the model for its own size."""
        tower = self.tower
        stride = tower.feature_stride if self.tokens == "features" else tower.patch_size
        return Canvases.of(
            tower, self.image_size, self.resize, self.max_tokens, self.smallest_defect, stride
        )

    def resolution(self, canvas: Size, size: Size | None, roi: Roi | None) -> str | None:
        """How ``smallest_defect`` is met on a canvas for images of a usual size, and at what cost.

        None without it, and before the model is loaded, which this does not do.
        """
        return self.canvases.described(canvas, size, roi) if self._model.is_loaded else None

    def stream(
        self, items: Iterable[Item], canvas: Size | None, *, with_features: bool = False
    ) -> Generator[PatchTokens, None, None]:
        """Yield the tokens of images in order, a batch at a time, all on one canvas.

        Args:
            items: Images, as for :meth:`embed_batch`.
            canvas: (height, width) in pixels, in whole patches; see :meth:`choose_canvas`.
            with_features: Whether to return feature tokens in addition to aligned ones.

        Raises:
            ValueError: If an image cannot be read, after those before it have been yielded, or
                ``canvas`` is not in whole patches.
            FileNotFoundError: As for :meth:`embed`.
        """
        outcomes = cast(Outcomes, self.outcomes(items, canvas, with_features=with_features))
        return or_raise(outcomes)

    def outcomes(
        self,
        items: Iterable[Item],
        canvas: Size | None,
        *,
        with_features: bool = False,
        recall: Recall[T] = nothing_known,
        lazily: bool = False,
    ) -> Generator[PatchTokens | UnreadableError | Recalled[T], None, None]:
        """Like :meth:`stream`, with errors in place of unreadable images.

        Args:
            items: Images, as for :meth:`embed_batch`.
            canvas: (height, width) in pixels, in whole patches.
            with_features: Whether to return feature tokens in addition to aligned ones.
            recall: What is known of an image by its identity, yielded in place of its tokens; None
                to encode it.
            lazily: Whether to take at most one batch of items ahead of what has been yielded, for
                those that are made while they are scored.

        Raises:
            ValueError: If ``items`` is a single image, or ``canvas`` is not in whole patches.
            FileNotFoundError: As for :meth:`embed`.
        """
        if canvas is not None:
            canvas = self.canvases.checked(canvas)
        request = self._request(with_features=with_features)
        resample = self.loaded.preprocessing["interpolation"]
        plan = None if canvas is None else self.canvases.windows(canvas)
        whole = None if plan is None else self.canvases.whole(cast(Size, canvas))
        read = partial(read_frame, canvas=canvas, resample=resample, recall=recall, whole=whole)
        size = self.batch if plan is None else 1
        run = partial(self._run, request=request)
        if plan is not None:
            run = partial(self._run_in_windows, plan=plan, request=request)

        def encode(frames: list[Frame]) -> list[PatchTokens]:
            return in_halves(run, frames, what=_shown(frames[0]))

        yield from in_batches(read, encode, as_source(items, "items"), size, lazily=lazily)

    def encode_text(self, sentences: Sequence[str]) -> Floats:
        """Encode sentences to unit-length vectors, shape (N, D), with the model's own tokenizer.

        The text tower is loaded for this and released afterwards. A :class:`CutSentenceWarning`
        names sentences that are longer than its context.

        Raises:
            ValueError: If there are none, or one is no string.
        """
        _check_sentences(sentences)
        return unit(self._model.encode(sentences)[0])

    def encode_ensembles(
        self, ensembles: Sequence[Sequence[str]], *, scaled: bool = True
    ) -> list[Floats]:
        """Encode each ensemble of sentences to the normalised mean of their vectors.

        The results are cached on disk; cached ones need no text tower. See ``text_cache.py``.
        Those of sentences that were cut are not, so that each process warns of them.

        Args:
            ensembles: Lists of sentences with the same meaning.
            scaled: Whether each vector is scaled to unit length before they are averaged; WinCLIP
                averages them as they are.

        Returns:
            For each ensemble a unit-length vector, shape (D,).

        Raises:
            ValueError: If an ensemble is empty, or no list of strings.
        """
        for texts in ensembles:
            _check_sentences(texts)
        return text_cache.ensembles(self.identity, ensembles, self._model.encode, scaled=scaled)

    @property
    def batch(self) -> int:
        """Maximum number of images at once."""
        return self.batch_size or BATCH_SIZE.get(self.device.type, BATCH_SIZE["cpu"])

    @property
    def origin(self) -> str:
        """Description of model and weights; loads nothing."""
        known = "random weights" if self._source.random else self._source.pretrained
        return self.model_name if known is None else f"{self.model_name}, {known}"

    @property
    def visual(self) -> nn.Module:
        """The image tower, loaded on first use, in evaluation mode."""
        return self.tower.visual

    @property
    def tower(self) -> Tower:
        """The image tower with what its family needs, loaded on first use."""
        return self.loaded.tower

    @property
    def loaded(self) -> Loaded:
        """The image tower and its preprocessing, loaded on first use."""
        return self._model.loaded

    @property
    def fingerprint(self) -> str:
        """Digest of the image tower, which it loads; see :mod:`~.fingerprint`."""
        return fingerprint(self.visual, self.loaded.preprocessing)

    @property
    def identity(self) -> str:
        """What changes with the model and its weights; loads those from the Hugging Face hub."""
        return self._model.identity

    def _check_family(self) -> None:
        """Refuse unsupported settings by the config, before anything is downloaded."""
        family = self._source.family
        if family is None or self.tokens == "features":
            return
        if not family.aligned:
            raise ValueError(
                f"{self.model_name!r} has a {family.name} tower, whose patches cannot be compared "
                f"with texts; choose another model ({EXAMPLES}) or vision_openclip_patchknn."
            )
        if self.attention not in ("auto", "none") and not family.side_path:
            raise ValueError(
                f"{self.model_name!r} has a {family.name} tower without a side path for "
                f"attention={self.attention!r}; use 'auto' or 'none'."
            )

    def _request(self, *, with_features: bool) -> Request:
        if self.tokens == "features":
            return Request(layers=tuple(self.layers))
        final = self.final and with_features
        return Request(
            aligned=self.attention,
            stages=self.stages,
            layers=tuple(self.layers) if with_features and not final else (),
            windows=tuple(self.windows),
            surgery=self.surgery,
            final=final,
            positions=self.positions,
        )

    def _run(self, frames: Sequence[Frame], request: Request) -> list[PatchTokens]:
        """See images at once."""
        with neutral(self.device), torch.inference_mode():
            pooled, maps = self._maps(np.stack([frame.pixels for frame in frames]), request)
            # Tokens as they leave the tower are compared as they are.
            found = self._finished(maps, None if request.final else self._projection)
        return [
            _patch_tokens(
                frame,
                {kind: tokens[place] for kind, tokens in found.items()},
                None if pooled is None else pooled[place],
            )
            for place, frame in enumerate(frames)
        ]

    def _run_in_windows(
        self, frames: Sequence[Frame], plan: WindowPlan, request: Request
    ) -> list[PatchTokens]:
        """See an image as a whole and through windows."""
        (frame,) = frames
        with neutral(self.device), torch.inference_mode():
            seen = np.stack([cast(Pixels, frame.whole)])
            pooled, whole = self._maps(seen, self._request_beside_windows(request))
            projection = self._projection_in_windows(whole)

            def look(numbers: Sequence[int]) -> list[dict[str | int, Floats]]:
                pixels = plan.cut(frame.pixels, numbers, self.tower.patch_size)
                detail = self._maps(pixels, request)[1]
                joined = join(plan, numbers, detail, whole)
                each = joined if self.overview_layers is None else one_by_one(detail)
                return [self._finished(maps, projection) for maps in each]

            area = frame.area
            numbers = None if area is None else plan.looked_at(area.over(frame.size))
            maps = mosaic(plan, self.batch, partial(in_halves, look, what=_shown(frame)), numbers)
            found = _patch_tokens(frame, maps, None if pooled is None else pooled[0])
            if self.overview_layers is None:
                return [found]
            tokens = self._finished(whole, self._projection_of_overview)["features"][0]
        return [replace(found, overview=PatchTokens(tokens, frame.size, None))]

    def _request_beside_windows(self, request: Request) -> Request:
        """What to read of a whole image that is seen through windows as well."""
        if self.overview_layers is None:
            return request
        return replace(request, layers=tuple(self.overview_layers))

    def _projection_in_windows(self, whole: Maps) -> Projection | None:
        """The usual one, or one of joined tokens to the length of those of one scale."""
        if self.overview_layers is not None:
            return self._projection
        if "features" not in whole:
            return None
        width = whole["features"].shape[-1]
        length, known = min(width, self.dimension or width), self._joined
        if known is None or known.dimension != length:
            self._joined = known = Projection(length)  # by its seed the same in all threads
        return known

    def _maps(self, pixels: Pixels, request: Request) -> tuple[Floats | None, Maps]:
        """Embeddings of images of shape (B, height, width, 3), and their tokens by kind."""
        output = self.tower(self._normalised(pixels), request)
        return _to_numpy(output.pooled), tokens_by_kind(output, self.neighbourhoods)

    def _finished(self, maps: Maps, projection: Projection | None) -> dict[str | int, Floats]:
        """Project the feature tokens and move all to NumPy."""
        found = {}
        for kind, tokens in projected(maps, projection).items():
            found[kind] = cast(Floats, _to_numpy(tokens))
            self._check_finite(found[kind])
        return found

    def _check_finite(self, tokens: Floats) -> None:
        if not np.isfinite(tokens).all():
            raise RuntimeError(
                f"The image tower of {self.origin} returned tokens that are not finite in "
                f"{str(self.dtype).removeprefix('torch.')}; use precision='float32' or other "
                "weights."
            )

    def _normalised(self, images: Pixels) -> Tensor:
        """Images of shape (B, 3, H, W), normalised with the tower's own statistics."""
        pixels = torch.from_numpy(images).to(self.device)
        mean, std = (
            torch.tensor(
                self.loaded.preprocessing[key], dtype=torch.float32, device=self.device
            ).view(3, 1, 1)
            for key in ("mean", "std")
        )
        return ((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std).to(self.dtype)


def _patch_tokens(
    frame: Frame, maps: Mapping[str | int, Floats], pooled: Floats | None
) -> PatchTokens:
    """The tokens of an image by kind; feature tokens are the main ones if there are no others."""
    return PatchTokens(
        tokens=maps["aligned"] if "aligned" in maps else maps["features"],
        size=frame.size,
        identity=frame.identity,
        pooled=pooled,
        features=maps.get("features") if "aligned" in maps else None,
        windows={kind: tokens for kind, tokens in maps.items() if isinstance(kind, int)},
        pages=frame.pages,
        range_used=frame.range_used,
        small=shrunk(frame.at_once),
    )


def _check_sentences(sentences: Sequence[str]) -> None:
    """Refuse a single string, whose letters would be sentences."""
    if isinstance(sentences, str) or not sentences:
        raise ValueError(f"{sentences!r} are no sentences; pass a list such as ['a screw'].")
    for sentence in sentences:
        if not isinstance(sentence, str):
            raise ValueError(f"{sentence!r} is no sentence; pass strings.")


def _shown(frame: Frame) -> str:
    height, width = frame.pixels.shape[:2]
    return f"one image of {width} x {height} pixels"


def _to_numpy(tensor: Tensor | None) -> Floats | None:
    return None if tensor is None else cast(Floats, tensor.float().cpu().numpy())
