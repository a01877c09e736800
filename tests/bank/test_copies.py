"""Near copies are told from different images by a sketch of their tokens."""

import numpy as np
import pytest

from pyimgano_openclip.arrays import unit
from pyimgano_openclip.bank.copies import (
    AT_ONCE,
    LENGTH,
    distinct,
    near_copies,
    restored_sketches,
    signed_sums,
    sketch,
    stored_sketches,
)
from pyimgano_openclip.bank.masked import NO_MASK

from helpers.detectors import on_bundled

GRID = (12, 16)


def tokens(seed, width=384):
    return unit(np.random.default_rng(seed).normal(size=(GRID[0] * GRID[1], width)))


def near_to(map_of_tokens, seed, amount=0.05):
    noise = np.random.default_rng(seed).normal(size=map_of_tokens.shape) / 384**0.5
    return unit(map_of_tokens + amount * noise)


def groups(maps, grids=None):
    sketches = np.array([sketch(one) for one in maps])
    near = near_copies(sketches, grids or [GRID] * len(maps))
    return [one.tolist() for one in near]


@pytest.mark.parametrize("blocks", [0.1, 1, 2.5])
def test_signs_are_those_of_one_row_of_draws_however_many_blocks_there_are(blocks):
    values = np.random.default_rng(1).standard_normal(int(blocks * AT_ONCE)).astype(np.float32)
    signs = np.random.default_rng(0).integers(0, 2, len(values), dtype=np.int8) * 2 - 1
    signed = np.zeros(-(-len(values) // LENGTH) * LENGTH)
    signed[: len(values)] = signs * values
    expected = signed.reshape(-1, LENGTH).sum(axis=0)
    np.testing.assert_allclose(signed_sums(values), expected, atol=1e-4)


def test_distances_of_sketches_are_those_of_the_tokens():
    for amount in (0.05, 0.3, 1.0):
        one = tokens(0)
        other = near_to(one, 1, amount)
        expected = (1 - np.einsum("pd,pd->p", one, other)).mean()
        difference = (sketch(one) - sketch(other))[:LENGTH]
        assert np.square(difference).sum() == pytest.approx(expected, rel=0.3)


def test_copies_are_found_and_others_are_not():
    first, second, third = (tokens(seed) for seed in range(3))
    maps = [first, second, near_to(first, 7), third, near_to(first, 8)]
    assert groups(maps) == [[0, 2, 4], [1], [0, 2, 4], [3], [0, 2, 4]]
    assert groups([first, second, third]) == [[0], [1], [2]]
    assert groups([first]) == [[0]]


def test_images_that_are_all_copies_of_one_are_found_without_others_to_compare_with():
    maps = [near_to(tokens(0), seed) for seed in range(4)]
    assert groups(maps) == [[0, 1, 2, 3]] * 4


def test_maps_on_other_grids_are_no_copies():
    assert groups([tokens(0), tokens(0)], [(12, 16), (16, 12)]) == [[0], [1]]


def test_of_each_group_one_image_counts():
    near = [np.array(one) for one in ([0, 2], [1], [0, 2, 3], [2, 3])]
    assert distinct(near, np.zeros(4)).tolist() == [0, 1, 3]


def test_of_copies_the_highest_score_counts_in_any_order():
    near = np.eye(5, dtype=bool)
    for one, other in ((0, 1), (1, 2), (3, 4)):
        near[one, other] = near[other, one] = True
    scores = np.array([0.1, 0.3, 0.2, 0.5, 0.4])
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(5)
        copies = [np.flatnonzero(row) for row in near[order][:, order]]
        kept = distinct(copies, scores[order])
        assert sorted(scores[order][kept]) == [0.3, 0.5]


def test_a_chain_of_frames_leaves_out_neighbours_and_not_everything():
    start, end = tokens(0), tokens(1)
    frames = [unit((1 - share) * start + share * end) for share in np.linspace(0, 1, 21)]
    near = groups(frames)
    assert all(1 < len(one) < 21 for one in near)
    assert all(image in one for image, one in enumerate(near))


def test_even_images_are_told_apart_though_their_tokens_differ_little():
    even = unit(np.ones((16, 3)))
    maps = [unit(even + 1e-3 * np.random.default_rng(s).normal(size=even.shape)) for s in range(6)]
    sketches = np.array([sketch(one) for one in maps])
    assert [len(one) for one in near_copies(sketches, [(4, 4)] * 6)] == [1] * 6


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"smallest_defect": 24}, {"roi": [[0.4, 0.4, 0.5, 0.5]]}])
def test_parts_in_one_fixture_are_as_many_as_their_tokens_tell(settings):
    pytest.importorskip("open_clip")
    draw, images = np.random.default_rng(0), []
    for _ in range(6):
        image = np.full((480, 480, 3), 150.0)
        image[40:80], image[:, 40:60] = 60, 200
        image[80:400, 60:420] += draw.normal(0, 40, (320, 360, 1))
        images.append(np.clip(image, 0, 255).round().astype(np.uint8))
    bank = on_bundled("patchknn", **settings).fit(images).memory_bank_
    every, grids = np.array(bank.sketches), [image.grid for image in bank.images]
    by_tokens = near_copies(restored_sketches(every[:, : LENGTH + 1], len(every)), grids)
    assert [n.tolist() for n in near_copies(every, grids)] == [n.tolist() for n in by_tokens]


def test_files_keep_of_sketches_what_is_known_of_any_image():
    plain, relief, masked = tokens(0), np.ones((4, 4), np.float32), np.full(131, 0.5, np.float32)
    for more, width in (({}, 257), ({"relief": relief}, 385), ({"masked": masked}, 516)):
        sketches = np.array([sketch(plain), sketch(plain, **more)])
        saved = stored_sketches(sketches)
        assert saved.shape == (2, width)
        np.testing.assert_array_equal(restored_sketches(saved, 2), sketches)
    with pytest.raises(ValueError, match="sketches of shape"):
        restored_sketches(saved[:, :400], 2)


def test_the_same_photograph_is_left_out_though_it_is_near_all_others():
    marks = [NO_MASK.copy() for _ in range(4)]
    for masked in marks[:2]:
        masked[-3:] = 0.5
    middle = unit(tokens(2) + tokens(3))
    maps = [middle, near_to(middle, 7), tokens(2), tokens(3)]
    sketches = np.array([sketch(o, masked=m) for o, m in zip(maps, marks, strict=True)])
    near = near_copies(sketches, [GRID] * 4, (0.5, 0.0))
    assert [one.tolist() for one in near] == [[0, 1], [0, 1], [0, 1, 2], [0, 1, 3]]
