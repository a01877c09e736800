"""Checkpoints that nobody saved: damaged, or forged with a digest that fits."""

import copy
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.files.checkpoint import FORMAT, digest_of, read_checkpoint
from pyimgano_openclip.files.tensor_file import pack

from helpers.detectors import patchknn, promptscore
from helpers.embedders import red_image, red_images, with_green
from helpers.mutations import mutated

NORMAL = red_images(4, 40, 60)
IMAGES = [red_image(40, 60, seed=90), with_green(NORMAL[0], 10, 20)]


def forge(path: Path, header: Any, arrays: dict[str, np.ndarray]) -> Path:
    """Write a checkpoint of any content, with the digest of that content.

    Args:
        path: Where to.
        header: What JSON can hold, or a text in its place.
        arrays: By name.
    """
    text = header if isinstance(header, str) else json.dumps(header)
    text = text.encode("utf-8", "backslashreplace").decode()
    path.write_bytes(pack(arrays, {FORMAT: text, "digest": digest_of(text, arrays)}))
    return path


@dataclass(frozen=True)
class Sound:
    """A checkpoint as it was saved, and the detector that reads it."""

    name: str
    build: Callable[[], Any]
    data: bytes
    header: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def load_and_score(self, path: Path) -> None:
        """Load a file; if that fails the detector is unchanged, else it works."""
        detector = self.build()
        before = dict(detector.__dict__)
        try:
            detector.load_checkpoint(path)
        except BaseException:
            after = detector.__dict__
            assert after.keys() == before.keys()
            assert all(after[name] is before[name] for name in before)
            raise
        assert 0 < detector.contamination <= 0.5
        scores = detector.decision_function(IMAGES)
        maps = detector.predict_anomaly_map(IMAGES)
        assert scores.shape == (2,)
        assert maps.shape == (2, 40, 60)
        assert np.isfinite(scores).all()
        assert np.isfinite(maps).all()
        assert np.isfinite(getattr(detector, "threshold_", 0.0))
        if isinstance(detector, VisionOpenCLIPPatchKNN):
            detector.nearest(IMAGES[1])
            detector.partial_fit([red_image(40, 60, seed=77)])


def sound_checkpoints(folder: Path) -> list[Sound]:
    """One of every kind."""
    kinds = {
        "patchknn": (patchknn, {}),
        "patchknn, thinned": (lambda: patchknn(max_patches=40), {}),
        "patchknn, 16 bits, turned": (
            lambda: patchknn(memory_bank_dtype="float16", rotations=2), {}
        ),
        "promptscore": (promptscore, {}),
        "promptscore, references": (promptscore, {"use_as_references": True}),
    }  # fmt: skip
    found = []
    for name, (build, options) in kinds.items():
        path = build().fit(NORMAL, **options).save_checkpoint(folder / "sound")
        checkpoint = read_checkpoint(path)
        header, arrays = dict(checkpoint.header), dict(checkpoint.arrays)
        found.append(Sound(name, build, path.read_bytes(), header, arrays))
    return found


def damaged_checkpoint(sound: Sound, path: Path, others: list[Sound], seed: int) -> None:
    """Write a checkpoint with damage that follows from the seed.

    A third is damaged byte by byte. The others are forged, so that damage gets past the digest.
    """
    chance = random.Random(seed)
    if chance.random() < 1 / 3:
        path.write_bytes(mutated(sound.data, [other.data for other in others], seed))
        return
    header, arrays = copy.deepcopy(sound.header), dict(sound.arrays)
    other = chance.choice(others)
    for _ in range(chance.choice((1, 1, 2))):
        if chance.random() < 0.6:
            header = _changed(header, chance)
        else:
            _change_array(arrays, {**other.arrays}, chance)
    text = json.dumps(header)
    if chance.random() < 0.1:
        text = mutated(text.encode(), [other.data], seed).decode(errors="surrogateescape")
    forge(path, text, arrays)


ODD = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e300, -1e300, 2**31, 2**63, 10**30, 10**400,
    float("nan"), float("inf"), "", "x", "\ud800", "../../etc/passwd", "a\0b", [], [[]], {},
    {"": None}, [1], [1, 2], [0, 0], [-3, 5], [10**9, 10**9], ["1", "2"], [None] * 5, "9" * 5000,
)  # fmt: skip


def _changed(value: Any, chance: random.Random) -> Any:
    """The value with one odd one in it, at any depth."""
    inner = isinstance(value, (dict, list)) and len(value) > 0
    if not inner or chance.random() < 0.15:
        return chance.choice(ODD)
    changed = copy.copy(value)
    key = (
        chance.choice(list(changed)) if isinstance(changed, dict) else chance.randrange(len(value))
    )
    if chance.random() < 0.1:
        del changed[key]
    else:
        changed[key] = _changed(changed[key], chance)
    return changed


def _change_array(arrays: dict[str, Any], others: dict[str, Any], chance: random.Random) -> None:
    name = chance.choice(list(arrays) or ["rows"])
    array = arrays.pop(name, np.zeros(1))
    change = chance.randrange(7)
    if change == 0:
        return
    if change == 1:
        with np.errstate(all="ignore"):
            array = array.astype(chance.choice(("f2", "f4", "f8", "i4", "i8")))
    elif change == 2:
        array = array.reshape(chance.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1))))
    elif change == 3:
        array = array[: chance.randrange(len(array) + 1)]
    elif change == 4:
        array = chance.choice(list(others.values()))
    elif change == 5:
        array = np.concatenate([array, array])
    elif array.size:
        array = array.copy()
        odd = chance.choice((0, -1, 1, 7, 1e4, np.nan, np.inf, -np.inf, 3e38, 2**31 - 1, -(2**31)))
        with np.errstate(all="ignore"):
            fits = array.dtype.kind == "f" or (np.isfinite(odd) and -(2**31) <= odd < 2**31)
            array.reshape(-1)[chance.randrange(array.size)] = odd if fits else 3
    arrays[chance.choice((name, name, name, "more"))] = array
