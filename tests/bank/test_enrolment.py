"""Training images of patch-kNN: which of their patches are kept, and what they score again."""

import numpy as np
import pytest
from PIL import Image

from helpers.detectors import patchknn
from helpers.embedders import (
    ColourEmbedder,
    FileEmbedder,
    red_image,
    red_images,
    save_all,
    with_green,
)


class FineEmbedder(ColourEmbedder):
    """A patch for every 8 x 8 pixels, so that images of other sizes have other grids."""

    def embed(self, image):
        self.grid = (image.shape[0] // 8, image.shape[1] // 8)
        return super().embed(image)


def noise(rows, cols, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (8 * rows, 8 * cols, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({}, 904), ({"max_patches": None}, 904), ({"max_patches": 500}, 500),
     ({"coreset_sampling_ratio": 0.5}, 452), ({"coreset_sampling_ratio": 0.01}, 9)],
)  # fmt: skip
def test_images_with_more_patches_than_the_first_are_kept_as_far_as_the_limit_goes(settings, kept):
    images = [noise(2, 2), *(noise(10, 10, seed) for seed in range(1, 10))]
    detector = patchknn(embedder=FineEmbedder(), **settings).fit(images)
    assert detector.memory_bank_.seen == 904
    assert len(detector.memory_bank_) == kept


class FileEmbedderThen(FileEmbedder):
    """Does something after each file."""

    def __init__(self, then):
        super().__init__()
        self.then = then

    def embed(self, image):
        found = super().embed(image)
        self.then(image)
        return found


def test_a_file_that_is_replaced_while_fitting_does_not_get_the_scores_of_the_old_one(tmp_path):
    paths = save_all(red_images(6), tmp_path)
    damaged = with_green(red_image(), 10, 20)

    def replace_first(path):
        if path == paths[-1]:
            Image.fromarray(damaged).save(paths[0])

    detector = patchknn(embedder=FileEmbedderThen(replace_first)).fit(paths)
    assert detector.predict(paths[:1]) == 1


@pytest.mark.parametrize("n_neighbors", [1, 3])
def test_an_image_opposite_to_all_others_has_the_largest_distance_in_a_thinned_bank(n_neighbors):
    class Opposite:
        def embed(self, image):
            tokens = np.random.default_rng(image[0, 0, 0]).normal(0, 0.1, (16, 4))
            tokens[:, 0] = 1 if image[0, 0, 0] else -1
            return tokens, (4, 4), image.shape[:2]

    images = [np.full((8, 8, 3), value, np.uint8) for value in range(4)]
    detector = patchknn(embedder=Opposite(), max_patches=24, n_neighbors=n_neighbors)
    assert detector.fit(images).decision_scores_[0] > 1.8
