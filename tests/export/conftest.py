"""Detectors that are exported once, since tracing takes seconds."""

import pytest

from helpers.exported import DEFECTS, exported, leather


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
