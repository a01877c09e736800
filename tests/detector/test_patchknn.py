"""Patch-kNN with a custom embedder: growing, turning, explaining, counting shares."""

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import VisionOpenCLIPPatchKNN, load_detector
from pyimgano_openclip.images.views import View, seen
from pyimgano_openclip.maps.boxes import Box

from helpers.detectors import patchknn
from helpers.embedders import (
    ColourEmbedder,
    FileEmbedder,
    quadrants,
    red_image,
    red_images,
    save_all,
    with_green,
)

NORMAL = red_images(12)
DAMAGED = with_green(NORMAL[0], 10, 20)


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
    distance = radii[0] ** 2 / 2
    assert fitted[0].covering_distance_ == distance
    told = f"bank 10 of 192 patches, the others within a cosine distance of about {distance:.3g}>"
    assert told in repr(fitted[0])


def test_there_is_one_training_score_per_image_whatever_it_was_compared_with():
    for settings in ({}, {"max_patches": 4}, {"max_patches": 50}):
        detector = patchknn(**settings).fit(NORMAL[:1])
        assert detector.decision_scores_.shape == detector.labels_.shape == (1,)
        assert detector.decision_function(NORMAL[:1]).tolist() == detector.decision_scores_.tolist()
        detector.partial_fit(NORMAL[1:2])
        detector.partial_fit(NORMAL[2:4])
        assert detector.decision_scores_.shape == detector.labels_.shape == (4,)


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


def test_parts_in_any_direction_are_known_once_they_were_stored_turned():
    upright = quadrants(40, 40)
    known = [np.clip(upright + np.uint8(n), 0, 255).astype(np.uint8) for n in (0, 3, 6)]
    sideways = seen(upright, View(90))
    plain, turning = patchknn().fit(known), patchknn(rotations=4).fit(known)
    assert len(turning.memory_bank_) == 4 * len(plain.memory_bank_)
    assert len(turning.memory_bank_.images) == 3
    assert turning.decision_function([sideways])[0] < 1e-4


def test_training_scores_leave_out_an_images_own_turned_copies():
    images = [red_image(seed=1), red_image(seed=2), quadrants(40, 40)]
    detector = patchknn(rotations=4).fit(images)
    alone = patchknn(rotations=4).fit(images[:2]).decision_function(images[2:])
    assert detector.decision_scores_[2] == pytest.approx(alone[0], abs=1e-6)


def moved(image, down, right):
    """The image moved by whole pixels; what comes in is the colour of the border."""
    return seen(image, View(0, down / image.shape[0], right / image.shape[1]))


def test_parts_that_lie_a_little_differently_are_known_once_they_were_stored_moved():
    known = [np.clip(quadrants(40, 40) + np.uint8(n), 0, 255) for n in (0, 3, 6)]
    plain, steady = patchknn().fit(known), patchknn(jitter=0.05).fit(known)
    assert len(steady.memory_bank_) == 5 * len(plain.memory_bank_)
    assert len(steady.memory_bank_.images) == 3
    for down, right in ((2, 0), (-2, 0), (0, 2), (0, -2)):
        image = moved(known[0], down, right)
        assert steady.decision_function([image])[0] < 1e-6
        assert plain.decision_function([image])[0] > 1e-3


@pytest.mark.parametrize("settings", [{}, {"rotations": 2}, {"max_patches": 40}])
def test_training_scores_leave_out_an_images_own_moved_copies(settings):
    steady = patchknn(jitter=0.05, **settings).fit([*NORMAL[:3], DAMAGED])
    assert steady.decision_scores_[3] > 10 * steady.decision_scores_[:3].max()


def test_custom_embedders_see_no_moved_copies_unless_they_are_asked_for():
    assert len(patchknn().fit(NORMAL).memory_bank_) == 12 * 16
    assert len(patchknn(jitter=0.02).fit(NORMAL).memory_bank_) == 5 * 12 * 16


def test_the_nearest_patch_of_a_moved_copy_is_shown_where_it_lies_in_the_image_itself():
    detector = patchknn(jitter=0.05, rotations=2).fit([quadrants(40, 40), NORMAL[0]])
    views = [seen(quadrants(40, 40), View(180 * k, 0.05 * d, 0)) for d in (1, -1) for k in (0, 1)]
    for view in views:
        for match in detector.nearest(view, 16):
            assert match.training_image == 0
            left, top, right, bottom = match.training_box
            centre = quadrants(40, 40)[(top + bottom) // 2, (left + right) // 2]
            assert match.distance < 1e-6
            assert np.abs(view[match.box.top + 5, match.box.left + 5] - centre).max() == 0


def test_a_checkpoint_of_moved_copies_goes_on_with_them(tmp_path):
    saved = patchknn(jitter=0.05).fit(NORMAL[:6])
    path = saved.save_checkpoint(tmp_path / "model")
    loaded = load_detector(path, embedder=ColourEmbedder())
    assert loaded.jitter == 0.05
    assert loaded.nearest(DAMAGED, 3) == saved.nearest(DAMAGED, 3)
    assert len(loaded.partial_fit(NORMAL[6:7]).memory_bank_) == 7 * 5 * 16
    with pytest.raises(ValueError, match=r"jitter=0\.05"):
        patchknn().load_checkpoint(path)


def test_the_nearest_patch_is_shown_in_pixels_of_both_images(tmp_path):
    path = tmp_path / "quadrants.png"
    Image.fromarray(quadrants(80, 120)).save(path)
    detector = patchknn(embedder=FileEmbedder()).fit([NORMAL[0], path])
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
    assert detector.nearest(NORMAL[1], 1)[0].path is None


def test_the_nearest_patch_of_a_turned_copy_is_shown_in_the_image_itself():
    detector = patchknn(rotations=4).fit([quadrants(40, 40), NORMAL[0]])
    image = red_image(40, 40)
    image[:10, :10] = seen(quadrants(40, 40), View(90))[:10, :10]
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
        ({"dimension": 7}, "dimension=7; it must be a whole number from 8"),
        ({"jitter": -0.02}, "jitter"),
        ({"jitter": 2}, "jitter"),
        ({"jitter": float("nan")}, "jitter"),
        ({"memory_bank_dtype": "float64"}, "float32, float16"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        patchknn(**settings)


@pytest.mark.slow
def test_a_real_tower_grows_turns_and_explains(tmp_path):
    images = [np.kron(red_image(12, 30, seed=s), np.ones((8, 8, 1), np.uint8)) for s in range(4)]
    paths = save_all(images, tmp_path)
    detector = VisionOpenCLIPPatchKNN(
        openclip_model_name="ViT-S-32-alt",
        openclip_pretrained=None,
        device="cpu",
        rotations=4,
        jitter=0,
    )
    detector.fit(paths[:1])
    assert detector.decision_scores_.shape == (1,)  # of the hottest of its changed views
    detector.partial_fit(paths[1:3])
    assert detector.decision_scores_.shape == (3,)
    grid = detector.memory_bank_.images[0].grid
    upright = (detector.memory_bank_.origins[:, 1] == 0).sum()
    assert upright == 3 * grid[0] * grid[1]
    assert upright < len(detector.memory_bank_) < 4 * upright  # less what turning brings in
    known, damaged = detector.decision_function(
        [seen(images[0], View(90)), with_green(images[3], 20, 60, side=48)]
    )
    assert known < damaged
    another = images[0].copy()
    another[0, 0] ^= 1  # or it would be recognised
    match = detector.nearest(another, 1)[0]
    assert (match.path, match.rotation) == (str(paths[0]), 0)
    assert match.box == match.training_box
    assert match.distance == pytest.approx(0, abs=1e-3)
    assert detector.nearest(paths[0], 1)[0].path != str(paths[0])


@pytest.mark.slow
def test_the_length_of_stored_tokens_can_be_chosen(tmp_path):
    settings = {"openclip_model_name": "bundled", "openclip_pretrained": None, "device": "cpu"}
    found = {
        dimension: VisionOpenCLIPPatchKNN(dimension=dimension, **settings).fit(NORMAL[:2])
        for dimension in (None, 64, 512)
    }
    lengths = {d: detector.memory_bank_.tokens.shape[1] for d, detector in found.items()}
    assert lengths == {None: 512, 64: 64, 512: 512}
    scores = {d: detector.decision_function([DAMAGED]) for d, detector in found.items()}
    assert scores[None] == pytest.approx(scores[512], abs=1e-6)
    assert scores[None] != pytest.approx(scores[64], abs=1e-6)
    saved = found[64].save_checkpoint(tmp_path / "short")
    loaded = load_detector(saved, device="cpu").decision_function([DAMAGED])
    np.testing.assert_allclose(loaded, scores[64], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="dimension=64"):
        found[None].load_checkpoint(saved)


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


@pytest.mark.parametrize("settings", [{}, {"max_patches": 40}, {"rotations": 3}])
def test_a_loaded_detector_knows_its_training_images(settings, tmp_path):
    saved = patchknn(**settings).fit(NORMAL[:6])
    path = saved.save_checkpoint(tmp_path / "model")
    loaded = patchknn(**settings).load_checkpoint(path)
    copies = [image.copy() for image in NORMAL[:6]]
    np.testing.assert_array_equal(loaded.decision_function(copies), saved.decision_scores_)
    np.testing.assert_array_equal(
        loaded.predict_anomaly_map(copies), saved.predict_anomaly_map(NORMAL[:6])
    )
    assert loaded.nearest(copies[2]) == saved.nearest(NORMAL[2])
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


@pytest.mark.parametrize("settings", [{}, {"max_patches": 30}, {"rotations": 2}])
def test_a_training_image_is_explained_by_the_others_as_it_is_scored_by_them(settings):
    detector = patchknn(**settings).fit([DAMAGED, *NORMAL])
    hottest = detector.nearest(DAMAGED, 3)
    assert {match.training_image for match in hottest}.isdisjoint({0})
    assert hottest[0].distance > 0.1
    (scored,) = detector.score_iter([DAMAGED])
    assert hottest[0].score == scored.patches.max()
    assert detector.nearest(DAMAGED.copy(), 3) == hottest  # the same content
    assert {match.training_image for match in detector.nearest(NORMAL[1], 3)}.isdisjoint({2})


def test_the_only_training_image_is_explained_by_what_is_elsewhere_in_it():
    detector = patchknn().fit([DAMAGED])
    grid = 4
    for match in detector.nearest(DAMAGED, grid**2):
        left, top = match.box[:2]
        width, height = match.box.right - left, match.box.bottom - top
        apart = abs(match.training_box.left - left) >= 2 * width - 2
        assert apart or abs(match.training_box.top - top) >= 2 * height - 2
    lone = patchknn(embedder=ColourEmbedder(2, 2)).fit([DAMAGED])
    assert lone.nearest(DAMAGED) == []  # every patch touches every other
