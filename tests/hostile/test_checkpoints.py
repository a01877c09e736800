"""Checkpoints made on purpose to do harm: refused by name, and the detector stays as it was."""

import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.files.checkpoint import FORMAT, digest_of, read_checkpoint
from pyimgano_openclip.samples import make_sample

from helpers.detectors import patchknn, promptscore
from helpers.embedders import WideEmbedder
from helpers.forged import IMAGES, NORMAL, forge


def without(header, *names):
    return {name: value for name, value in header.items() if name not in names}


def with_state(header, **changes):
    return {**header, "state": {**header["state"], **changes}}


def first_image(header, *told):
    images = header["state"]["images"]
    return with_state(header, images=[list(told), *images[1:]])


def header_text(header, old, new):
    text = json.dumps(header)
    assert old in text
    return text.replace(old, new, 1)


def filled(array, value):
    return np.full_like(array, value)


# What a forged header says in place of a sound one; a text stands for itself.
HEADERS = {
    "a list": lambda h: [h],
    "nothing": lambda h: {},
    "a number": lambda h: 7,
    "a nest of lists": lambda h: "[" * 100_000,
    "a nest within": lambda h: header_text(h, '"state": {', '"state": {"x":' + "[" * 99_999),
    "an entry twice": lambda h: header_text(h, '"state": {', '"version": 1, "state": {'),
    "an endless number": lambda h: {**h, "threshold": 10**4000},
    "a number of 99,999 digits": lambda h: header_text(h, '"seen": ', '"seen": ' + "9" * 99_999),
    "a threshold that is none": lambda h: {**h, "threshold": float("nan")},
    "a threshold without end": lambda h: header_text(h, '"threshold": ', '"threshold": 1e999'),
    "a threshold beyond numbers": lambda h: {**h, "threshold": 10**400},
    "a true threshold": lambda h: {**h, "threshold": True},
    "no threshold": lambda h: {**h, "threshold": None},
    "a negative contamination": lambda h: {**h, "contamination": -0.1},
    "a contamination above a half": lambda h: {**h, "contamination": 0.6},
    "a contamination in words": lambda h: {**h, "contamination": "0.1"},
    "a canvas where there is none": lambda h: {**h, "canvas": [16, 16]},
    "a canvas of words": lambda h: {**h, "canvas": ["16", "16"]},
    "version 0": lambda h: {**h, "version": 0},
    "version true": lambda h: {**h, "version": True},
    "a version without end": lambda h: {**h, "version": 10**400},
    "no model": lambda h: without(h, "model"),
    "an empty model": lambda h: {**h, "model": {}},
    "a model in words": lambda h: {**h, "model": "weights"},
    "no detector": lambda h: without(h, "detector"),
    "another detector": lambda h: {**h, "detector": "__import__('os').system('true')"},
    "settings as a list": lambda h: {**h, "settings": []},
    "a setting too many": lambda h: {**h, "settings": {**h["settings"], "more": 1}},
    "a setting too few": lambda h: {**h, "settings": without(h["settings"], "resize")},
    "no state": lambda h: without(h, "state"),
    "a state in words": lambda h: {**h, "state": "rows"},
    "no images": lambda h: with_state(h, images=[]),
    "images without sides": lambda h: first_image(h, None),
    "an image of no patches": lambda h: first_image(h, 0, 0, 40, 60, None),
    "an image of negative size": lambda h: first_image(h, 4, 4, -40, -60, None),
    "an image of many patches": lambda h: first_image(h, 2**40, 2**40, 40, 60, None),
    "an image that is immense": lambda h: first_image(h, 4, 4, 10**30, 60, None),
    "an image with a path of numbers": lambda h: first_image(h, 4, 4, 40, 60, 5),
    "fewer patches seen than kept": lambda h: with_state(h, seen=3),
    "patches seen in part": lambda h: with_state(h, seen=1000.5),
    "a negative spread": lambda h: with_state(h, spread=-1),
}  # fmt: skip

# What forged arrays there are in place of sound ones.
ARRAYS = {
    "none": lambda a: {},
    "no rows": lambda a: without(a, "rows"),
    "no origins": lambda a: without(a, "origins"),
    "no training scores": lambda a: without(a, "training_scores"),
    "rows that are no numbers": lambda a: {**a, "rows": filled(a["rows"], np.nan)},
    "rows without end": lambda a: {**a, "rows": filled(a["rows"], np.inf)},
    "rows that overflow": lambda a: {**a, "rows": filled(a["rows"], 3e38)},
    "rows longer than unit vectors": lambda a: {**a, "rows": a["rows"] * 2},
    "rows of 64 bits": lambda a: {**a, "rows": a["rows"].astype(np.float64)},
    "rows of whole numbers": lambda a: {**a, "rows": filled(a["rows"], 1).astype(np.int32)},
    "rows on one axis": lambda a: {**a, "rows": a["rows"].reshape(-1)},
    "rows of no numbers": lambda a: {**a, "rows": a["rows"][:, :0]},
    "one row": lambda a: {**a, "rows": a["rows"][:1]},
    "origins of 64 bits": lambda a: {**a, "origins": a["origins"].astype(np.int64) + 2**32},
    "origins in fractions": lambda a: {**a, "origins": a["origins"].astype(np.float32)},
    "origins of two axes": lambda a: {**a, "origins": a["origins"][:, :2]},
    "origins below zero": lambda a: {**a, "origins": a["origins"] - 1},
    "origins of no image": lambda a: {**a, "origins": a["origins"] + 100},
    "origins out of order": lambda a: {**a, "origins": a["origins"][::-1]},
    "a reach that is no number": lambda a: {**a, "reach": filled(a["reach"], np.nan)},
    "a negative reach": lambda a: {**a, "reach": filled(a["reach"], -1)},
    "a short reach": lambda a: {**a, "reach": a["reach"][:2]},
    "scores without end": lambda a: {**a, "training_scores": filled(a["training_scores"], np.inf)},
    "scores in a table": lambda a: {**a, "training_scores": a["training_scores"][:, None]},
    "scores of 32 bits": lambda a: {**a, "training_scores": a["training_scores"].astype("f4")},
}  # fmt: skip

# The same for texts in the place of a bank.
TEXTS = {
    "no text": lambda a: without(a, "text_normal"),
    "a text that is no number": lambda a: {**a, "text_normal": filled(a["text_normal"], np.nan)},
    "a text that overflows": lambda a: {**a, "text_anomaly": filled(a["text_anomaly"], 3e38)},
    "a text of 64 bits": lambda a: {**a, "text_normal": a["text_normal"].astype(np.float64)},
    "a text on two axes": lambda a: {**a, "text_normal": a["text_normal"][None]},
    "a text of another length": lambda a: {**a, "text_normal": np.ones(1, np.float32)},
}


def sound(build, path, **options):
    """(header, arrays) of a checkpoint as it is saved."""
    found = read_checkpoint(build().fit(NORMAL, **options).save_checkpoint(path))
    return dict(found.header), dict(found.arrays)


def refused(detector, path, match="."):
    """Check that the file is refused by name and the detector is unchanged."""
    scores = detector.decision_function(IMAGES).tolist()
    before = dict(detector.__dict__)
    with pytest.raises(ValueError, match=match) as caught:
        detector.load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 5000
    after = detector.__dict__
    assert all(after[name] is before[name] for name in {**before, **after})
    assert detector.decision_function(IMAGES).tolist() == scores


@pytest.mark.parametrize("forgery", HEADERS)
@pytest.mark.parametrize("build", [patchknn, promptscore])
def test_a_forged_header_is_refused(build, forgery, tmp_path):
    options = {"use_as_references": True} if build is promptscore else {}
    header, arrays = sound(build, tmp_path / "sound", **options)
    path = forge(tmp_path / "forged", HEADERS[forgery](header), arrays)
    refused(build().fit(NORMAL[:2]), path)


@pytest.mark.parametrize("forgery", ARRAYS)
def test_forged_numbers_are_refused(forgery, tmp_path):
    header, arrays = sound(patchknn, tmp_path / "sound")
    refused(patchknn().fit(NORMAL[:2]), forge(tmp_path / "forged", header, ARRAYS[forgery](arrays)))


@pytest.mark.parametrize("forgery", TEXTS)
def test_forged_texts_are_refused(forgery, tmp_path):
    header, arrays = sound(promptscore, tmp_path / "sound")
    path = forge(tmp_path / "forged", header, TEXTS[forgery](arrays))
    refused(promptscore().fit(NORMAL[:2]), path)


def test_a_forged_file_without_forgery_is_taken(tmp_path):
    path = forge(tmp_path / "forged", *sound(patchknn, tmp_path / "sound"))
    twin = patchknn().load_checkpoint(path)
    expected = patchknn().fit(NORMAL).decision_function(IMAGES)
    np.testing.assert_array_equal(twin.decision_function(IMAGES), expected)


def raw(head, numbers=b"", length=None):
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + numbers


def entry(shape, start, end, kind="F32"):
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


ONCE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
# Files below the level of a checkpoint: the lengths, shapes and places of a safetensors file.
FILES = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "a header of no bytes": raw(b""),
    "a header of exabytes": raw(b"{}", length=2**63),
    "a header of all bytes": raw(b"{}", length=2**64 - 1),
    "a header beyond the limit": raw(b"{}" + b" " * (33 * 2**20)),
    "a header in UTF-16": raw("{}".encode("utf-16")),
    "a list": raw([]),
    "a nest": raw(b'{"a":' * 100_000),
    "a name twice": raw(b"{%b,%b}" % (ONCE, ONCE), bytes(4)),
    "notes of numbers": raw({"__metadata__": {FORMAT: 1}}),
    "notes in a list": raw({"__metadata__": []}),
    "a shape below zero": raw({"a": entry([-1, -1], 0, 4)}, bytes(4)),
    "a shape in fractions": raw({"a": entry([1.0], 0, 4)}, bytes(4)),
    "a shape of terabytes": raw({"a": entry([2**40], 0, 4)}, bytes(4)),
    "a shape that overflows": raw({"a": entry([2**62, 2**62], 0, 0)}),
    "a shape of nothing, immense": raw({"a": entry([0, 2**63 - 1], 0, 0)}),
    "a shape of many axes": raw({"a": entry([1] * 1000, 0, 4)}, bytes(4)),
    "a place beyond the end": raw({"a": entry([2**40], 0, 2**42)}, bytes(4)),
    "a place before the start": raw({"a": entry([1], -4, 0)}, bytes(4)),
    "a place backwards": raw({"a": entry([1], 4, 0)}, bytes(4)),
    "places that overlap": raw({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)),
    "a gap": raw({"a": entry([1], 4, 8)}, bytes(8)),
    "numbers that nobody owns": raw({"a": entry([1], 0, 4)}, bytes(8)),
    "an unknown type": raw({"a": entry([1], 0, 4, "PICKLE")}, bytes(4)),
    "an entry of nothing": raw({"a": None}),
    "many entries": raw({str(n): entry([1], 4 * n, 4 * n + 4) for n in range(999)}, bytes(3996)),
    "no digest": raw({"__metadata__": {FORMAT: "{}"}}),
    "a pickle": b"\x80\x04cposix\nsystem\n(S'touch pickled'\ntR.",
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_forged_file_is_refused(name, tmp_path):
    path = tmp_path / "forged"
    path.write_bytes(FILES[name])
    refused(patchknn().fit(NORMAL[:2]), path)


def test_a_directory_and_a_pipe_are_refused(tmp_path):
    detector = patchknn().fit(NORMAL[:2])
    refused(detector, tmp_path, "not a file")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # opening it would wait for a writer
    refused(detector, pipe, "not a file")
    (tmp_path / "link").symlink_to(pipe)
    refused(detector, tmp_path / "link", "not a file")


def test_saving_replaces_a_link_and_leaves_its_target_alone(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("precious")
    link.symlink_to(target)
    detector = patchknn().fit(NORMAL)
    detector.save_checkpoint(link)
    assert target.read_text() == "precious"
    assert not link.is_symlink()
    assert patchknn().load_checkpoint(link).threshold_ == detector.threshold_


def test_a_path_of_a_training_image_is_a_text_and_nothing_more(tmp_path):
    header, arrays = sound(patchknn, tmp_path / "sound")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # whoever opened it would wait for ever
    for told in (str(pipe), "../../../etc/passwd", "a\0b", "\udcff", "x" * 10**5):
        path = forge(tmp_path / "forged", first_image(header, 4, 4, 40, 60, told), arrays)
        detector = patchknn().load_checkpoint(path)
        assert np.isfinite(detector.decision_function(IMAGES)).all()
        assert {match.path for match in detector.nearest(NORMAL[0], 20)} <= {told, None}


REWRITE = """
import sys, time
from pathlib import Path
path, data = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
print("ready", flush=True)
end = time.monotonic() + 60
while time.monotonic() < end:
    with path.open("wb") as file:  # as a copy over the network would
        for start in range(0, len(data), 4096):
            file.write(data[start : start + 4096])
            file.flush()
"""


def test_a_file_that_is_rewritten_while_it_is_read_is_whole_or_refused(tmp_path):
    source, path = tmp_path / "source", tmp_path / "rewritten"
    detector = patchknn(embedder=WideEmbedder()).fit(NORMAL)
    detector.save_checkpoint(source)
    with subprocess.Popen(
        [sys.executable, "-c", REWRITE, path, source], stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        refusals = 0
        for _ in range(300):
            try:
                loaded = patchknn(embedder=WideEmbedder()).load_checkpoint(path)
                assert loaded.threshold_ == detector.threshold_
            except (ValueError, FileNotFoundError) as error:
                assert str(path) in str(error)  # noqa: PT017 - it may succeed too
                refusals += 1
        writer.kill()
    assert refusals  # else nothing was cut


@pytest.fixture(scope="module")
def pictures():
    return [make_sample("carpet", seed=seed).image for seed in range(3)]


def bundled(cls, **settings):
    return cls(openclip_model_name="bundled", device="cpu", precision="float32", **settings)


REAL = {
    "rows of another length": lambda h, a: (h, {**a, "rows": a["rows"][:, :7].copy()}),
    "a canvas of gigapixels": lambda h, a: ({**h, "canvas": [2**20, 2**20]}, a),
    "a canvas between patches": lambda h, a: ({**h, "canvas": [97, 96]}, a),
    "no canvas": lambda h, a: ({**h, "canvas": None}, a),
}  # fmt: skip


@pytest.mark.slow
def test_what_the_model_cannot_use_is_refused(pictures, tmp_path):
    for cls in (VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore):
        options = {} if cls is VisionOpenCLIPPatchKNN else {"use_as_references": True}
        path = bundled(cls).fit(pictures, **options).save_checkpoint(tmp_path / "sound")
        checkpoint = read_checkpoint(path)
        detector = bundled(cls).fit(pictures[:2])
        before = detector.decision_function(pictures)
        for name, change in REAL.items():
            header, arrays = change(dict(checkpoint.header), dict(checkpoint.arrays))
            forged = forge(tmp_path / "forged", header, arrays)
            with pytest.raises(ValueError, match=str(forged)):
                detector.load_checkpoint(forged)
            assert detector.decision_function(pictures).tolist() == before.tolist(), name
        if cls is VisionOpenCLIPPromptScore:
            short = {**checkpoint.arrays, "text_normal": np.ones(1, np.float32)}
            forged = forge(tmp_path / "forged", dict(checkpoint.header), short)
            with pytest.raises(ValueError, match=str(forged)):
                detector.load_checkpoint(forged)
        assert detector.load_checkpoint(path) is detector


def test_the_digest_covers_header_and_numbers(tmp_path):
    header, arrays = sound(patchknn, tmp_path / "sound")
    text = json.dumps(header)
    digests = {digest_of(text, arrays), digest_of(text + " ", arrays)}
    for name, array in arrays.items():
        digests.add(digest_of(text, {**arrays, name: array.copy() + 1}))
    assert len(digests) == 2 + len(arrays)
