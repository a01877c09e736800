"""Training images of patch-kNN: which of their patches are kept, and what they score again."""

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN

from embedders import ColourEmbedder


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
    detector = VisionOpenCLIPPatchKNN(embedder=FineEmbedder(), **settings).fit(images)
    assert detector.memory_bank_.seen == 904
    assert len(detector.memory_bank_) == kept
