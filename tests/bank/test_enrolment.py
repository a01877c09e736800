"""Training images of patch-kNN: which of their patches are kept, and what they score again."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.images.views import View, seen
from pyimgano_openclip.samples import make_sample

from helpers.detectors import on_bundled, patchknn
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


def made(family, count, first=0, **more):
    return [
        make_sample(family, seed=first + number, product=3, size=(160, 240), **more).image
        for number in range(count)
    ]


@pytest.mark.slow
def test_copies_of_the_only_image_set_its_threshold_whatever_the_bank_holds():
    (image,) = made("gear", 1)
    copies = [seen(image, View(1.5 * x, 0.02 * y, 0.02 * x)) for y in (-1, 1) for x in (-1, 1)]
    plain = on_bundled("patchknn", jitter=0).fit([image])
    scores = plain.decision_function(copies)
    assert scores.max() - 1e-6 <= plain.threshold_ < 1.5 * scores.max()
    for settings in ({}, {"jitter": 0.1}, {"rotations": 4}, {"jitter": 0, "max_patches": 40}):
        other = on_bundled("patchknn", **settings).fit([image])
        assert other.threshold_ == pytest.approx(plain.threshold_, abs=1e-5), settings


@pytest.mark.slow
def test_of_one_image_most_normal_ones_pass_and_most_defects_do_not():
    normal, bad = made("carpet", 21), made("carpet", 20, 50, defect="cut")
    detector = on_bundled("patchknn").fit(normal[:1])
    assert detector.predict(normal[1:]).mean() < 0.3
    assert detector.predict(bad).mean() > 0.7


@pytest.mark.slow
def test_the_file_of_a_moved_image_is_decoded_once_and_gives_the_tokens_of_the_array(
    tmp_path, monkeypatch
):
    import pyimgano_openclip.images.reading as reading

    images = red_images(3, 60, 80)
    paths, decoded, decode = save_all(images, tmp_path), list[str](), reading._decode

    def counted(item, content=None):
        if content is not None:
            decoded.append(str(item))
        return decode(item, content)

    monkeypatch.setattr(reading, "_decode", counted)
    found = VisionOpenCLIPPatchKNN(openclip_model_name="bundled").fit(paths)
    assert sorted(decoded) == sorted(map(str, paths))
    same = VisionOpenCLIPPatchKNN(openclip_model_name="bundled").fit(images)
    np.testing.assert_array_equal(found.memory_bank_.tokens, same.memory_bank_.tokens)
