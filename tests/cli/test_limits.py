"""The limit on the pixels of an image, and the option that raises it."""

import warnings

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import read_pixels
from pyimgano_openclip.cli.images import most_pixels
from pyimgano_openclip.images.opening import set_most_pixels
from pyimgano_openclip.images.reading import image_size
from pyimgano_openclip.maps import pictures

from helpers.embedders import red_image
from helpers.runs import fitted_detector, lines_of, scored


@pytest.fixture
def narrow(monkeypatch):
    """Pillow refuses more than 1000 pixels, and warns of more than 500."""
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 500)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp", "webp", "gif", "jp2"])
def test_a_limit_that_was_raised_is_the_one_that_counts(suffix, narrow, tmp_path):
    path = tmp_path / f"wide.{suffix}"
    Image.fromarray(red_image(30, 45)).save(path)
    with pytest.raises(
        ValueError, match=r"\(1350 pixels\) exceeds limit of 1000 pixels.*set_most_"
    ):
        read_pixels(path)
    with most_pixels(1349):
        with pytest.raises(ValueError, match="exceeds limit of 1349 pixels"):
            read_pixels(path)
        with pytest.raises(ValueError, match="exceeds limit of 1349 pixels"):
            image_size(path)
    with most_pixels(600), pytest.raises(ValueError, match="exceeds limit of 600 pixels"):
        read_pixels(path)
    with most_pixels(1350), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_pixels(path).shape == (30, 45, 3)
    assert Image.MAX_IMAGE_PIXELS == 500


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "9"])
def test_a_limit_is_a_number_of_pixels(count):
    with pytest.raises(ValueError, match="positive number of pixels"):
        set_most_pixels(count)


def test_results_name_the_option(parts, tmp_path):
    with most_pixels(1000):
        done = scored(parts, tmp_path / "out", fitted_detector(on_error="nan"))
    assert len(done.tally.unreadable) == 6
    assert lines_of(tmp_path / "out")[0]["error"].endswith("raise it with --max-pixels N.")


def test_an_overlay_fits_into_a_file(parts, tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_SIDE", 15)
    scored(parts, tmp_path / "out")
    with Image.open(tmp_path / "out/overlays/part-0.png.jpg") as picture:
        assert picture.size == (15, 10)
    with Image.open(tmp_path / "out/maps/part-0.png.png") as found:
        assert np.asarray(found).shape == (30, 45)
