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
from pyimgano_openclip.encoder.towers import TowerOutput
from pyimgano_openclip.export.network import BlockSearch, ImageScore, PromptScoring
from pyimgano_openclip.export.portraits import PortraitDistance
from pyimgano_openclip.maps.scores import AGGREGATIONS, image_score
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


def test_too_few_training_images_are_at_no_distance():
    images = [PatchTokens(units(4, 6, 8, seed=seed), (40, 60), None) for seed in range(3)]
    whole = Whole.of([portrait(image) for image in images[:2]])
    tokens = torch.from_numpy(np.stack([image.tokens for image in images]))
    assert PortraitDistance(whole)(tokens).tolist() == [0, 0, 0]


@pytest.mark.parametrize("method", AGGREGATIONS)
@pytest.mark.parametrize("topk", [0.001, 0.03, 1.0])
def test_an_image_score_is_aggregated_as_by_the_detector(method, topk):
    patches = np.random.default_rng(0).random((3, 9, 13)).astype(np.float32)
    found = ImageScore(method, topk)(torch.from_numpy(patches))
    expected = [image_score(one, method, topk) for one in patches]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 20])
@pytest.mark.parametrize("rows", [7, 4096, 9000])
def test_the_search_in_blocks_is_the_banks(count, rows):
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
    search = BlockSearch(references.bank.tokens, 1) if references else None
    network = PromptScoring(scorer, lambda found: found[0], search, ImageScore("topk_mean", 0.2))
    tensors = [torch.from_numpy(array[None]) for array in (pooled, aligned, features)]
    found = network(TowerOutput(tensors[0], tensors[1], [tensors[2]]))
    np.testing.assert_allclose(found.patches[0], expected.patches, atol=1e-6)
    assert float(found.image) == pytest.approx(expected.image, abs=1e-6)
    np.testing.assert_allclose(found.defects[0], scorer.names_of(patches), atol=1e-5)
