"""Files are opened in the same way whatever others have set in Pillow; their pages are counted."""

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile

from pyimgano_openclip.images.opening import PIXEL_LIMIT
from pyimgano_openclip.images.reading import image_size, read_frame, read_pixels

from helpers.picture_files import picture_files

NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
FIRST, SECOND = Image.fromarray(NOISE), Image.fromarray(255 - NOISE)


@pytest.fixture
def truncated():
    """A process in which a library accepts incomplete files."""
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    yield
    ImageFile.LOAD_TRUNCATED_IMAGES = False


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "ppm", "jp2", "gif"])
def test_half_a_file_is_refused_although_others_accept_it(tmp_path, truncated, suffix):
    path = tmp_path / f"half.{suffix}"
    FIRST.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for _ in range(2):
        with pytest.raises(ValueError, match=path.name):
            read_pixels(path)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_many_threads_refuse_half_files_and_leave_the_setting_as_it_was(tmp_path, truncated):
    whole, half = tmp_path / "whole.jpg", tmp_path / "half.jpg"
    FIRST.save(whole)
    half.write_bytes(whole.read_bytes()[:1500])
    start = threading.Barrier(8)

    def refused(number):
        start.wait()
        outcomes = []
        for turn in range(20):
            try:
                read_pixels(half if (number + turn) % 2 else whole)
                outcomes.append(False)
            except ValueError:
                outcomes.append(True)
        return outcomes == [bool((number + turn) % 2) for turn in range(20)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(refused, range(8)))
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_a_bomb_is_refused_although_others_have_turned_the_limit_off(tmp_path, monkeypatch):
    header = b"P5 30000 30000 255\n"
    (tmp_path / "bomb.pgm").write_bytes(header)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    for read in (read_pixels, image_size):
        with pytest.raises(ValueError, match=rf"bomb\.pgm.*exceeds limit of {PIXEL_LIMIT}"):
            read(tmp_path / "bomb.pgm")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**9)
    assert image_size(tmp_path / "bomb.pgm") == (30_000, 30_000)


def test_a_plugin_of_another_library_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "ID", [*Image.ID, "ODD"])
    refuse = lambda *_: pytest.fail("asked")  # noqa: E731
    monkeypatch.setitem(Image.OPEN, "ODD", (refuse, refuse))
    FIRST.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"odd")
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), NOISE)
    with pytest.raises(ValueError, match="not one of"):
        read_pixels(tmp_path / "b.png")


def pages_of(path):
    frame = read_frame(path, (64, 64))
    np.testing.assert_allclose(frame.pixels, read_pixels(path))
    return frame.pages


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png", "a.mpo", "a.avif"])
@pytest.mark.parametrize("more", [0, 1, 2])
def test_pages_and_frames_are_counted_and_the_first_is_read(tmp_path, name, more):
    Image.init()
    if name == "a.avif" and "AVIF" not in Image.SAVE:
        pytest.skip("this build of Pillow has no AVIF")
    others = [SECOND.rotate(90 * turn) for turn in range(more)]
    options = {"save_all": True, "append_images": others} if more else {}
    path = tmp_path / name
    FIRST.save(path, lossless=True, quality=100, **options)
    assert pages_of(path) == 1 + more
    alone = tmp_path / f"alone {name}"
    FIRST.save(alone, lossless=True, quality=100)
    np.testing.assert_allclose(read_pixels(path), read_pixels(alone), atol=12)


def test_a_smaller_version_in_a_tiff_file_is_no_page(tmp_path):
    path = tmp_path / "with preview.tif"
    preview = FIRST.resize((16, 16))
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    FIRST.save(path, save_all=True, append_images=[preview])
    assert pages_of(path) == 1


def test_a_preview_or_gain_map_in_a_jpeg_file_is_no_page(tmp_path):
    path = tmp_path / "phone.mpo"
    FIRST.save(path, save_all=True, append_images=[FIRST.resize((16, 16))])
    assert pages_of(path) == 1


def test_a_picture_of_pillow_stands_where_its_owner_put_it():
    buffer = io.BytesIO(picture_files()["pages.tif"])
    with Image.open(buffer) as image:
        image.seek(1)
        assert read_frame(image, (24, 36)).pages == 1
        assert image.tell() == 1


def test_damage_behind_the_first_page_does_not_matter(tmp_path):
    path = tmp_path / "pages.tif"
    FIRST.save(path, save_all=True, append_images=[SECOND])
    content = bytearray(path.read_bytes())
    content[-(len(content) // 3) :] = bytes(len(content) // 3)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_pixels(path), NOISE)
