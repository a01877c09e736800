"""Images in, patch tokens out; sentences in, text vectors out.

With ``weights.py`` and ``towers.py`` the only file that knows open_clip, and the boundary to torch:
everything that leaves it is NumPy.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar, cast

import numpy as np
import open_clip
import torch
from torch import Tensor, nn

from . import weights
from .embedding import Floats, PatchTokens, Size
from .features import Projection, fuse_features
from .frame import Frame, choose_canvas, image_size, read_frame, whole_patches
from .items import Item, as_items
from .towers import Attention, Request, TowerOutput, VisionTransformerTower

BATCH_SIZE = {"cpu": 8, "cuda": 32}  # images
READERS = 2  # threads that decode ahead of the tower
TEXT_BATCH = 64  # sentences
MAX_TOKENS = 4  # times the tower's own number of patches

T = TypeVar("T")


class OpenCLIPPatchEmbedder:
    """Patch tokens of any open_clip model with a ``VisionTransformer`` tower.

    Nothing is loaded until the first image or sentence. The object also serves other detectors of
    pyimgano that take an ``embedder``: ``create_model("vision_anomalydino", embedder=...)``.

    Args:
        model_name: A model of open_clip, ``"local-dir:DIR"``, ``"hf-hub:ORG/REPO"`` or
            ``"bundled"``.
        pretrained: A tag of open_clip or the path of a weights file; None for random weights.
        tokens: ``"features"`` for comparing images with images, ``"aligned"`` for comparing
            patches with texts.
        attention: Side path of the aligned tokens: ``"vv"``, ``"qq"``, ``"kk"`` or ``"none"``.
        stages: How many equal groups of blocks the side path is summed over.
        layers: Relative depths of the feature tokens, each in (0, 1].
        neighbourhoods: Odd windows, in patches, that the feature tokens are averaged over.
        dimension: Length of a feature token after a random projection; None keeps all of it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, ...
        image_size: Side in pixels of the tower's input, or (height, width); None for its own.
        resize: ``"keep"`` keeps the proportions of the images on a rectangular grid,
            ``"squash"`` resizes them to the tower's own shape.
        max_tokens: Most patches of a grid; None for four times the tower's own number.
        batch_size: Images per pass; None chooses by device.
        random_seed: Seed of the projection, and of random weights.
        download: If False, no weights are fetched; a tower whose weights would have to be keeps
            random ones.

    Raises:
        ValueError: If an argument is out of range, or the model or its weights are unknown.
    """

    def __init__(
        self,
        model_name: str = "ViT-B-16-plus-240",
        pretrained: str | None = "laion400m_e31",
        *,
        tokens: Literal["features", "aligned"] = "features",
        attention: Attention = "vv",
        stages: int = 4,
        layers: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        neighbourhoods: Sequence[int] = (1, 3),
        dimension: int | None = 512,
        device: str = "auto",
        image_size: int | Size | None = None,
        resize: Literal["keep", "squash"] = "keep",
        max_tokens: int | None = None,
        batch_size: int | None = None,
        random_seed: int = 0,
        download: bool = True,
    ) -> None:
        self.model_name = model_name
        self.pretrained = pretrained
        self.tokens = tokens
        self.attention = attention
        self.stages = stages
        self.layers = tuple(layers)
        self.neighbourhoods = tuple(neighbourhoods)
        self.dimension = dimension
        self.device = choose_device(device)
        self.image_size = image_size
        self.resize = resize
        self.max_tokens = max_tokens
        self.batch_size = batch_size
        self.random_seed = random_seed
        self._source = weights.find_source(model_name, pretrained, download=download)
        self._projection = None if dimension is None else Projection(dimension, random_seed)
        self._model: nn.Module | None = None
        self._loading = threading.RLock()

    def embed(self, image: Item) -> tuple[Floats, Size, Size]:
        """Patch tokens of one image, on the grid that fits its own proportions.

        Args:
            image: A path, or an RGB array (H, W, 3) of uint8.

        Returns:
            Tokens of shape (rows * cols, D), float32, row by row from the top left;
            (rows, cols); (height, width) of the image in pixels.

        Raises:
            ValueError: If the image cannot be read.
            FileNotFoundError: If weights are neither cached nor to be had.
        """
        return self.embed_batch([image])[0]

    def embed_batch(self, images: Iterable[Item]) -> list[tuple[Floats, Size, Size]]:
        """Patch tokens of several images, all on one grid that fits their median proportions.

        Args:
            images: Paths or arrays, or one stacked array (N, H, W, 3).

        Returns:
            For every image what :meth:`embed` returns, in order.
        """
        items = as_items(images, "images")
        found = []
        for patches in self.stream(items, self.choose_canvas(items)):
            rows, cols, width = patches.tokens.shape
            found.append((patches.tokens.reshape(rows * cols, width), (rows, cols), patches.size))
        return found

    def choose_canvas(self, items: Sequence[Item]) -> Size:
        """(height, width) in pixels to which images like these are resized.

        Reads the images' headers, loads the model for its own size, and decodes nothing.
        """
        tower = self._tower
        native, patch = tower.native_size, tower.patch_size
        if self.image_size is not None:
            side = self.image_size
            wanted = (side, side) if isinstance(side, int) else side
            native = whole_patches(wanted, patch)
        if self.resize == "squash" or isinstance(self.image_size, tuple):
            return native
        own = (native[0] // patch[0]) * (native[1] // patch[1])
        limit = self.max_tokens or MAX_TOKENS * own
        return choose_canvas([image_size(item) for item in items], native, patch, limit)

    def stream(self, items: Sequence[Item], canvas: Size) -> Iterator[PatchTokens]:
        """Tokens of the images in order, a batch at a time, all on one canvas.

        Args:
            items: Paths or arrays.
            canvas: (height, width) in pixels, whole patches; see :meth:`choose_canvas`.
        """
        read = partial(read_frame, canvas=canvas, resample=self._preprocessing["interpolation"])
        size = self.batch_size or BATCH_SIZE.get(self.device.type, BATCH_SIZE["cpu"])
        frames = read_ahead(read, items, ahead=2 * size)
        while batch := list(islice(frames, size)):
            yield from self._run(batch)

    def encode_text(self, sentences: Sequence[str]) -> Floats:
        """Unit-length text vectors of the sentences, shape (N, D), by the model's own tokenizer."""
        model = cast(Any, self.model)
        tokenizer = open_clip.get_tokenizer(self._source.name)
        vectors = []
        with torch.inference_mode():
            for start in range(0, len(sentences), TEXT_BATCH):
                ids = tokenizer(list(sentences[start : start + TEXT_BATCH])).to(self.device)
                vectors.append(model.encode_text(ids, normalize=True).float().cpu().numpy())
        return np.concatenate(vectors)

    @property
    def model(self) -> nn.Module:
        """The open_clip model, loaded on first use, in evaluation mode."""
        with self._loading:
            if self._model is None:
                model = weights.load_model(self._source, seed=self.random_seed)
                VisionTransformerTower(cast(Any, model).visual)  # refuse others before moving it
                self._model = model.to(self.device)
            return self._model

    @property
    def _tower(self) -> VisionTransformerTower:
        return VisionTransformerTower(cast(Any, self.model).visual)

    @property
    def _preprocessing(self) -> dict[str, Any]:
        """Mean, standard deviation and interpolation that the weights were trained with."""
        return cast(dict[str, Any], open_clip.get_model_preprocess_cfg(self.model))

    @property
    def _request(self) -> Request:
        if self.tokens == "aligned":
            return Request(aligned=self.attention, stages=self.stages)
        return Request(layers=self.layers)

    def _run(self, frames: Sequence[Frame]) -> Iterator[PatchTokens]:
        with torch.inference_mode():
            output = self._tower(self._normalised(frames), self._request)
            tokens = self._patch_tokens(output).float().cpu().numpy()
            pooled = None if output.pooled is None else output.pooled.float().cpu().numpy()
        for index, frame in enumerate(frames):
            whole = None if pooled is None else pooled[index]
            yield PatchTokens(tokens=tokens[index], size=frame.size, pooled=whole)

    def _patch_tokens(self, output: TowerOutput) -> Tensor:
        if output.aligned is not None:
            return output.aligned
        return fuse_features(output.features, self.neighbourhoods, self._projection)

    def _normalised(self, frames: Sequence[Frame]) -> Tensor:
        """Stack frames into (B, 3, H, W) on the device, with the weights' own statistics."""
        pixels = torch.from_numpy(np.stack([frame.pixels for frame in frames])).to(self.device)
        mean, std = (
            torch.tensor(self._preprocessing[key], device=self.device).view(3, 1, 1)
            for key in ("mean", "std")
        )
        return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std

    def __getstate__(self) -> dict[str, Any]:
        # The model is loaded again where the object wakes up: the file stays small.
        return {**self.__dict__, "_model": None, "_loading": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _loading=threading.RLock())


def choose_device(device: str) -> torch.device:
    """The device to use; ``"auto"`` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        ValueError: If the name is unknown or the device is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device!r} is not a device of torch: {error}") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}, but torch finds no CUDA device; use 'auto' or 'cpu'.")
    return chosen


def read_ahead(read: Callable[[Item], T], items: Iterable[Item], *, ahead: int) -> Iterator[T]:
    """Apply ``read`` in threads, a bounded number of items ahead; order and errors are kept."""
    source = iter(items)
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="pyimgano-openclip-read")
    try:
        pending: deque[Future[T]] = deque(pool.submit(read, item) for item in islice(source, ahead))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(read, item) for item in islice(source, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
