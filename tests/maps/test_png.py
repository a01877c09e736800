import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.maps import png


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (37, 53), (3, 9000)])
@pytest.mark.parametrize("compress", [png.compress, zlib.compress])
def test_what_is_read_of_a_file_is_what_was_written(shape, compress, monkeypatch):
    monkeypatch.setattr(png, "compress", compress)
    grey = np.random.default_rng(0).integers(0, 2**16, shape, dtype=np.uint16)
    data = png.grey_png(grey)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode.startswith("I;16")
        np.testing.assert_array_equal(np.asarray(image), grey)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, grey)


def test_a_picture_may_lie_in_memory_in_any_order():
    grey = np.arange(15, dtype=np.uint16).reshape(3, 5)
    for view in (np.asfortranarray(grey), grey.T, grey[::-1, ::2]):
        assert png.grey_png(view) == png.grey_png(view.copy(order="C"))


def test_a_smooth_picture_is_small():
    rows, cols = np.mgrid[:400, :600]
    grey = (20000 + 30 * rows + 20 * cols).astype(np.uint16)
    assert len(png.grey_png(grey)) < 0.05 * grey.nbytes
