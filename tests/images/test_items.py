"""What callers pass in becomes a list of images."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from pyimgano_openclip.images.items import as_items, in_rgb

PATHS = ["a.png", "b.png"]


@pytest.mark.parametrize("dtype", [None, object])
def test_an_array_of_paths_is_a_list_of_paths(dtype):
    assert as_items(np.array(PATHS, dtype=dtype)) == PATHS


def test_an_array_of_objects_is_a_list_of_them():
    column = np.empty(2, dtype=object)
    column[:] = [Path("a.png"), np.zeros((2, 3, 3), np.uint8)]
    path, image = as_items(column)
    assert path == Path("a.png")
    assert image.shape == (2, 3, 3)


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_a_column_of_a_table_is_a_list_of_paths(dtype):
    pandas = pytest.importorskip("pandas")
    column = pandas.Series(PATHS, index=[7, 3], dtype=dtype)
    assert as_items(column) == PATHS
    assert as_items(pandas.Index(column)) == PATHS


@pytest.mark.parametrize(
    "x", [np.array("a.png"), np.array([PATHS]), np.arange(3), np.zeros((4, 4)), np.zeros((2, 4, 3))]
)
def test_other_shapes_are_no_list_of_images(x):
    with pytest.raises(ValueError, match=r"x is one array of shape .* pass a list of images"):
        as_items(x)


def test_a_table_is_no_list_of_images():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match="one DataFrame object; pass a list"):
        as_items(pandas.DataFrame({"path": PATHS}))


def test_alpha_stays_last_and_grey_stays_as_it_is():
    image = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(in_rgb(image, "bgr"), image[..., [2, 1, 0, 3]])
    for other in (image[..., 0], image[..., :1], image[None], "part.png", None, 3):
        assert in_rgb(other, "bgr") is other


@pytest.mark.slow
def test_tensors_have_their_channels_first():
    torch = pytest.importorskip("torch")
    tensor = torch.arange(24).reshape(4, 2, 3)
    assert torch.equal(in_rgb(tensor, "bgr"), tensor[[2, 1, 0, 3]])
    assert torch.equal(in_rgb(tensor[:3], "bgr"), tensor[[2, 1, 0]])
    assert torch.equal(in_rgb(tensor[:1], "bgr"), tensor[:1])


def test_a_folder_stands_for_the_images_in_it(tmp_path):
    (tmp_path / "b/.hidden").mkdir(parents=True)
    for name in ("b/1.png", "a.JPG", "notes.txt", ".c.png", "b/.hidden/2.png"):
        (tmp_path / name).touch()
    assert (
        as_items(str(tmp_path)) == as_items(tmp_path) == [tmp_path / "a.JPG", tmp_path / "b/1.png"]
    )
    (tmp_path / "b/1.png").unlink()
    with pytest.raises(ValueError, match="x: there is no image in the folder"):
        as_items(tmp_path / "b")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_linked_folders_are_searched_once_and_circles_end(tmp_path):
    folder, elsewhere = tmp_path / "good", tmp_path / "elsewhere"
    for path in (folder / "x.png", elsewhere):
        path.mkdir(parents=True)
    (elsewhere / "1.png").touch()
    for name, target in (("day1", elsewhere), ("day2", elsewhere), ("up", folder)):
        (folder / name).symlink_to(target, target_is_directory=True)
    assert as_items(folder) == [folder / "day1/1.png"]


def test_a_folder_that_cannot_be_searched_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "1.png").touch()
    scandir = os.scandir

    def closed(path):
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(ValueError, match=r"x: the folder .*closed cannot be searched: Permission"):
        as_items(tmp_path)
