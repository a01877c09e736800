"""Detectors that are exported once, since tracing takes seconds."""

import pytest

from helpers.exported import DEFECTS, exported, leather

PART = (30, 20, 130, 80)  # left, top, right, bottom of images of 90 x 150 pixels


@pytest.fixture(scope="session")
def square(tmp_path_factory):
    """Patch-kNN on square images, three neighbours, more rows than one block holds."""
    folder = tmp_path_factory.mktemp("square")
    return exported("patchknn", (96, 96), folder, n_neighbors=3, rotations=6, max_patches=5000)


@pytest.fixture(scope="session")
def oblong(tmp_path_factory):
    """Patch-kNN on oblong images."""
    return exported("patchknn", (90, 150), tmp_path_factory.mktemp("oblong"))


@pytest.fixture(scope="session")
def prompts(tmp_path_factory):
    """Prompts with named defects and references."""
    references = leather(2, (90, 150), first=50)
    folder = tmp_path_factory.mktemp("prompts")
    return exported("promptscore", (90, 150), folder, defects=DEFECTS, references=references)


@pytest.fixture(scope="session")
def square_prompts(tmp_path_factory):
    """Prompts alone on square images."""
    return exported("promptscore", (96, 96), tmp_path_factory.mktemp("square_prompts"))


@pytest.fixture(scope="session")
def mutual(tmp_path_factory):
    """The mutual detector on oblong images."""
    return exported("mutual", (90, 150), tmp_path_factory.mktemp("mutual"))


@pytest.fixture(scope="session")
def square_mutual(tmp_path_factory):
    """The mutual detector on square images."""
    return exported("mutual", (96, 96), tmp_path_factory.mktemp("square_mutual"))


@pytest.fixture(scope="session")
def part_of_large(tmp_path_factory):
    """Patch-kNN that looks at a part of large images, through windows."""
    windows = {"force_image_size": 48, "smallest_defect": 10.5, "max_tokens": 60}
    folder = tmp_path_factory.mktemp("part_of_large")
    return exported("patchknn", (90, 150), folder, roi=PART, jitter=0, **windows)
