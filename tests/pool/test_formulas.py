"""The scores of a pool are those of the formulas, written down naively."""

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPMutual
from pyimgano_openclip.images.reading import read_frame
from pyimgano_openclip.pool.meetings import Meetings
from pyimgano_openclip.samples import make_sample

from helpers.detectors import BUNDLED
from helpers.embedders import ColourEmbedder, red_images, with_green

SHAPE = (120, 180)
SMALL = {**BUNDLED, "max_tokens": 70}


@pytest.fixture(scope="module")
def leather():
    """Seven pieces of leather, wider than high, of which two are damaged."""
    defects = [None] * 5 + ["hole", "cut"]
    return [
        make_sample("leather", seed=seed, size=SHAPE, defect=defect).image
        for seed, defect in enumerate(defects)
    ]


def raw_tokens(detector, images, layers):
    """Tokens after each depth, and class tokens, straight from the tower."""
    import torch

    from pyimgano_openclip.encoder.towers import Request

    embedder = detector._embedder
    resample = embedder.loaded.preprocessing["interpolation"]
    frames = [read_frame(image, canvas=detector.canvas_, resample=resample) for image in images]
    with torch.inference_mode():
        pixels = embedder._normalised(np.stack([frame.pixels for frame in frames]))
        output = embedder.tower(pixels, Request("none", 4, layers))
    return output.features, output.pooled


def aggregated(tokens, window):
    """LNAMD: centred, averaged over the patches of a window, of length 1; (B, P, C)."""
    import torch.nn.functional as F  # noqa: N812

    planes = F.layer_norm(tokens, tokens.shape[1:]).permute(0, 3, 1, 2)
    summed = F.avg_pool2d(planes, window, stride=1, padding=window // 2)
    return F.normalize(summed.flatten(2).permute(0, 2, 1), dim=-1)


def distances_to_others(tokens, image):
    """Euclidean distance of each patch to the nearest of each other image, (P, N - 1)."""
    import torch

    others = [other for other in range(len(tokens)) if other != image]
    found = [torch.cdist(tokens[image], tokens[other]).amin(1) for other in others]
    return torch.stack(found, 1)


@pytest.mark.slow
def test_the_recipe_musc_equals_its_formulas(leather):
    import torch
    import torch.nn.functional as F  # noqa: N812

    detector = VisionOpenCLIPMutual(**SMALL, recipe="musc").fit(leather)
    layers, classes = raw_tokens(detector, leather, (0.25, 0.5, 0.75, 1.0))
    maps = []
    for tokens in (aggregated(layer, window) for layer in layers for window in (1, 3, 5)):
        away = [distances_to_others(tokens, image) for image in range(len(leather))]
        count = int(0.3 * (len(leather) - 1))
        maps.append(torch.stack([found.sort(1).values[:, :count].mean(1) for found in away]))
    grid = layers[0].shape[1:3]
    expected = torch.stack(maps).mean(0).unflatten(1, grid)
    size = detector.canvas_
    grown = F.interpolate(expected[:, None], size=size, mode="bilinear", align_corners=True)
    highest = grown.amax((1, 2, 3))
    scaled = (highest - highest.min()) / (highest.max() - highest.min())
    smoothed = []
    for count in (1, 2, 3):
        weight, near = (classes @ classes.T).topk(count)
        smoothed.append((weight * scaled[near]).sum(1) / weight.sum(1))
    found = np.stack([scored.patches for scored in detector.score_iter(leather)])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    scores = torch.stack(smoothed).mean(0).numpy()
    np.testing.assert_allclose(detector.decision_scores_, scores, atol=1e-5)


@pytest.mark.slow
def test_the_default_is_the_harmonic_mean_of_the_distances_to_all_others(leather):
    detector = VisionOpenCLIPMutual(**SMALL).fit(leather)
    patches = [found.tokens.flat for found in detector.score_iter(leather, with_tokens=True)]
    for image, scored in enumerate(detector.score_iter(leather)):
        others = [tokens for number, tokens in enumerate(patches) if number != image]
        away = [(1 - patches[image] @ tokens.T).min(axis=1).clip(1e-4) for tokens in others]
        expected = len(others) / (1 / np.array(away)).sum(axis=0)
        # Tokens of a pool are kept in float16.
        np.testing.assert_allclose(scored.patches.ravel(), expected, atol=2e-4)
        assert scored.image == scored.patches.max()


@pytest.mark.slow
def test_a_new_image_is_scored_like_one_of_the_pool(leather):
    """Left out of the pool, it meets the same images."""
    whole = VisionOpenCLIPMutual(**SMALL).fit(leather)
    without = VisionOpenCLIPMutual(**SMALL).fit(leather[:-1])
    new = without.decision_function(leather[-1:])
    np.testing.assert_allclose(new, whole.decision_scores_[-1:], atol=2e-4)


@pytest.mark.slow
def test_musc_takes_a_new_image_for_one_of_the_pool_within_its_range(leather):
    detector = VisionOpenCLIPMutual(**SMALL, recipe="musc").fit(leather)
    new = [
        make_sample("leather", seed=50, size=SHAPE, defect=defect).image
        for defect in (None, "hole")
    ]
    intact, damaged = detector.decision_function(new)
    assert 0 <= intact < damaged <= 1


@pytest.mark.parametrize("images", [2, 3, 7, 16, 17, 40, 65])
def test_in_a_small_pool_everyone_meets_everyone_once(images):
    meetings = Meetings.of(images, patches=900, most=64, seed=0)
    assert sorted(pairs_of(meetings)) == [
        (one, other) for one in range(images) for other in range(one + 1, images)
    ]


@pytest.mark.parametrize("most", [2, 3, 5, 20, 64])
def test_in_a_large_pool_everyone_meets_the_same_bounded_number(most):
    meetings = Meetings.of(480, patches=225, most=most, seed=0)
    pairs = pairs_of(meetings)
    assert len(set(pairs)) == len(pairs)
    met = np.bincount(np.array(pairs).ravel(), minlength=480)
    assert met.max() <= most
    assert met.min() >= most / 2
    other = Meetings.of(480, patches=225, most=most, seed=1)
    assert set(pairs_of(other)) != set(pairs)


def pairs_of(meetings):
    """Pairs of different images that meet, the smaller index first."""
    met = []
    for first, second in meetings:
        one, other = meetings.blocks[first].tolist(), meetings.blocks[second].tolist()
        pairs = ((a, b) for a in one for b in other)
        if first == second:
            pairs = ((a, b) for a, b in pairs if a < b)
        met += [(min(pair), max(pair)) for pair in pairs]
    return met


def test_images_of_different_grids_are_compared():
    class Growing(ColourEmbedder):
        def embed(self, image):
            self.grid = (image.shape[0] // 10, image.shape[1] // 10)
            return super().embed(image)

    images = [*red_images(4, 40, 60), *red_images(3, 60, 40, first=4)]
    images.append(with_green(red_images(1, 50, 50, first=9)[0], 10, 20))
    detector = VisionOpenCLIPMutual(embedder=Growing()).fit(images)
    assert detector.decision_scores_.argmax() == 7
    assert [found.grid for found in detector.score_iter(images[3:5])] == [(4, 6), (6, 4)]
    assert detector.get_anomaly_map(images[-1]).argmax() // 50 in range(10, 20)


def test_patches_without_a_token_are_like_each_other():
    class Blank(ColourEmbedder):
        def embed(self, image):
            patches, grid, size = super().embed(image)
            shown = np.where(patches < 100, 0, patches)
            shown[0, 0] = 1  # an image without any token is refused
            return shown, grid, size

    images = [image // 4 for image in red_images(4)]  # nothing reaches 100
    images.append(with_green(images[0], 10, 20))
    detector = VisionOpenCLIPMutual(embedder=Blank(), aggregation_method="max")
    scores = detector.fit(images).decision_scores_
    assert (scores[:4] < 0.01).all()
    assert scores[4] > 0.5
