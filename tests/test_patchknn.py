"""Patch-kNN with a custom embedder: growing, turning, explaining, counting shares."""

import sys

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN
from pyimgano_openclip.explain import Box, patch_box
from pyimgano_openclip.views import patches_inside, shrink, turn, turn_back

from embedders import ColourEmbedder, red_image, with_green

NORMAL = [red_image(seed=seed) for seed in range(12)]
DAMAGED = with_green(NORMAL[0], 10, 20)


def patchknn(**settings):
    return VisionOpenCLIPPatchKNN(**{"embedder": ColourEmbedder(), **settings})


def quadrants(height=40, width=60):
    """An image whose four quarters have four hues."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 0, 0)
    image[: height // 2, width // 2 :] = (0, 200, 0)
    image[height // 2 :, : width // 2] = (0, 0, 200)
    image[height // 2 :, width // 2 :] = (200, 200, 0)
    return image


@pytest.mark.parametrize("first", [1, 2, 7])
def test_images_added_later_give_the_detector_of_all_images_at_once(first):
    whole = patchknn().fit(NORMAL)
    grown = patchknn().fit(NORMAL[:first]).partial_fit(NORMAL[first:9]).partial_fit(NORMAL[9:])
    np.testing.assert_allclose(grown.decision_scores_, whole.decision_scores_, atol=1e-6)
    assert grown.threshold_ == pytest.approx(whole.threshold_, abs=1e-6)
    images = [red_image(seed=50), DAMAGED]
    np.testing.assert_allclose(grown.decision_function(images), whole.decision_function(images))


def test_the_first_partial_fit_is_a_fit():
    grown, whole = patchknn().partial_fit(NORMAL), patchknn().fit(NORMAL)
    np.testing.assert_array_equal(grown.decision_scores_, whole.decision_scores_)
    assert grown.threshold_ == whole.threshold_


@pytest.mark.parametrize("settings", [{"max_patches": 40}, {"coreset_sampling_ratio": 0.25}])
def test_a_thinned_bank_grows_within_its_limit(settings):
    detector = patchknn(**settings).fit(NORMAL[:6])
    earlier = detector.decision_scores_
    detector.partial_fit(NORMAL[6:])
    assert len(detector.memory_bank_) == (40 if "max_patches" in settings else 48)
    assert detector.decision_scores_.shape == (12,)
    np.testing.assert_array_equal(detector.decision_scores_[:6], earlier)
    assert detector.labels_.shape == (12,)
    assert detector.predict([red_image(seed=60), DAMAGED]).tolist() == [0, 1]


def test_the_covering_radius_is_told_and_never_grows_with_the_limit(tmp_path):
    with pytest.raises(RuntimeError, match="fit"):
        assert patchknn().covering_radius_
    fitted = [patchknn(max_patches=most).fit(NORMAL) for most in (10, 40, 100, 192)]
    radii = [detector.covering_radius_ for detector in fitted]
    assert radii == sorted(radii, reverse=True)
    assert radii[0] > radii[-1] == 0
    path = fitted[0].save_checkpoint(tmp_path / "model")
    assert patchknn().load_checkpoint(path).covering_radius_ == radii[0]
    assert f"bank 10 of 192 patches, covering radius {radii[0]:.3g}>" in repr(fitted[0])


def test_scores_of_stand_ins_go_when_there_are_other_images():
    detector = patchknn(max_patches=4).fit(NORMAL[:1]).partial_fit(NORMAL[1:4])
    assert detector.decision_scores_.shape == (3,)


def test_a_score_is_not_answered_from_before_images_were_added():
    detector = patchknn().fit(NORMAL)
    image = with_green(red_image(seed=80), 10, 20)
    before = detector.decision_function([image])
    detector.partial_fit([DAMAGED])
    assert detector.decision_function([image])[0] < before[0] / 10


def test_a_failed_partial_fit_leaves_the_detector_as_it_was():
    detector = patchknn(max_patches=40).fit(NORMAL)
    bank, rows, threshold = (
        detector.memory_bank_, detector.memory_bank_.tokens.copy(), detector.threshold_,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"x\[1\]: no such file.*shape"):
        detector.partial_fit([red_image(seed=70), "no such file.png"])
    assert detector.memory_bank_ is bank
    np.testing.assert_array_equal(bank.tokens, rows)
    assert detector.threshold_ == threshold


def test_half_precision_changes_scores_little():
    images = [red_image(seed=50), DAMAGED]
    full, half = (
        patchknn(memory_bank_dtype=name).fit(NORMAL).decision_function(images)
        for name in ("float32", "float16")
    )
    np.testing.assert_allclose(half, full, atol=1e-3)


@pytest.mark.parametrize("backend", ["numpy", "sklearn", "faiss"])
def test_every_backend_gives_the_same_detector(backend):
    pytest.importorskip(backend)
    detector, expected = patchknn(knn_backend=backend).fit(NORMAL), patchknn().fit(NORMAL)
    np.testing.assert_allclose(detector.decision_scores_, expected.decision_scores_, atol=1e-6)
    np.testing.assert_allclose(
        detector.decision_function([DAMAGED]), expected.decision_function([DAMAGED]), atol=1e-6
    )


@pytest.mark.parametrize(
    ("backend", "module", "remedy"),
    [
        ("faiss", "faiss", r"pip install 'pyimgano-openclip\[faiss\]'"),
        ("faiss-ivf", "faiss", r"pip install 'pyimgano-openclip\[faiss\]'"),
        ("sklearn", "sklearn", "pip install scikit-learn"),
        ("torch", "torch", "pip install torch"),
    ],
)
def test_a_missing_search_library_is_told_before_any_image_is_read(
    backend, module, remedy, monkeypatch
):
    detector = patchknn().fit(NORMAL)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"knn_backend='{backend}' needs {module}: {remedy}"):
        patchknn(knn_backend=backend)
    with pytest.raises(ImportError, match=remedy):
        detector.set_params(knn_backend=backend)
    assert detector.knn_backend == "auto"


def test_parts_in_any_direction_are_known_once_they_were_stored_turned():
    upright = quadrants(40, 40)
    seen = [np.clip(upright + np.uint8(n), 0, 255).astype(np.uint8) for n in (0, 3, 6)]
    sideways = turn(upright, 90)
    plain, turning = patchknn().fit(seen), patchknn(rotations=4).fit(seen)
    assert len(turning.memory_bank_) == 4 * len(plain.memory_bank_)
    assert len(turning.memory_bank_.images) == 3
    assert turning.decision_function([sideways])[0] < 1e-4


def test_training_scores_leave_out_an_images_own_turned_copies():
    images = [red_image(seed=1), red_image(seed=2), quadrants(40, 40)]
    detector = patchknn(rotations=4).fit(images)
    alone = patchknn(rotations=4).fit(images[:2]).decision_function(images[2:])
    assert detector.decision_scores_[2] == pytest.approx(alone[0], abs=1e-6)


def test_the_nearest_patch_is_shown_in_pixels_of_both_images(tmp_path):
    class Reader(ColourEmbedder):
        def embed(self, image):
            pixels = image if isinstance(image, np.ndarray) else np.asarray(Image.open(image))
            return super().embed(pixels)

    path = tmp_path / "quadrants.png"
    Image.fromarray(quadrants(80, 120)).save(path)
    detector = patchknn(embedder=Reader()).fit([NORMAL[0], path])
    image = red_image(40, 60)
    image[20:30, 15:30] = (0, 195, 0)  # one patch of 10 x 15 pixels
    matches = detector.nearest(image, count=16)
    assert len(detector.nearest(image, count=3)) == 3
    assert [m.score for m in matches] == sorted((m.score for m in matches), reverse=True)
    (green,) = (m for m in matches if m.box == Box(15, 20, 30, 30))
    assert (green.training_image, green.path, green.rotation) == (1, str(path), 0)
    left, top, right, bottom = green.training_box
    assert (right - left, bottom - top) == (30, 20)
    assert left >= 60
    assert bottom <= 40
    assert green.score == green.distance
    assert detector.nearest(NORMAL[0], 1)[0].path is None


def test_the_nearest_patch_of_a_turned_copy_is_shown_in_the_image_itself():
    detector = patchknn(rotations=4).fit([quadrants(40, 40), NORMAL[0]])
    image = red_image(40, 40)
    image[:10, :10] = turn(quadrants(40, 40), 90)[:10, :10]
    (green,) = (m for m in detector.nearest(image, 16) if m.box == Box(0, 0, 10, 10))
    assert green.training_image == 0
    left, top, right, bottom = green.training_box
    assert (quadrants(40, 40)[top:bottom, left:right] == image[0, 0]).all()


def test_the_share_of_training_scores_below_a_score():
    detector = patchknn().fit(NORMAL)
    ranked = np.sort(detector.decision_scores_)
    shares = detector.score_percentile([-1, ranked[0], ranked[6], ranked[-1], 99])
    np.testing.assert_allclose(shares, [0, 0, 0.5, 11 / 12, 1])
    with pytest.raises(RuntimeError, match="fit"):
        patchknn().score_percentile([0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rotations": 0}, "rotations"),
        ({"rotations": 1.5}, "rotations"),
        ({"n_neighbors": True}, "n_neighbors"),
        ({"max_patches": 10.5}, "max_patches"),
        ({"memory_bank_dtype": "float64"}, "float32, float16"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        patchknn(**settings)


def test_turning_back_finds_the_place_of_a_point():
    image = np.zeros((40, 60, 3), np.uint8)
    image[10, 45] = 255
    turned = turn(image, 30)
    row, col = np.unravel_index(turned[..., 0].argmax(), (40, 60))
    x, y = turn_back(col + 0.5, row + 0.5, (40, 60), 30)
    assert (x, y) == pytest.approx((45.5, 10.5), abs=0.8)
    np.testing.assert_array_equal(turn(quadrants(40, 40), 90), np.rot90(quadrants(40, 40)))


def test_patches_that_show_no_image_after_turning_are_known():
    assert len(patches_inside((4, 4), (40, 40), 90)) == 16
    wide = patches_inside((4, 12), (40, 120), 90)
    assert set(wide % 12) == {4, 5, 6, 7}
    assert 0 not in patches_inside((4, 4), (40, 40), 45)


def test_large_images_shrink_in_proportion_and_small_ones_stay():
    assert shrink(quadrants(400, 600), (100, 100)).shape == (100, 150, 3)
    assert shrink(quadrants(40, 60), (100, 100)).shape == (40, 60, 3)


def test_a_patch_has_at_least_one_pixel():
    boxes = [patch_box(patch, (4, 4), (2, 3)) for patch in range(16)]
    assert all(box.left < box.right <= 3 and box.top < box.bottom <= 2 for box in boxes)


@pytest.mark.slow
def test_a_real_tower_grows_turns_and_explains(tmp_path):
    images = [np.kron(red_image(12, 30, seed=s), np.ones((8, 8, 1), np.uint8)) for s in range(4)]
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="ViT-S-32-alt", openclip_pretrained=None, device="cpu", rotations=4
    )
    detector.fit(paths[:1])
    assert detector.decision_scores_.shape == (8,)  # of changed views of the only image
    detector.partial_fit(paths[1:3])
    assert detector.decision_scores_.shape == (3,)
    grid = detector.memory_bank_.images[0].grid
    upright = (detector.memory_bank_.origins[:, 1] == 0).sum()
    assert upright == 3 * grid[0] * grid[1]
    assert upright < len(detector.memory_bank_) < 4 * upright  # less what turning brings in
    known, damaged = detector.decision_function(
        [turn(images[0], 90), with_green(images[3], 20, 60, side=48)]
    )
    assert known < damaged
    match = detector.nearest(paths[0], 1)[0]
    assert (match.path, match.rotation) == (str(paths[0]), 0)
    assert match.box == match.training_box
    assert match.distance == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"max_patches": 40}])
def test_training_images_keep_their_training_scores_and_maps(settings):
    # The host calibrates on them once more; each would find itself in the bank.
    detector = patchknn(**settings).fit(NORMAL[:4])
    for more in ([NORMAL[4]], [NORMAL[5], DAMAGED]):
        known = NORMAL[: len(detector.decision_scores_)]
        np.testing.assert_array_equal(detector.decision_function(known), detector.decision_scores_)
        assert detector.predict_anomaly_map(known).max() > 1e-6
        detector.partial_fit(more)
    known = [*NORMAL[:6], DAMAGED]
    np.testing.assert_array_equal(detector.decision_function(known), detector.decision_scores_)


def test_a_training_image_is_explained_by_its_training_map():
    detector = patchknn().fit([*NORMAL, DAMAGED])
    found = detector.get_anomaly_map(DAMAGED)
    (region,) = detector.explain(DAMAGED, threshold=found.max() / 2)
    assert region.peak == pytest.approx(found.max())
    assert region.box.left <= 25 <= region.box.right
    assert region.box.top <= 15 <= region.box.bottom


def test_a_loaded_detector_knows_only_the_images_added_to_it_again(tmp_path):
    path = patchknn().fit(NORMAL[:6]).save_checkpoint(tmp_path / "model")
    loaded = patchknn().load_checkpoint(path)
    assert loaded.decision_function(NORMAL[:6]).max() < 1e-6
    loaded.partial_fit([DAMAGED])
    assert loaded.decision_function([DAMAGED]) == loaded.decision_scores_[-1] > 0.1


def test_a_single_training_image_has_the_score_of_its_hottest_view():
    detector = patchknn().fit(NORMAL[:1])
    assert detector.decision_function(NORMAL[:1]) == detector.decision_scores_.max() > 0


def test_what_an_image_shows_is_normal_once_it_was_added():
    detector = patchknn().fit(NORMAL[:4]).partial_fit([DAMAGED])
    again = DAMAGED.copy()
    again[0, 0] += 1  # another picture of the same
    assert detector.decision_function([again]) < 1e-5
