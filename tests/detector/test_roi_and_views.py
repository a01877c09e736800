"""Regions of interest with a tower: in moved and turned copies, through windows, for one image."""

import numpy as np
import pytest

pytest.importorskip("open_clip")

from pyimgano_openclip import VisionOpenCLIPMutual, load_detector
from pyimgano_openclip.samples import make_pair, make_sample

from helpers.detectors import BUNDLED, on_bundled

pytestmark = pytest.mark.slow

SIZE = (144, 216)  # pixels
LEFT = (0.0, 0.0, 0.5, 1.0)
KINDS = pytest.mark.parametrize("kind", ["patchknn", "promptscore", "mutual"])


def build(kind, **settings):
    if kind == "mutual":
        return VisionOpenCLIPMutual(**BUNDLED, **settings)
    return on_bundled(kind, **settings)


@pytest.fixture(scope="module")
def cork():
    return [make_sample("cork", seed=seed, size=SIZE).image for seed in range(4)]


@pytest.fixture(scope="module")
def pair():
    good, bad = make_pair("cork", seed=9, size=SIZE, defect="contamination", defect_size=24)
    assert bad.mask.any()
    return good.image, bad.image, bad.mask


def around(mask, margin=24):
    """A region with a defect well inside, and one with all of it outside."""
    rows, cols = np.nonzero(mask)
    inside = np.zeros(mask.shape, bool)
    top, left = max(rows.min() - margin, 0), max(cols.min() - margin, 0)
    inside[top : rows.max() + margin, left : cols.max() + margin] = True
    return inside, ~inside


@KINDS
@pytest.mark.parametrize(
    "resolution", [{}, {"smallest_defect": 13.5, "max_tokens": 144}], ids=["at once", "windows"]
)
def test_a_defect_counts_where_it_is_looked_at(kind, resolution, cork, pair, tmp_path):
    good, bad, mask = pair
    for roi, counts in zip(around(mask), (True, False), strict=True):
        detector = build(kind, roi=roi, **resolution).fit(cork)
        assert ("windows" in repr(detector)) == bool(resolution)
        found = detector.get_anomaly_map(bad)
        assert (found[~roi] == 0).all()
        assert found[roi].max() == found.max() > 0
        scores = detector.decision_function([good, bad])
        if kind != "promptscore":  # the bundled tower's words know few defects
            assert (scores[1] > 1.2 * scores[0]) == counts
        loaded = load_detector(
            detector.save_checkpoint(tmp_path / "d.safetensors"), device="cpu", precision="float32"
        )
        np.testing.assert_array_equal(loaded.get_anomaly_map(bad), found)
        np.testing.assert_array_equal(loaded.decision_function([good, bad]), scores)


@pytest.mark.parametrize("settings", [{"rotations": 4}, {"jitter": 0.1}])
def test_copies_in_the_bank_show_the_inside_only(settings, cork):
    """The right half is black: no copy of the left half has a dark patch."""
    half = [image.copy() for image in cork]
    for image in half:
        image[:, SIZE[1] // 2 :] = 0
    detector = on_bundled("patchknn", roi=LEFT, max_patches=None, **settings).fit(half)
    bank = detector.memory_bank_
    views = detector._views()
    for row in range(0, len(bank), 7):
        view, patch = bank.origins[row, 1:].tolist()
        centre = patch_centre(bank.images[0].grid, patch, views[view])
        assert centre <= SIZE[1] / 2 + SIZE[1] / bank.images[0].grid[1]
    views_of_each = np.bincount(bank.origins[:, 1])
    assert (views_of_each > 0.4 * views_of_each[0]).all()


def patch_centre(grid, patch, view):
    """x of a patch of a view, in pixels of the original image."""
    from pyimgano_openclip.images.views import map_back

    row, col = divmod(patch, grid[1])
    y, x = (row + 0.5) * SIZE[0] / grid[0], (col + 0.5) * SIZE[1] / grid[1]
    return map_back(x, y, SIZE, view)[0]


def test_one_training_image_sets_a_threshold_by_what_is_inside(cork):
    image = cork[0].copy()
    detector = on_bundled("patchknn", roi=LEFT).fit([image])
    image[:, 150:] = np.random.default_rng(0).integers(0, 255, image[:, 150:].shape)
    other = on_bundled("patchknn", roi=LEFT).fit([image])
    assert other.threshold_ == pytest.approx(detector.threshold_, rel=0.5)
    assert on_bundled("patchknn", roi=(0.0, 0.0, 1.0, 1.0)).fit([cork[0]]).threshold_ == (
        on_bundled("patchknn").fit([cork[0]]).threshold_
    )


@KINDS
def test_a_region_of_the_whole_image_changes_nothing(kind, cork, pair):
    everywhere, detector = (
        build(kind, roi=roi).fit(cork) for roi in (None, np.ones(SIZE, np.uint8))
    )
    assert detector.threshold_ == everywhere.threshold_
    for image in pair[:2]:
        assert detector.decision_function([image]) == everywhere.decision_function([image])
        np.testing.assert_array_equal(
            detector.get_anomaly_map(image), everywhere.get_anomaly_map(image)
        )
