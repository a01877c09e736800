"""What callers pass in becomes a list of images."""

from pathlib import Path

import numpy as np
import pytest

from pyimgano_openclip.items import as_items

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
