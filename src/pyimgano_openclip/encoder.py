"""Turns images into patch tokens, and sentences into text vectors.

The boundary to torch: everything that it returns is NumPy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, Literal, TypeAlias, cast, get_args

import numpy as np
import open_clip
import torch
from torch import Tensor, nn

from . import text_cache, weights
from .canvases import Canvases
from .checks import check_choice
from .embedding import Attention, Floats, PatchTokens, Precision, Size, unit
from .features import Projection, fuse_features
from .fingerprint import fingerprint
from .frame import Frame, image_size, read_frame
from .hardware import choose_device, choose_dtype, heed_fork
from .items import Item, as_items
from .memory import ran_out
from .read_ahead import in_batches, read_ahead
from .tower_settings import (
    check_image_size,
    check_layers,
    check_neighbourhoods,
    check_numbers,
    check_windows,
)
from .towers import Request, Tower, TowerOutput, make_tower
from .towers.catalogue import EXAMPLES
from .unreadable import UnreadableError, attempt, or_raise

BATCH_SIZE = {"cpu": 8, "cuda": 32}  # images
PROJECTION_SEED = 0  # fixed, so that a bank fits all detectors with equal settings
TEXT_BATCH = 64  # sentences

Tokens: TypeAlias = Literal["features", "aligned"]


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
        neighbourhoods: Odd window sizes in patches over which feature tokens are averaged.
        windows: Sides in patches of windows that are embedded separately, in addition to the
            aligned tokens (WinCLIP).
        dimension: Length of feature tokens after a random projection; None for no projection.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, ...
        image_size: Input size of the tower in pixels, one side or (height, width); None for its
            own.
        resize: ``"keep"`` keeps the proportions of the images on a rectangular grid,
            ``"squash"`` resizes them to the tower's own shape.
        max_tokens: Maximum number of patches per image; None for four times the tower's own number.
        batch_size: Maximum number of images per pass; None to choose by device. On a CPU in
            float32, tokens differ by less than 1e-6 between batches of different sizes, since
            matrix products of different shapes are summed in a different order.
        precision: ``"float32"``, ``"bfloat16"``, ``"float16"`` (not on the CPU), or ``"auto"``:
            bfloat16 where the hardware computes in it, else float32.
        random_seed: Seed of random weights.
        download: If False, no weights are downloaded; a model that would need a download gets
            random weights.

    Raises:
        ValueError: If an argument is out of range, the model or its weights are unknown, or its
            tower does not support such tokens.
    """

    def __init__(
        self,
        model_name: str = "ViT-B-16-plus-240",
        pretrained: str | os.PathLike[str] | None = "laion400m_e31",
        *,
        tokens: Tokens = "features",
        attention: Attention = "auto",
        stages: int = 4,
        layers: Sequence[float] = (0.5, 0.75),
        neighbourhoods: Sequence[int] = (1, 3),
        windows: Sequence[int] = (),
        dimension: int | None = 384,
        device: str = "auto",
        image_size: int | Size | None = None,
        resize: Literal["keep", "squash"] = "keep",
        max_tokens: int | None = None,
        batch_size: int | None = None,
        precision: Precision = "auto",
        random_seed: int = 0,
        download: bool = True,
    ) -> None:
        check_numbers(
            stages=stages,
            dimension=dimension,
            resize=resize,
            max_tokens=max_tokens,
            batch_size=batch_size,
            random_seed=random_seed,
        )
        check_choice("tokens", tokens, get_args(Tokens))
        check_choice("attention", attention, get_args(Attention))
        self.model_name = model_name
        self.pretrained = (
            os.fspath(pretrained) if isinstance(pretrained, os.PathLike) else pretrained
        )
        self.tokens = tokens
        self.attention = attention
        self.stages = stages
        self.layers = check_layers(layers)
        self.neighbourhoods = check_neighbourhoods(neighbourhoods)
        self.windows = check_windows(windows)
        self.dimension = dimension
        self.image_size = check_image_size(image_size)
        self.resize = resize
        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self.precision = precision
        self.device = choose_device(device)
        self.dtype = choose_dtype(precision, self.device)
        self.random_seed = random_seed
        self._source = weights.find_source(
            model_name, self.pretrained, download=download, seed=random_seed
        )
        self._check_family()
        self._projection = None if dimension is None else Projection(dimension, PROJECTION_SEED)
        self._visual: nn.Module | None = None
        self._loading = threading.RLock()

    def embed(self, image: Item) -> tuple[Floats, Size, Size]:
        """Compute the patch tokens of one image on a grid that fits its aspect ratio.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.

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
            images: Paths or arrays, or one stacked array (N, H, W, 3).

        Returns:
            For each image, in order, the same as :meth:`embed`.
        """
        items = as_items(images, "images")
        canvas = self.choose_canvas(items, argument="images")
        found = []
        for patches in or_raise(self.outcomes(items, canvas), "images"):
            rows, cols, width = patches.tokens.shape
            found.append((patches.tokens.reshape(rows * cols, width), (rows, cols), patches.size))
        return found

    def choose_canvas(
        self, items: Sequence[Item], *, argument: str = "x", skip_unreadable: bool = False
    ) -> Size | None:
        """Choose (height, width) in pixels to which images like these are resized.

        Reads the image headers and loads the model for its own size, but decodes no image.

        Args:
            items: Paths or arrays.
            argument: Name of the caller's list, for messages.
            skip_unreadable: Whether to ignore unreadable images; the result is None if there are
                no others.

        Raises:
            ValueError: If an image cannot be read, unless ``skip_unreadable``.
        """
        canvases = self.canvases
        if canvases.fixed:
            return canvases.native
        sizes = [attempt(image_size, item) for item in items]
        if skip_unreadable:
            sizes = [found for found in sizes if not isinstance(found, UnreadableError)]
        known = list(or_raise(sizes, argument))
        return canvases.choose(known) if known else None

    @property
    def canvases(self) -> Canvases:
        """The canvases to which images can be resized; loads the model for its own size."""
        return Canvases.of(self._tower, self.image_size, self.resize, self.max_tokens)

    def stream(
        self, items: Iterable[Item], canvas: Size | None, *, with_features: bool = False
    ) -> Generator[PatchTokens, None, None]:
        """Yield the tokens of images in order, a batch at a time, all on one canvas.

        Args:
            items: Paths or arrays.
            canvas: (height, width) in pixels, in whole patches; see :meth:`choose_canvas`.
            with_features: Whether to return feature tokens in addition to aligned ones.

        Raises:
            ValueError: If an image cannot be read, after those before it have been yielded.
        """
        return or_raise(self.outcomes(items, canvas, with_features=with_features))

    def outcomes(
        self, items: Iterable[Item], canvas: Size | None, *, with_features: bool = False
    ) -> Generator[PatchTokens | UnreadableError, None, None]:
        """Like :meth:`stream`, with errors in place of unreadable images."""
        request = self._request(with_features=with_features)
        read = partial(read_frame, canvas=canvas, resample=self._preprocessing["interpolation"])
        size = self.batch_size or BATCH_SIZE.get(self.device.type, BATCH_SIZE["cpu"])
        with closing(read_ahead(partial(attempt, read), items, ahead=2 * size)) as frames:
            for batch in in_batches(frames, size):
                sound = [frame for frame in batch if not isinstance(frame, UnreadableError)]
                done = iter(self._run_within_memory(sound, request) if sound else ())
                for frame in batch:
                    yield frame if isinstance(frame, UnreadableError) else next(done)

    def encode_text(self, sentences: Sequence[str]) -> Floats:
        """Encode sentences to unit-length vectors, shape (N, D), with the model's own tokenizer.

        The text tower is loaded for this and released afterwards.
        """
        heed_fork()
        tokenizer = weights.get_tokenizer(self._source)
        text_tower = self._load().to(self.device)
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(sentences), TEXT_BATCH):
                ids = tokenizer(list(sentences[start : start + TEXT_BATCH])).to(self.device)
                vectors.append(text_tower.encode_text(ids).float().cpu().numpy())
        return unit(np.concatenate(vectors))

    def encode_ensembles(self, ensembles: Sequence[Sequence[str]]) -> list[Floats]:
        """Encode each ensemble of sentences to the normalised mean of their vectors.

        The results are cached on disk; cached ones need no text tower. See ``text_cache.py``.

        Args:
            ensembles: Lists of sentences with the same meaning.

        Returns:
            For each ensemble a unit-length vector, shape (D,).
        """
        model = self._source.identity
        found = {tuple(texts): text_cache.load_vector(model, texts) for texts in ensembles}
        missing = [texts for texts, vector in found.items() if vector is None]
        if missing:
            encoded = self.encode_text([text for texts in missing for text in texts])
            ends = np.cumsum([len(texts) for texts in missing])[:-1]
            for texts, vectors in zip(missing, np.split(encoded, ends), strict=True):
                found[texts] = unit(vectors.mean(axis=0))
                text_cache.save_vector(model, texts, cast(Floats, found[texts]))
        return [cast(Floats, found[tuple(texts)]) for texts in ensembles]

    @property
    def origin(self) -> str:
        """Description of model and weights; loads nothing."""
        known = "random weights" if self._source.random else self._source.pretrained
        return self.model_name if known is None else f"{self.model_name}, {known}"

    @property
    def visual(self) -> nn.Module:
        """The image tower, loaded on first use, in evaluation mode."""
        heed_fork()
        with self._loading:
            if self._visual is None:
                self._load()
            return cast(nn.Module, self._visual)

    @property
    def fingerprint(self) -> str:
        """Digest of the image tower, which it loads; see :mod:`~.fingerprint`."""
        return fingerprint(self.visual, self._preprocessing)

    @property
    def _tower(self) -> Tower:
        return make_tower(self.visual)

    @property
    def _preprocessing(self) -> dict[str, Any]:
        """Mean, standard deviation and interpolation that the weights were trained with."""
        return cast(dict[str, Any], open_clip.get_model_preprocess_cfg(self.visual))

    def _load(self) -> Any:
        """Load the model, keep its image tower unless there is one, and return the rest."""
        # The host scores in inference_mode; a tower converted there could not be used outside.
        with self._loading, torch.inference_mode(False):
            model = cast(Any, weights.load_model(self._source))
            if self._visual is None:
                self._visual = model.visual.to(self.device, self.dtype)
            model.visual = None
            return model

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
            return Request(layers=self.layers)
        layers = self.layers if with_features else ()
        return Request(self.attention, self.stages, layers, self.windows)

    def _run_within_memory(self, frames: Sequence[Frame], request: Request) -> list[PatchTokens]:
        """Run a batch, split in halves if memory does not suffice."""
        try:
            return list(self._run(frames, request))
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            if len(frames) == 1:
                raise MemoryError(
                    f"There is not enough memory on {self.device} for one image of "
                    f"{frames[0].pixels.shape[1]} x {frames[0].pixels.shape[0]} pixels; choose a "
                    "smaller model, force_image_size or max_tokens."
                ) from error
        # The tensors that the error referred to are released here.
        half = len(frames) // 2
        return [
            *self._run_within_memory(frames[:half], request),
            *self._run_within_memory(frames[half:], request),
        ]

    def _run(self, frames: Sequence[Frame], request: Request) -> Iterator[PatchTokens]:
        with torch.inference_mode():
            output = self._tower(self._normalised(frames), request)
            tokens, features = self._patch_tokens(output)
        self._check_finite(tokens)
        pooled = _to_numpy(output.pooled)
        windows = {side: _to_numpy(found) for side, found in output.windows.items()}
        for index, frame in enumerate(frames):
            yield PatchTokens(
                tokens=tokens[index],
                size=frame.size,
                pooled=None if pooled is None else pooled[index],
                features=None if features is None else features[index],
                windows={side: cast(Floats, found)[index] for side, found in windows.items()},
            )

    def _patch_tokens(self, output: TowerOutput) -> tuple[Floats, Floats | None]:
        """The main tokens and, if both kinds were requested, the feature tokens."""
        fused = None
        if output.features:
            fused = fuse_features(output.features, self.neighbourhoods, self._projection)
        features, aligned = _to_numpy(fused), _to_numpy(output.aligned)
        if aligned is None:
            return cast(Floats, features), None
        return aligned, features

    def _check_finite(self, tokens: Floats) -> None:
        if not np.isfinite(tokens).all():
            raise RuntimeError(
                f"The image tower of {self.origin} returned tokens that are not finite in "
                f"{str(self.dtype).removeprefix('torch.')}; use precision='float32' or other "
                "weights."
            )

    def _normalised(self, frames: Sequence[Frame]) -> Tensor:
        """Stack frames to (B, 3, H, W), normalised with the tower's own statistics."""
        pixels = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(self.device)
        mean, std = (
            torch.tensor(self._preprocessing[key], device=self.device).view(3, 1, 1)
            for key in ("mean", "std")
        )
        return ((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std).to(self.dtype)

    def __getstate__(self) -> dict[str, Any]:
        # The model is loaded again after unpickling, which keeps the pickle small.
        return {**self.__dict__, "_visual": None, "_loading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _loading=threading.RLock())


def _to_numpy(tensor: Tensor | None) -> Floats | None:
    return None if tensor is None else cast(Floats, tensor.float().cpu().numpy())
