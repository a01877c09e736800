# ruff: noqa: E402 - torch is asked for before it is imported
"""The modules that are traced compute what the detectors' scorers compute."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("open_clip")

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.memory_bank import MemoryBank
from pyimgano_openclip.bank.origins import StoredImage
from pyimgano_openclip.bank.whole import Whole, portrait
from pyimgano_openclip.encoder.tokens import PatchTokens
from pyimgano_openclip.export.nearest import BlockSearch, EachSearch, ImageScore
from pyimgano_openclip.export.places import Places, Spread
from pyimgano_openclip.export.portraits import PortraitDistance
from pyimgano_openclip.export.prompted import PromptScoring
from pyimgano_openclip.export.sight import Seen
from pyimgano_openclip.maps.scores import AGGREGATIONS, anomaly_map, image_score
from pyimgano_openclip.pool.products import Block, nearest_between, product_on
from pyimgano_openclip.prompts.references import References
from pyimgano_openclip.prompts.scorer import MODES, PromptScorer, text_vectors

pytestmark = pytest.mark.slow


def units(*shape, seed=0):
    return unit(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("size", [(6, 9), (5, 4), (1, 3)])
def test_the_distance_of_a_portrait_is_the_detectors(size):
    usual, spread = units(*size, 32), 0.2
    every = [unit(usual + spread * units(*size, 32, seed=seed)) for seed in range(1, 12)]
    images = [PatchTokens(tokens, (40, 60), None) for tokens in (*every, units(*size, 32, seed=99))]
    whole = Whole.of([portrait(image) for image in images[:8]])
    expected = [whole.distance(portrait(image)) for image in images]
    found = PortraitDistance(whole)(torch.from_numpy(np.stack([image.tokens for image in images])))
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert expected[-1] > 2 * expected[-2]


def test_the_distance_of_a_portrait_heeds_where_is_looked():
    inside = np.zeros((6, 9), bool)
    inside[1:5, 3:9] = True
    inside[2:4, 4:6] = False
    usual = units(6, 9, 32)
    every = [unit(usual + 0.2 * units(6, 9, 32, seed=seed)) for seed in range(1, 10)]
    images = [PatchTokens(tokens, (40, 60), None, inside=inside) for tokens in every]
    whole = Whole.of([portrait(image) for image in images[:7]])
    expected = [whole.distance(portrait(image)) for image in images]
    tokens = torch.from_numpy(np.stack(every))
    found = PortraitDistance(whole, inside)(tokens)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
    assert not np.allclose(PortraitDistance(whole)(tokens), expected, rtol=0.01)


def test_too_few_training_images_are_at_no_distance():
    images = [PatchTokens(units(4, 6, 8, seed=seed), (40, 60), None) for seed in range(3)]
    whole = Whole.of([portrait(image) for image in images[:2]])
    tokens = torch.from_numpy(np.stack([image.tokens for image in images]))
    assert PortraitDistance(whole)(tokens).tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", AGGREGATIONS)
@pytest.mark.parametrize("topk", [0.001, 0.03, 1.0])
def test_an_image_score_is_aggregated_as_by_the_detector(method, topk):
    patches = np.random.default_rng(0).random((3, 9, 13)).astype(np.float32)
    found = ImageScore(method, topk)(torch.from_numpy(patches).flatten(1))
    expected = [image_score(one, method, topk) for one in patches]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("rows", [7, 4096, 9000])
def test_the_search_in_blocks_is_the_banks(count, rows, monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.export.nearest.SIMILARITIES", 3 * 4096)
    bank = MemoryBank()
    bank.add(StoredImage((1, rows), (10, 10)), units(rows, 8))
    queries = units(2, 5, 8, seed=1)
    found = BlockSearch(bank.tokens, min(count, rows))(torch.from_numpy(queries))
    expected = bank.nearest_distance(queries.reshape(10, 8), count)
    np.testing.assert_allclose(found.flatten(), expected, atol=1e-6)


def test_blank_tokens_are_at_no_distance_from_blank_rows():
    rows = units(9, 5)
    rows[4] = 0
    bank = MemoryBank()
    bank.add(StoredImage((3, 3), (30, 30)), rows)
    for count in (1, 3):
        found = BlockSearch(bank.tokens, count)(torch.from_numpy(rows[None]))
        np.testing.assert_allclose(found[0], bank.nearest_distance(rows, count), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "with_references"), [*((mode, False) for mode in MODES), ("probability", True)]
)
def test_prompts_are_scored_in_every_mode(mode, with_references):
    references = None
    if with_references:
        bank = MemoryBank()
        bank.add(StoredImage((4, 6), (40, 60)), units(24, 7, seed=5))
        references = References.of(bank)
    text = text_vectors(*units(2, 8, seed=1), {"hole": units(8, seed=2), "cut": units(8, seed=3)})
    scorer = PromptScorer(text, mode, "topk_mean", 0.2, references)
    aligned, pooled, features = units(4, 6, 8), units(8, seed=4), units(4, 6, 7, seed=6)
    patches = PatchTokens(aligned, (40, 60), None, pooled, features)
    expected = scorer(patches)
    network = PromptScoring(scorer, Places())
    tensors = [torch.from_numpy(array[None]) for array in (pooled, aligned, features)]
    found = network(Seen(tensors[0], {"aligned": tensors[1], "features": tensors[2]}))
    np.testing.assert_allclose(found.patches[0], expected.patches.ravel(), atol=1e-6)
    assert float(found.image) == pytest.approx(expected.image, abs=1e-6)
    np.testing.assert_allclose(found.defects[0], scorer.names_of(patches), atol=1e-5)


@pytest.mark.parametrize("sizes", [(5, 5, 5), (3, 9, 6, 1)])
def test_each_image_of_a_pool_is_searched(sizes, monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.export.nearest.ROWS", 12)
    monkeypatch.setattr("pyimgano_openclip.export.nearest.SIMILARITIES", 40)
    images = [units(size, 8, seed=seed) for seed, size in enumerate(sizes)]
    images[0][1] = 0
    queries = units(2, 4, 8, seed=9)
    queries[1, 2] = 0
    found = EachSearch(images)(torch.from_numpy(queries))
    own = Block.of([queries.reshape(1, 8, 8)])
    expected, _ = nearest_between(own, Block.of([rows[None] for rows in images]), product_on(None))
    np.testing.assert_allclose(found.reshape(8, -1), expected[0], atol=1e-6)


def test_maps_are_those_of_the_detector_where_it_looks():
    inside = np.zeros((5, 7), bool)
    inside[1:4, 2:6] = True
    pixels = np.zeros((40, 63), bool)
    pixels[8:32, 18:50] = True
    scores = np.random.default_rng(0).normal(size=(2, 5, 7)).astype(np.float32)
    shown = torch.from_numpy(np.where(inside, scores, np.float32(0)))
    for smoothing in (0.0, 0.5):
        found = Spread((5, 7), (40, 63), smoothing, inside, pixels)(shown)
        for one, other in zip(found, np.where(inside, scores, np.nan), strict=True):
            expected = anomaly_map(other, (40, 63), smoothing=smoothing, inside=pixels)
            np.testing.assert_allclose(one, expected, atol=1e-6)
