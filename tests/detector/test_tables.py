"""Workers of a Ray dataset score tables of images as one process does."""

import io

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import load_detector

from helpers.detectors import on_bundled
from helpers.embedders import red_image, red_images, save_all, with_green

pa = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.slow

NORMAL = red_images(6, 32, 48)
DAMAGED = with_green(red_image(32, 48, seed=9), 10, 20)


def scored(saved, cells, **settings):
    """The rows that a worker makes of a table with these images."""
    from pyimgano_openclip.distributed import Scorer

    how = {"device": "cpu", "precision": "float32", **settings}
    worker = Scorer(saved.read_bytes(), settings=how)
    return worker(pa.table({"image": cells})).to_pylist()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Files of normal images and a damaged one."""
    return save_all([*NORMAL, DAMAGED], tmp_path_factory.mktemp("shots"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A detector that was fitted on frames of OpenCV."""
    detector = on_bundled("patchknn", channel_order="bgr")
    detector.fit([image[..., ::-1] for image in NORMAL[:5]])
    return detector.save_checkpoint(tmp_path_factory.mktemp("saved") / "bgr.safetensors")


@pytest.mark.parametrize("kind", ["paths", "files", "pixels"])
def test_only_pixels_follow_the_order_of_channels(kind, paths, saved):
    cells = {
        "paths": [str(path) for path in paths],
        "files": [path.read_bytes() for path in paths],
        "pixels": [image[..., ::-1].tolist() for image in (*NORMAL, DAMAGED)],
    }
    detector = load_detector(saved, device="cpu", precision="float32")
    rows, expected = scored(saved, cells[kind]), detector.decision_function(paths)
    assert [row["score"] for row in rows] == expected.tolist()
    assert [row["label"] for row in rows] == detector.predict(paths).tolist()
    assert [row["percentile"] for row in rows] == detector.score_percentile(expected).tolist()
    assert [row["error"] for row in rows] == [None] * 7
    assert [row.get("image") for row in rows] == (cells[kind] if kind == "paths" else [None] * 7)


def test_what_cannot_be_read_has_an_error_in_its_row(paths, saved, tmp_path):
    content = paths[0].read_bytes()
    huge = io.BytesIO()
    Image.new("1", (20000, 20000)).save(huge, "png")
    rows = scored(saved, [b"no image", content, content[:100], huge.getvalue(), None])
    assert [row["label"] for row in rows] == [1, 0, 1, 1, 1]
    assert [row["score"] is None for row in rows] == [True, False, True, True, True]
    errors = [row["error"] for row in rows]
    assert "file of 8 bytes cannot be opened as an image: not one of" in errors[0]
    assert errors[1] is None
    assert "cannot be decoded" in errors[2]
    assert "exceeds limit" in errors[3]
    assert "NoneType object is not an image" in errors[4]
    (row,) = scored(saved, [str(tmp_path / "gone.png")], on_error="raise")
    assert (row["label"], "gone.png" in row["error"]) == (1, True)
    (row,) = scored(saved, [[[1, 2], [3]]])
    assert (row["label"], "is not an image" in row["error"]) == (1, True)


def test_images_have_their_masks_by_path(paths, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    above = np.arange(32)[:, None] < np.full((1, 48), 8)  # the damage is below
    for path in paths[1:]:
        Image.fromarray(above).save(masks / path.name)
    detector = on_bundled("patchknn", roi=masks).fit(paths[1:6])
    saved = detector.save_checkpoint(tmp_path / "masks.safetensors")
    rows = scored(saved, [str(path) for path in paths])
    expected = detector.decision_function(paths[1:])
    np.testing.assert_allclose([row["score"] for row in rows[1:]], expected, rtol=0, atol=1e-6)
    assert (rows[0]["label"], rows[0]["score"]) == (1, None)
    assert f"there is no mask of it in {masks}: expected 0.png" in rows[0]["error"]
    (row,) = scored(saved, [paths[1].read_bytes()])
    assert "has masks by name, but this image has none" in row["error"]
