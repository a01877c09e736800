"""The detector of unlabelled images, as a user meets it."""

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPMutual, load_detector
from pyimgano_openclip.bank.copies import CopiesWarning
from pyimgano_openclip.cli.judging import training_scores
from pyimgano_openclip.detector.learnt import Calibration
from pyimgano_openclip.detector.promises import FewImagesWarning
from pyimgano_openclip.files.checkpoint import read_checkpoint, write_checkpoint
from pyimgano_openclip.images.notices import FlatFrameWarning
from pyimgano_openclip.maps.gaps import UnreadableImageWarning
from pyimgano_openclip.samples import make_sample

from helpers.detectors import BUNDLED
from helpers.embedders import ColourEmbedder, FileEmbedder, red_images, save_all, with_green

ODD = 5  # index of the marked image


@pytest.fixture
def images():
    """Eight red images, one of them with a green square."""
    found = red_images(8)
    found[ODD] = with_green(found[ODD], 10, 20)
    return found


def mutual(**settings):
    return VisionOpenCLIPMutual(**{"embedder": ColourEmbedder(), **settings})


def test_the_odd_one_out_is_found_where_it_is_odd(images):
    detector = mutual(contamination=0.15).fit(images)
    assert detector.labels_.tolist() == [0, 0, 0, 0, 0, 1, 0, 0]
    (region,) = detector.explain(images[ODD])
    assert region.box.left <= 20 <= 30 <= region.box.right
    assert region.box.top <= 10 <= 20 <= region.box.bottom


def test_tokens_of_different_lengths_are_refused_and_named(images):
    class Longer(ColourEmbedder):
        def embed(self, image):
            tokens, grid, size = super().embed(image)
            return (tokens if self.calls < 4 else np.hstack([tokens, tokens])), grid, size

    message = r"array of shape \(40, 40, 3\).*: tokens have length 6, those of the images before 3"
    with pytest.raises(ValueError, match=message):
        mutual(embedder=Longer()).fit(images)


def test_images_of_the_pool_keep_their_scores_and_are_read_once(images):
    detector = mutual().fit(images)
    calls = detector.embedder.calls
    assert detector.decision_function(images).tolist() == detector.decision_scores_.tolist()
    assert np.stack(list(detector.iter_anomaly_maps(images))).shape == (8, 40, 40)
    assert detector.embedder.calls == calls == 8


def test_without_fit_the_images_of_a_call_are_the_pool(images):
    detector = mutual()
    expected = mutual().fit(images).decision_scores_.tolist()
    assert detector.decision_function(images).tolist() == expected
    assert [found.image for found in detector.score_iter(iter(images))] == expected
    assert detector.predict_anomaly_map(images)[ODD].max() > 5 * expected[0]
    assert not hasattr(detector, "threshold_")


@pytest.mark.parametrize("count", [1, 2])
def test_a_pool_of_one_image_is_an_error_that_says_what_to_do(count):
    alone = red_images(1) * count
    with pytest.raises(ValueError, match="at least two different ones"):
        mutual().decision_function(alone)
    with pytest.raises(ValueError, match=r"Call fit\(\) with a pool"):
        mutual().get_anomaly_map(alone[0])
    with pytest.raises(ValueError, match="at least two different ones"):
        mutual().fit(alone)


def test_copies_do_not_hide_a_defect(images):
    """The same file twice, or saved again with a little noise."""
    noisy = np.clip(images[ODD].astype(int) + np.eye(40, dtype=int)[..., None], 0, 255)
    copies = [images[ODD], noisy.astype(np.uint8)]
    alone = mutual().fit(images).decision_scores_
    with pytest.warns(CopiesWarning, match="1 of 10 images"):
        beside = mutual().fit([*images, *copies]).decision_scores_
    assert len(beside) == 10
    assert beside[ODD] == beside[8]
    np.testing.assert_allclose(beside[[ODD, 9]], alone[ODD], rtol=0.05)


@pytest.mark.parametrize("most", [200, 7])
def test_another_picture_of_a_defective_image_of_the_pool_does_not_pass(images, most, tmp_path):
    pool = [*images, *red_images(12, first=20)]
    detector = mutual(max_comparisons=most).fit(pool)
    again = pool[ODD].copy()
    again[0, 0] ^= 1
    brighter = np.clip(pool[ODD] * 1.03, 0, 255).astype(np.uint8)
    file = detector.save_checkpoint(tmp_path / "pool.safetensors")
    for found in (detector, load_detector(file, embedder=ColourEmbedder())):
        scores = found.decision_function([again, brighter])
        np.testing.assert_allclose(scores, detector.decision_scores_[ODD], rtol=0.1)
        assert ODD not in {match.training_image for match in found.nearest(again, 20)}
        assert next(found.score_iter([again])).anomaly_map().max() > detector.threshold_


@pytest.mark.slow
def test_the_recipe_musc_leaves_out_near_copies_and_takes_two_images():
    pool = [make_sample("tile", seed=seed, size=(64, 64)).image for seed in range(6)]
    pool += [make_sample("tile", seed=9, size=(64, 64), defect="hole").image]
    detector = VisionOpenCLIPMutual(**BUNDLED, recipe="musc").fit(pool)
    again = pool[-1].copy()
    again[0, 0] ^= 1
    score = detector.decision_function([again])[0]
    assert score == pytest.approx(detector.decision_scores_[-1], rel=0.01)
    two = VisionOpenCLIPMutual(**BUNDLED, recipe="musc").fit(pool[:2])
    assert np.isfinite(two.decision_scores_).all()


@pytest.mark.slow
def test_a_defect_on_a_third_of_the_images_does_not_hide_itself():
    pool = [make_sample("leather", seed=seed, size=(96, 96)).image for seed in range(16)]
    pool += [
        make_sample("leather", seed=90 + seed, size=(96, 96), defect="hole").image
        for seed in range(8)
    ]
    scores = VisionOpenCLIPMutual(**BUNDLED).fit(pool).decision_scores_
    assert np.sort(np.argsort(-scores)[:8]).tolist() == list(range(16, 24))


def test_contamination_is_the_share_of_the_pool_that_is_labelled(images):
    pool = [*images, *red_images(12, first=20)]
    for share in (0.1, 0.25, 0.5):
        assert mutual(contamination=share).fit(pool).labels_.sum() == 20 * share


def test_outliers_need_no_share(images):
    pool = [*images, *red_images(12, first=20)]
    detector = mutual(threshold_rule="outliers", contamination=0.5).fit(pool)
    assert detector.labels_[ODD] == 1
    assert detector.labels_.sum() <= 3


@pytest.mark.parametrize("rule", ["share", "outliers"])
@pytest.mark.parametrize(("judged", "dead"), [(19, 1), (17, 3), (15, 5), (20, 30), (0, 20)])
def test_dead_frames_do_not_move_the_threshold(rule, judged, dead):
    scores = np.linspace(0.05, 0.1, 20)[:judged]
    refused = 2 + np.linspace(0.1, 0.5, dead)
    detector = mutual(threshold_rule=rule, contamination=0.2)

    def threshold(*parts):
        return detector._threshold(Calibration.of(np.concatenate(parts)))[0]

    found = threshold(scores, refused)
    assert found < refused.min()
    if judged:
        assert found == threshold(scores)
        assert (scores > found).sum() == round(0.2 * judged) or rule == "outliers"


def test_an_outlier_rule_of_few_images_warns_and_still_flags_what_is_refused(images):
    detector = mutual(threshold_rule="outliers")
    spread = Calibration.of(np.array([0.001, 0.02, 0.9]))
    assert detector._threshold(spread)[0] < 2
    with pytest.warns(FewImagesWarning, match="3 different images .* better twenty"):
        detector.fit(images[:3])
    assert mutual(threshold_rule="outliers").fit(images[:4]).threshold_ > 0


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["share", "outliers"])
def test_dead_frames_of_a_pool_are_labelled_and_defects_beside_them_too(rule, tmp_path):
    size = (64, 64)
    pool = [make_sample("leather", seed=seed, size=size).image for seed in range(12)]
    pool += [make_sample("leather", seed=90 + n, size=size, defect="hole").image for n in range(3)]
    noise = np.random.default_rng(0)
    dead = [noise.integers(0, 3, (*size, 3), dtype=np.uint8) for _ in range(4)]
    detector = VisionOpenCLIPMutual(**BUNDLED, threshold_rule=rule, contamination=0.2)
    with pytest.warns(FlatFrameWarning):
        detector.fit([*pool, *dead])
    assert detector.labels_[12:].all()
    assert {found.image for found in detector.suspects()} >= set(range(12, 19))
    new = noise.integers(0, 3, (*size, 3), dtype=np.uint8)
    with pytest.warns(FlatFrameWarning):
        assert detector.predict([new]).tolist() == [1]
    file = detector.save_checkpoint(tmp_path / "pool.safetensors")
    loaded = load_detector(file, device="cpu", threshold_rule=rule)
    assert loaded._process_decision_scores().threshold_ == detector.threshold_
    assert loaded.labels_.tolist() == detector.labels_.tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.images.notices.FlatFrameWarning")
def test_a_dead_frame_of_a_pool_changes_neither_confidence_nor_probability_nor_percentile(tmp_path):
    size = (64, 64)
    pool = [make_sample("leather", seed=seed, size=size).image for seed in range(6)]
    new = [make_sample("leather", seed=9, size=size, defect="hole").image, pool[0]]
    dead = np.full((*size, 3), 128, np.uint8)
    alone = VisionOpenCLIPMutual(**BUNDLED).fit(pool)
    beside = VisionOpenCLIPMutual(**BUNDLED).fit([*pool, dead])
    file = beside.save_checkpoint(tmp_path / "pool.safetensors")
    expected = said_by_the_host(alone, new)
    assert expected[0].max() > 0.5
    for found in (beside, load_detector(file, device="cpu")):
        for own, same in zip(said_by_the_host(found, new), expected, strict=True):
            np.testing.assert_allclose(own, same, atol=1e-4)
        np.testing.assert_array_equal(found.predict_confidence([dead]), [1])
        np.testing.assert_array_equal(found.score_percentile([0.9, 1.1]), [1, 1])
        np.testing.assert_array_equal(training_scores(found), found.decision_scores_[:6])


def said_by_the_host(detector, images):
    """Confidences, labels and probabilities of images by its formulas."""
    chances, sure = detector.predict_proba(images, return_confidence=True)
    return (
        sure,
        detector.predict_confidence(images),
        detector.predict(images, return_confidence=True)[1],
        detector.predict_with_rejection(images, confidence_threshold=0.2),
        chances,
        detector.predict_proba(images, method="unify"),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.images.notices.FlatFrameWarning")
@pytest.mark.parametrize("rule", ["share", "outliers"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"max_comparisons": 5}, {"roi": (0.0, 0.0, 1.0, 0.5)}, {"recipe": "musc"}],
    ids=["fused", "a sample", "a part", "musc"],
)
def test_dead_frames_change_nothing_of_what_can_be_judged(settings, rule, tmp_path):
    size = (64, 64)
    pool = [make_sample("leather", seed=seed, size=size).image for seed in range(10)]
    pool += [make_sample("leather", seed=90 + n, size=size, defect="hole").image for n in range(2)]
    noise = np.random.default_rng(0)
    dead = [noise.integers(0, 3, (*size, 3), dtype=np.uint8) for _ in range(5)]
    mixed = [*dead[:2], *pool[:6], *dead[2:4], *pool[6:], dead[4]]
    is_dead = np.array([image.max() < 3 for image in mixed])
    new = [make_sample("leather", seed=70, size=size, defect="cut").image, *pool[:1]]
    settings = {**BUNDLED, "threshold_rule": rule, "contamination": 0.2, **settings}
    alone, beside = (VisionOpenCLIPMutual(**settings).fit(images) for images in (pool, mixed))
    file = beside.save_checkpoint(tmp_path / "pool.safetensors")
    for found in (beside, load_detector(file, device="cpu")):
        scores, labels = found.decision_scores_, found.labels_
        np.testing.assert_allclose(scores[~is_dead], alone.decision_scores_, atol=2e-6)
        assert labels[~is_dead].tolist() == alone.labels_.tolist()
        assert labels[is_dead].all()
        assert found.threshold_ == pytest.approx(alone.threshold_, abs=2e-6)
        expected = alone.decision_function(new)
        np.testing.assert_allclose(found.decision_function(new), expected, atol=2e-6)
        assert found.predict(dead).all()
        assert [np.isfinite(found.get_anomaly_map(image)).all() for image in dead] == [True] * 5
        matches = found.nearest(new[0], 20)
        assert len(matches) == len(alone.nearest(new[0], 20))
        assert not is_dead[[match.training_image for match in matches]].any()


@pytest.mark.slow
def test_images_of_which_fewer_than_two_can_be_judged_are_no_pool(images):
    dead = [np.full((40, 40, 3), level, np.uint8) for level in (0, 1, 2)]
    message = r"Of 4 images 4 can be read and differ, and on 3 of them nothing can be seen: "
    for ask in (VisionOpenCLIPMutual.fit, VisionOpenCLIPMutual.decision_function):
        with (
            pytest.warns(FlatFrameWarning, match="nearly black"),
            pytest.raises(ValueError, match=message),
        ):
            ask(VisionOpenCLIPMutual(**BUNDLED), [*dead, images[ODD]])


def test_unreadable_images_of_a_pool_get_nan_or_raise(images, tmp_path):
    paths = save_all(images, tmp_path)
    paths[2].write_bytes(b"no image")
    with pytest.warns(UnreadableImageWarning, match="1 image"):
        scores = mutual(embedder=FileEmbedder(), on_error="nan").decision_function(paths)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [2]
    with pytest.raises(ValueError, match=r"x\[2\].*2\.png"):
        mutual(embedder=FileEmbedder()).decision_function(paths)
    with pytest.raises(ValueError, match=r"x\[2\].*2\.png"):
        mutual(embedder=FileEmbedder(), on_error="nan").fit(paths)
    for path in paths:
        path.write_bytes(b"no image")
    with pytest.warns(UnreadableImageWarning, match="8 images"):
        scores = mutual(embedder=FileEmbedder(), on_error="nan").decision_function(paths)
    assert np.isnan(scores).all()


def test_what_cannot_be_read_is_left_out_of_a_pool_and_named_with_the_reason(images, tmp_path):
    paths = save_all(images, tmp_path)
    paths[0].write_bytes(b"no image")
    reason = r"x\[0\].*0\.png.*cannot identify image"
    with pytest.warns(UnreadableImageWarning, match=f"1 image could not.*left out: {reason}"):
        mutual(embedder=FileEmbedder()).fit(paths, skip_unreadable=True)
    with pytest.raises(ValueError, match=f"Of 2 images 1 can be read .*{reason}") as raised:
        mutual(embedder=FileEmbedder()).fit(paths[:2], skip_unreadable=True)
    assert "Call fit()" not in str(raised.value)
    detector = mutual(embedder=FileEmbedder(), on_error="nan")
    with pytest.raises(ValueError, match=rf"{reason}.*[^.]\. Call fit\(\) with a pool"):
        detector.decision_function(paths[:2])


@pytest.mark.parametrize("settings", [{}, {"roi": (0.0, 0.0, 1.0, 0.5)}])
def test_the_tokens_of_images_of_the_pool_are_those_they_were_compared_by(images, settings):
    detector = mutual(**settings).fit(images)
    results = list(detector.score_iter(images, with_tokens=True))
    assert detector.embedder.calls == 8
    assert [found.image for found in results] == detector.decision_scores_.tolist()
    fresh = mutual(**settings).fit(images[1:]).score_iter(images[:1], with_tokens=True)
    expected = next(fresh).tokens
    np.testing.assert_array_equal(results[0].tokens.places, expected.places)
    np.testing.assert_allclose(results[0].tokens.flat, expected.flat, atol=1e-3)
    assert detector.nearest(results[ODD], 2) == detector.nearest(images[ODD], 2)


def test_images_of_a_large_pool_that_are_not_kept_are_encoded_again_for_their_tokens(images):
    detector = mutual(max_comparisons=4).fit(images)
    results = list(detector.score_iter(images, with_tokens=True))
    assert detector.embedder.calls == 8 + 4
    assert all(found.tokens is not None for found in results)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["fused", "musc"])
@pytest.mark.parametrize("most", [200, 4])
def test_a_saved_pool_scores_alike(recipe, most, tmp_path):
    pool = [make_sample("tile", seed=seed, size=(64, 96)).image for seed in range(8)]
    new = [make_sample("tile", seed=9, size=(64, 96), defect="hole").image]
    settings = {**BUNDLED, "max_tokens": 70, "recipe": recipe, "max_comparisons": most}
    detector = VisionOpenCLIPMutual(**settings).fit(pool)
    file = detector.save_checkpoint(tmp_path / "pool.safetensors")
    loaded = load_detector(file, device="cpu", precision="float32")
    for images in (pool, new):
        expected = detector.decision_function(images)
        assert loaded.decision_function(images).tolist() == expected.tolist()
    assert loaded.threshold_ == detector.threshold_
    matches = detector.nearest(new[0], 2)
    assert loaded.nearest(new[0], 2) == matches


@pytest.mark.parametrize("flat", [{"0": "nearly black"}, {"8": "nearly black"}, {"-1": "white"}])
def test_a_file_whose_new_images_would_be_compared_with_dead_frames_is_refused(
    images, flat, tmp_path
):
    file = mutual().fit(images).save_checkpoint(tmp_path / "pool.safetensors")
    found = read_checkpoint(file)
    state = {**found.header["state"], "flat": flat}
    write_checkpoint(file, {**found.header, "state": state}, found.arrays)
    with pytest.raises(ValueError, match=r"is damaged: .*(pool is inconsistent|flat=)"):
        load_detector(file, embedder=ColourEmbedder())


def test_nearest_names_the_images_it_resembles_most_and_least(tmp_path):
    rng = np.random.default_rng(0)
    greys = [
        np.full((40, 40, 3), (level, 90, 90), np.uint8) + rng.integers(0, 9, (40, 40, 3), np.uint8)
        for level in (20, 60, 100, 140, 180)
    ]
    paths = save_all(greys, tmp_path)
    detector = mutual(embedder=FileEmbedder()).fit(paths)
    matches = detector.nearest(paths[0], 1)
    assert [match.path for match in matches] == [str(paths[1]), str(paths[4])]
    assert matches[0].distance < matches[1].distance
    assert len(detector.nearest(paths[0], 5)) == 4
    with pytest.raises(RuntimeError, match="no pool yet"):
        mutual().nearest(greys[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"recipe": "other"}, "recipe='other' is unknown"),
        ({"recipe": "musc"}, "recipe='musc' needs the class token"),
        ({"threshold_rule": "gap"}, "threshold_rule='gap' is unknown"),
        ({"max_comparisons": 1}, "max_comparisons=1"),
        ({"layers": []}, "layers is empty"),
        ({"neighbourhoods": [2]}, "each must be odd"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        mutual(**settings)


def test_the_published_recipe_refuses_what_it_does_not_have():
    for name, value in (("smallest_defect", 8), ("roi", (0.0, 0.0, 0.5, 1.0))):
        with pytest.raises(ValueError, match=f"recipe='musc'.*{name}|{name}.*recipe='musc'"):
            VisionOpenCLIPMutual(**BUNDLED, recipe="musc", **{name: value})


@pytest.mark.slow
def test_the_aspect_of_the_pool_decides_the_canvas():
    pool = [make_sample("tile", seed=seed, size=(64, 128)).image for seed in range(3)]
    detector = VisionOpenCLIPMutual(**BUNDLED).fit(pool)
    height, width = detector.canvas_
    assert width == pytest.approx(2 * height, rel=0.2)
    new = make_sample("tile", seed=9, size=(70, 50)).image
    assert detector.get_anomaly_map(new).shape == (70, 50)
