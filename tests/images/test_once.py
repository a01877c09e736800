"""Files that are decoded once for two readers."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.files.digest import digest_of_file
from pyimgano_openclip.images.once import DecodedOnce
from pyimgano_openclip.images.reading import read_frame, read_pixels
from pyimgano_openclip.images.unreadable import UnreadableError

from helpers.embedders import red_image


@pytest.fixture
def path(tmp_path):
    Image.fromarray(red_image(30, 45)).save(tmp_path / "part.png")
    return tmp_path / "part.png"


def test_the_second_reader_gets_what_the_first_has_decoded_and_a_third_reads_the_file(path):
    once = DecodedOnce(path)
    frame = read_frame(once, (16, 24))
    path.unlink()
    np.testing.assert_array_equal(read_pixels(once), red_image(30, 45))
    assert frame.identity == read_frame(red_image(30, 45), (16, 24)).identity
    with pytest.raises(UnreadableError, match=r"part\.png cannot be opened"):
        read_pixels(once)


def test_a_file_that_was_changed_meanwhile_is_decoded_again(path):
    once = DecodedOnce(path)
    read_pixels(once)
    Image.fromarray(red_image(30, 45, seed=1)).save(path)
    changed = read_frame(once, (16, 24))
    assert changed.identity == read_frame(red_image(30, 45, seed=1), (16, 24)).identity


def test_large_images_are_not_kept(path, monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.images.once.KEPT", 30 * 45 - 1)
    once = DecodedOnce(path)
    read_pixels(once)
    assert once.take(None) is None


def test_the_digest_is_of_the_bytes_that_were_encoded_even_if_they_are_no_image(path):
    once, before = DecodedOnce(path), digest_of_file(path)
    read_frame(once, (16, 24))
    path.write_bytes(b"written to meanwhile")
    read_pixels(once)
    assert once.digest == before
    with pytest.raises(UnreadableError):
        read_frame(once, (16, 24))
    assert once.digest == digest_of_file(path)
