"""Files of checkpoints: what is in them, and damage that is refused."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from pyimgano_openclip.files.checkpoint import (
    CheckpointError,
    read_checkpoint,
    read_header,
    write_checkpoint,
)

from helpers.detectors import patchknn, state
from helpers.embedders import red_image, red_images, with_green

NORMAL = red_images(8, 40, 60)
IMAGES = [red_image(40, 60, seed=90), with_green(NORMAL[0], 10, 20)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_file_holds_the_bank_and_little_else(dtype, tmp_path):
    class Wide:
        def embed(self, image):
            tokens = np.random.default_rng(int(image[0, 0, 1])).normal(size=(400, 256))
            return tokens, (20, 20), image.shape[:2]

    detector = patchknn(embedder=Wide(), memory_bank_dtype=dtype).fit(NORMAL)
    path = detector.save_checkpoint(tmp_path / "model")
    assert path.stat().st_size < 1.05 * detector.memory_bank_.tokens.nbytes
    twin = patchknn(embedder=Wide(), memory_bank_dtype=dtype).load_checkpoint(path)
    assert twin.memory_bank_.tokens.dtype == dtype
    assert state(twin, IMAGES) == state(detector, IMAGES)


def test_a_file_is_plain_safetensors_with_a_readable_header(tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model.safetensors")
    with safe_open(path, framework="numpy") as file:
        training = {"training_scores", "training_patches"}
        portraits = {f"portrait_{name}" for name in ("sketches", "sizes", "reach")}
        calibration = {"calibration_scores", "calibration_parts"}
        bank = {"rows", "origins", "reach", "sketches", "standing"}
        assert set(file.keys()) == bank | training | portraits | calibration
        header = json.loads(file.metadata()["pyimgano-openclip"])
    assert header["version"] == 1
    assert header["detector"] == "VisionOpenCLIPPatchKNN"
    assert header["model"] == {"embedder": "ColourEmbedder"}
    assert header["settings"]["n_neighbors"] == 1
    *facts, identity = header["state"]["images"][0]
    assert facts == [4, 4, 40, 60, None]
    assert identity.startswith("40x60x3 |u1 ")


def test_the_header_is_read_without_the_rest(tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model.safetensors")
    content, header = path.read_bytes(), read_checkpoint(path).header
    length = 8 + int.from_bytes(content[:8], "little")
    for kept in (content, content[:length]):
        path.write_bytes(kept)
        assert read_header(path) == header
    for damaged in (content[: length - 1], content[:7], b"", b"no checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged or not"):
            read_header(path)


def with_header(path, **changes):
    checkpoint = read_checkpoint(path)
    write_checkpoint(path, {**checkpoint.header, **changes}, checkpoint.arrays)


def with_arrays(path, **changes):
    checkpoint = read_checkpoint(path)
    write_checkpoint(path, checkpoint.header, {**checkpoint.arrays, **changes})


def with_bytes(path, change):
    path.write_bytes(change(path.read_bytes()))


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "three bytes": lambda path: path.write_bytes(b"abc"),
    "a text": lambda path: path.write_text("no checkpoint at all, but long enough for a header"),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04\x95" + bytes(100)),
    "a foreign file": lambda path: save_file({"weight": np.zeros(3)}, path),
    "a foreign file with notes": lambda path: save_file(
        {"weight": np.zeros(3)}, path, metadata={"format": "pt"}
    ),
    "cut off": lambda path: with_bytes(path, lambda data: data[:-1]),
    "cut in half": lambda path: with_bytes(path, lambda data: data[: len(data) // 2]),
    "cut in the header": lambda path: with_bytes(path, lambda data: data[:100]),
    "longer": lambda path: with_bytes(path, lambda data: data + bytes(8)),
    "a header of exabytes": lambda path: with_bytes(path, lambda data: b"\xff" * 8 + data[8:]),
    "a header of a gigabyte": lambda path: with_bytes(
        path, lambda data: (2**30).to_bytes(8, "little") + data[8:]
    ),
    "a bit of the header": lambda path: with_bytes(path, lambda data: flipped(data, 300)),
    "a bit of the numbers": lambda path: with_bytes(path, lambda data: flipped(data, -9)),
    "a newer format": lambda path: with_header(path, version=2),
    "an odd format": lambda path: with_header(path, version="1"),
    "no settings": lambda path: with_header(path, settings=None),
    "no state": lambda path: with_header(path, state={}),
    "an odd canvas": lambda path: with_header(path, canvas=[1]),
    "an odd threshold": lambda path: with_header(path, threshold="high"),
    "rows that are not numbers": lambda path: with_arrays(path, rows=np.full((128, 3), np.nan)),
    "rows of another type": lambda path: with_arrays(path, rows=np.ones((128, 3), np.int64)),
    "no rows": lambda path: with_arrays(path, rows=np.ones((0, 3), np.float32)),
    "too few rows": lambda path: with_arrays(path, rows=np.ones((7, 3), np.float32)),
    "rows of unknown images": lambda path: with_arrays(path, origins=np.full((128, 3), 99)),
    "scores that are not numbers": lambda path: with_arrays(
        path, training_scores=np.array([np.inf])
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_file_is_refused_and_changes_nothing(damage, tmp_path):
    path = patchknn().fit(NORMAL).save_checkpoint(tmp_path / "model")
    DAMAGE[damage](path)
    detector = patchknn().fit(NORMAL[:3])
    before = state(detector, IMAGES)
    with pytest.raises(ValueError, match=str(path)):
        detector.load_checkpoint(path)
    assert state(detector, IMAGES) == before


def test_every_bit_counts(tmp_path):
    path = patchknn().fit(NORMAL[:2]).save_checkpoint(tmp_path / "model")
    data, detector = path.read_bytes(), patchknn()
    for place in np.random.default_rng(0).integers(len(data), size=60):
        path.write_bytes(flipped(data, int(place)))
        with pytest.raises(ValueError, match=str(path)):
            detector.load_checkpoint(path)


@pytest.mark.parametrize("name", ["d.onnx", "D.ONNX"])
def test_an_exported_file_is_not_called_damaged(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"onnx")
    with pytest.raises(ValueError, match=f"{name} is an exported detector; expected the safeten"):
        patchknn().load_checkpoint(path)


def test_nothing_is_saved_that_would_be_read_as_an_exported_file(tmp_path):
    detector = patchknn().fit(NORMAL[:2])
    with pytest.raises(ValueError, match=r"save to another, such as d\.safetensors"):
        detector.save_checkpoint(tmp_path / "d.onnx")
    assert list(tmp_path.iterdir()) == []


def test_how_more_would_be_learnt_changes_no_score(tmp_path):
    digests = {
        read_checkpoint(
            patchknn(max_patches=most).fit(red_images(4)).save_checkpoint(tmp_path / "d")
        ).scoring_digest
        for most in (9_000, 8_000)
    }
    assert len(digests) == 1


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        patchknn().load_checkpoint(tmp_path / "model")
