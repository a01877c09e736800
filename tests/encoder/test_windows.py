"""Large images through windows: nothing is missing, nothing is moved, there are no seams."""

import numpy as np
import pytest

pytest.importorskip("open_clip")
import torch

from pyimgano_openclip import OpenCLIPPatchEmbedder, load_detector
from pyimgano_openclip.encoder.windows import CONTEXT, WindowPlan, join, mosaic
from pyimgano_openclip.samples import make_pair, make_sample

from helpers.detectors import KINDS, on_bundled

pytestmark = pytest.mark.slow

GRIDS = pytest.mark.parametrize("grid", [(12, 12), (13, 40), (40, 13), (7, 31), (96, 50)])


@GRIDS
@pytest.mark.parametrize("per", [1, 2])
def test_each_token_comes_from_the_window_in_which_it_lies_most_centrally(grid, per):
    plan = WindowPlan.of(grid, (12, 12))
    rows, cols = (side * per for side in plan.side)
    places = np.stack(np.mgrid[:rows, :cols], axis=-1)

    def look(numbers):
        starts = [np.multiply(plan.start(number), per) for number in numbers]
        centre = np.abs(places - (np.array([rows, cols]) - 1) / 2)
        return [
            {"features": np.concatenate([places + start, centre], axis=-1)[None]}
            for start in starts
        ]

    found = mosaic(plan, 5, look)["features"]
    assert found.shape == (grid[0] * per, grid[1] * per, 4)
    np.testing.assert_array_equal(
        found[..., :2], np.stack(np.mgrid[: grid[0] * per, : grid[1] * per], -1)
    )
    for axis, starts in enumerate((plan.down, plan.right)):
        at = np.arange(grid[axis] * per)
        away = np.abs(at[:, None] - per * np.array(starts) - (plan.side[axis] * per - 1) / 2)
        reach = (at[:, None] >= per * np.array(starts)) & (
            at[:, None] < per * (np.array(starts) + plan.side[axis])
        )
        nearest = np.where(reach, away, np.inf).min(axis=1)
        np.testing.assert_array_equal(found[..., 2 + axis].max(axis=1 - axis), nearest)


def test_only_windows_in_which_something_is_looked_at_are_looked_through():
    plan = WindowPlan.of((30, 48), (12, 12))
    inside = np.zeros((600, 960), bool)  # 20 x 20 pixels a patch
    inside[:, 500:520] = True
    wanted = plan.looked_at(inside)
    assert 0 < len(wanted) < len(plan) / 2

    def look(numbers):
        return [{"": np.full((1, 12, 12, 1), 1 + number, np.float32)} for number in numbers]

    some, every = (mosaic(plan, 5, look, numbers)[""] for numbers in (wanted, None))
    np.testing.assert_array_equal(some[:, 24:27], every[:, 24:27])
    assert (some[:, :10] == 0).all()
    assert plan.looked_at(np.ones((600, 960), bool)) == list(range(len(plan)))


def test_what_the_whole_image_has_at_a_place_is_beside_the_window_there():
    """A ramp over the canvas is the same ramp in all windows, between the outermost centres."""
    plan = WindowPlan.of((24, 36), (12, 12))
    y, x = np.mgrid[:12, :12].astype(np.float32)
    ramp = torch.tensor(np.stack([(y + 0.5) / 12, (x + 0.5) / 12], axis=-1))[None]

    def look(numbers):
        detail = {"aligned": torch.zeros(len(numbers), 12, 12, 2)}
        return [
            {kind: tokens.numpy() for kind, tokens in maps.items()}
            for maps in join(plan, numbers, detail, {"aligned": ramp})
        ]

    found = mosaic(plan, 4, look)["aligned"] / CONTEXT  # the rest is zero
    expected = np.stack(np.mgrid[:24, :36], axis=-1) / (24, 36) + 0.5 / np.array([24, 36])
    np.testing.assert_allclose(found[1:-1, 2:-2], expected[1:-1, 2:-2], atol=1e-5)


def embedder(**settings):
    return OpenCLIPPatchEmbedder(
        "bundled", None, **{"device": "cpu", "precision": "float32", **settings}
    )


@pytest.fixture(scope="module")
def cork():
    return [make_sample("cork", seed=seed, size=(300, 480)).image for seed in range(3)]


def test_the_resolution_follows_the_smallest_defect(cork):
    """12 x 12 patches of 8 pixels are the tower's own; 24 x 24 it sees at once."""
    assert embedder().choose_canvas(cork) == (96, 152)
    assert embedder(smallest_defect=300).choose_canvas(cork) == (96, 152)
    assert embedder(smallest_defect=30).choose_canvas(cork) == (120, 192)
    fine = embedder(smallest_defect=15)
    assert fine.choose_canvas(cork) == (240, 384)
    assert fine.canvases.windows((120, 192)) is None
    assert len(fine.canvases.windows((240, 384))) == 3 * 5
    patches = next(fine.stream(cork[:1], (240, 384)))
    assert patches.grid == (30, 48)
    assert patches.tokens.shape[-1] == next(embedder().stream(cork[:1], (96, 96))).tokens.shape[-1]
    with pytest.raises(ValueError, match=r"smallest_defect=0.5 on images of 300 x 480"):
        embedder(smallest_defect=0.5).choose_canvas(cork)
    for wrong in (0, -1, "16", float("nan")):
        with pytest.raises(ValueError, match="smallest_defect"):
            embedder(smallest_defect=wrong)


def test_squashed_images_and_fixed_sizes_have_windows_too(cork):
    squashed = embedder(resize="squash", smallest_defect=15)
    assert squashed.canvases.whole(squashed.choose_canvas(cork)) == (96, 96)
    sized = embedder(image_size=(48, 96), smallest_defect=15)
    canvas = sized.choose_canvas(cork)
    assert sized.canvases.windows(canvas).side == (6, 12)
    assert next(sized.stream(cork[:1], canvas)).grid == (30, 48)


def test_tokens_do_not_depend_on_how_many_windows_are_seen_at_once(cork):
    one, many = (
        next(embedder(smallest_defect=18, batch_size=size).stream(cork[:1], (200, 320)))
        for size in (1, 32)
    )
    np.testing.assert_allclose(one.tokens, many.tokens, atol=1e-5)


@KINDS
def test_a_detector_finds_what_is_small_and_is_saved_with_its_windows(kind, cork, tmp_path):
    detector = on_bundled(kind, smallest_defect=15).fit(cork)
    assert "15 windows" in repr(detector)
    good, bad = make_pair("cork", seed=9, size=(300, 480), defect="contamination", defect_size=16)
    found = detector.get_anomaly_map(bad.image)
    assert found.shape == (300, 480)
    path = detector.save_checkpoint(tmp_path / "d.safetensors")
    loaded = load_detector(path, device="cpu", precision="float32")
    assert loaded.canvas_ == (240, 384)
    np.testing.assert_array_equal(loaded.get_anomaly_map(bad.image), found)
    if kind == "patchknn":
        assert found[bad.mask].mean() > 1.2 * np.quantile(found[~bad.mask], 0.99)
        assert np.diff(detector.decision_function([good.image, bad.image])) > 0
        assert detector.nearest(bad.image, 1)[0].box.left % 10 == 0


def test_one_pass_has_no_windows_in_its_facts(cork):
    detector = on_bundled("patchknn", smallest_defect=30).fit(cork)
    assert "window" not in repr(detector)
    assert "20 x 20 pixels" in repr(detector)


def test_small_defects_are_looked_for_at_an_earlier_depth_as_well():
    assert on_bundled("patchknn")._embedder.layers == (0.5, 0.75)
    assert on_bundled("patchknn", smallest_defect=15)._embedder.layers == (0.25, 0.5, 0.75)
    chosen = on_bundled("patchknn", smallest_defect=15, layers=[1.0])
    assert chosen._embedder.layers == (0.5, 1.0)
    assert chosen.layers == [1.0]


def test_a_spot_is_as_hot_on_seams_and_at_the_border_as_elsewhere(cork):
    detector = on_bundled("patchknn", smallest_defect=15, jitter=0).fit(cork)
    plan = detector._embedder.canvases.windows((240, 384))
    cuts = [
        [axis.own(n).start for n in range(1, len(axis.starts))] for axis in plan._axes((12, 12))
    ]
    at = {  # (row, column) of a corner that four patches of 10 x 10 pixels share
        "seams": [(15, cuts[1][0]), (5, cuts[1][1]), (cuts[0][0], 22), (cuts[0][1], 31)],
        "border": [(1, 20), (29, 30), (12, 1), (22, 47)],
        "elsewhere": [(4, 4), (16, 20), (26, 26), (26, 5)],
    }
    rise = dict.fromkeys(at, 0.0)
    for seed in range(20, 24):
        image = make_sample("cork", seed=seed, size=(300, 480)).image
        before = next(detector.score_iter([image])).patches
        for name, corners in at.items():
            spotted = image.copy()
            for row, col in corners:
                spotted[10 * row - 6 : 10 * row + 6, 10 * col - 6 : 10 * col + 6] //= 2
            after = next(detector.score_iter([spotted])).patches
            for row, col in corners:
                four = np.s_[row - 1 : row + 1, col - 1 : col + 1]
                rise[name] += after[four].max() - before[four].max()
    assert min(rise["seams"], rise["border"]) > 0.9 * rise["elsewhere"] > 0


def test_windows_are_no_larger_than_what_the_tower_may_see_at_once():
    image = np.zeros((200, 300, 3), np.uint8)
    for most, side in ((None, (12, 12)), (500, (12, 12)), (100, (10, 10)), (6, (2, 2))):
        canvases = embedder(max_tokens=most, smallest_defect=9).canvases
        plan = canvases.windows(canvases.choose([image.shape[:2]]))
        assert plan.side == side
        assert most is None or plan.side[0] * plan.side[1] <= most


def test_what_may_be_seen_at_once_is_refused_where_it_has_no_say():
    for fixed in ({"resize": "squash"}, {"image_size": (96, 96)}):
        with pytest.raises(ValueError, match=r"max_tokens=30, but here .* (144|36) patches"):
            _ = embedder(max_tokens=30, **fixed).canvases
        assert embedder(max_tokens=144, **fixed).canvases.fixed
