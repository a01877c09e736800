"""Regions of interest with a tower: in moved and turned copies, through windows, for one image."""

import numpy as np
import pytest
from PIL import Image

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


def disturbed(images, roi, seed=0):
    """Noise outside of a region, right up to it."""
    noise = np.random.default_rng(seed).integers(0, 256, (len(images), *SIZE, 3), np.uint8)
    pairs = zip(images, noise, strict=True)
    return [np.where(roi[..., None], image, other) for image, other in pairs]


RESOLUTIONS = ({}, {"smallest_defect": 13.5, "max_tokens": 144}, {"force_image_size": 96})
SETTINGS = [
    *((kind, some) for kind in ("patchknn", "promptscore", "mutual") for some in RESOLUTIONS),
    ("patchknn", {"jitter": 0.1}),
    ("patchknn", {"rotations": 4}),
]


@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=str)
def test_nothing_outside_has_a_say(kind, settings, cork, pair, tmp_path):
    """A tower's tokens tell of their surroundings, of which they see nothing."""
    y, x = np.indices(SIZE)
    roi = (y - 70) ** 2 + (x - 90) ** 2 < 55**2
    detector = build(kind, roi=roi, **settings).fit(cork)
    scores, maps = detector.decision_function(pair[:2]), detector.predict_anomaly_map(pair[:2])
    other = build(kind, roi=roi, **settings).fit(disturbed(cork, roi, seed=1))
    assert other.threshold_ == detector.threshold_
    assert other.region_threshold() == detector.region_threshold()
    np.testing.assert_array_equal(other.decision_scores_, detector.decision_scores_)
    path = detector.save_checkpoint(tmp_path / "d.safetensors")
    loaded = load_detector(path, device="cpu", precision="float32")
    for one in (detector, other, loaded):
        seen = disturbed(pair[:2], roi)
        np.testing.assert_array_equal(one.decision_function(seen), scores)
        np.testing.assert_array_equal(one.predict_anomaly_map(seen), maps)


def test_nothing_outside_has_a_say_in_the_threshold_of_one_image(cork):
    left = np.arange(SIZE[1]) < np.full((SIZE[0], 1), SIZE[1] // 2)
    thresholds = {
        on_bundled("patchknn", roi=LEFT).fit(images).threshold_
        for images in (cork[:1], disturbed(cork[:1], left))
    }
    assert len(thresholds) == 1
    assert on_bundled("patchknn", roi=(0.0, 0.0, 1.0, 1.0)).fit([cork[0]]).threshold_ == (
        on_bundled("patchknn").fit([cork[0]]).threshold_
    )


def test_nothing_outside_has_a_say_with_a_mask_for_each_image(cork, pair, tmp_path):
    """Files, decoded once for themselves and for their copies."""
    (tmp_path / "masks").mkdir()
    paths, regions, images = [], [], [*cork, *pair[:2]]
    for number, image in enumerate(images):
        roi = np.zeros(SIZE, bool)
        roi[20:100, 20 + 10 * number : 120] = True
        paths.append(tmp_path / f"{number}.png")
        regions.append(roi)
        Image.fromarray(roi).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    detector = on_bundled("patchknn", roi=tmp_path / "masks").fit(paths[:4])
    scores = detector.decision_function(paths)
    for path, image, roi in zip(paths, images, regions, strict=True):
        Image.fromarray(disturbed([image], roi)[0]).save(path)
    other = on_bundled("patchknn", roi=tmp_path / "masks").fit(paths[:4])
    assert other.threshold_ == detector.threshold_
    np.testing.assert_array_equal(other.decision_function(paths), scores)
    np.testing.assert_array_equal(detector.decision_function(paths[4:]), scores[4:])


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


@pytest.mark.filterwarnings("ignore:Nothing can be seen")
@pytest.mark.parametrize("kind", ["patchknn", "promptscore", "mutual", "zero-shot"])
@pytest.mark.parametrize(
    "roi",
    [
        (0.4, 0.4, 0.6, 0.6),
        (0.45, 0.1, 0.5, 0.9),
        [(0.31, 0.27), (0.83, 0.4), (0.55, 0.9)],
        (0.3, 0.3, 0.7, 0.7),
    ],
    ids=["small", "thin", "polygon", "large"],
)
def test_dead_frames_are_dead_in_any_region(kind, roi, cork):
    dead = [np.full((*SIZE, 3), value, np.uint8) for value in (0, 255)]
    if kind == "zero-shot":
        detector = build("promptscore", roi=roi)
    else:
        detector = build(kind, roi=roi).fit(cork)
    found = list(detector.score_iter(dead))
    assert all(one.unlike is not None for one in found)
    assert detector.predict(dead).tolist() == [1, 1]


def test_images_of_other_sizes_are_not_added_in_a_region_in_pixels(cork):
    detector = on_bundled("patchknn", roi=(20, 20, 100, 100)).fit(cork)
    large = make_sample("cork", seed=50, size=(288, 432)).image
    with pytest.raises(ValueError, match=r"288 x 432 pixels, those that were learnt from"):
        detector.partial_fit([large])
