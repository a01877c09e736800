"""Where an image is anomalous, and what was found there."""

import pickle

import numpy as np
import pytest

from pyimgano_openclip.samples import make_sample

from helpers.detectors import EACH, mutual, on_bundled, patchknn, promptscore
from helpers.embedders import ColourEmbedder, red_image, red_images, with_green


def fine_promptscore(**settings):
    return promptscore(embedder=ColourEmbedder(8, 16), **settings)


def fine_patchknn(**settings):
    return patchknn(embedder=ColourEmbedder(8, 16), **settings)


def test_two_defects_give_two_boxes_around_them():
    image = with_green(with_green(red_image(80, 160), 10, 20, 20), 50, 120, 20)
    regions = fine_promptscore().explain(image)
    assert len(regions) == 2
    for region, (top, left) in zip(
        sorted(regions, key=lambda r: r.box), [(10, 20), (50, 120)], strict=True
    ):
        assert abs(region.box[0] - left) <= 10
        assert abs(region.box[1] - top) <= 10
        assert abs(region.box[2] - left - 20) <= 10
        assert abs(region.box[3] - top - 20) <= 10
        assert region.peak > 0.5
        assert region.defect is None


def test_a_normal_image_has_no_regions():
    assert fine_promptscore().explain(red_image(80, 160)) == []


def test_patchknn_explains_above_its_threshold():
    detector = fine_patchknn()
    with pytest.raises(RuntimeError):
        detector.explain(red_image(80, 160))
    detector.fit(red_images(5, 80, 160))
    (region,) = detector.explain(with_green(red_image(80, 160, seed=9), 50, 120, 20))
    assert region.box[0] <= 130 <= region.box[2]
    assert region.box[1] <= 60 <= region.box[3]


def test_an_anomalous_image_without_a_hot_region_has_the_box_of_its_hottest_patch():
    detector = fine_patchknn(aggregation_method="max").fit(red_images(5, 80, 160))
    image = with_green(red_image(80, 160, seed=9), 50, 120, 20)
    (scored,) = detector.score_iter([image])
    peak = scored.anomaly_map().max()
    detector.threshold_ = (peak + scored.image) / 2  # the map is smoother than its patches
    (spot,) = detector.explain(image)
    left, top, right, bottom = spot.box
    assert (right - left, bottom - top, spot.area) == (10, 10, 0)
    assert left <= spot.peak_at[0] < right
    assert 120 <= spot.peak_at[0] < 140
    assert 50 <= spot.peak_at[1] < 70
    assert spot.peak == peak
    assert detector.explain(image, threshold=peak) == []
    plain = red_image(80, 160, seed=9)
    detector.threshold_ = detector.decision_function([plain])[0]  # not above it
    assert detector.explain(plain, threshold=2.0) == detector.explain(plain) == []


@pytest.mark.slow
def test_the_hottest_region_has_the_name_of_the_defect_that_the_image_shows():
    detector = on_bundled("promptscore", defects=["hole", "scratch", "discoloration"])
    for name in ("scratch", "discoloration"):
        image = make_sample("leather", seed=1, size=(120, 160), defect=name).image
        hottest, *others = detector.explain(image, threshold=0.05)
        assert hottest.defect == name
        assert 0.75 < hottest.probability <= 1
        assert not any(region.defect or region.probability for region in others)


SCRATCHED = ["{} with a scratch"]


@pytest.mark.slow
@pytest.mark.parametrize("defects", [{"mark": SCRATCHED, "scrape": SCRATCHED}, ["scratch"]])
def test_a_name_that_leads_no_other_is_not_given(defects):
    image = make_sample("leather", seed=1, size=(120, 160), defect="scratch").image
    (hottest, *_) = on_bundled("promptscore", defects=defects).explain(image)
    assert (hottest.defect, hottest.probability) == (None, None)


def test_a_result_with_its_tokens_is_explained_without_reading_the_image_again():
    detector = fine_patchknn()
    detector.fit(red_images(5, 80, 160))
    images = [with_green(red_image(80, 160, seed=9), 50, left, 20) for left in (20, 120)]
    expected = [(detector.explain(image), detector.nearest(image)) for image in images]
    fresh = pickle.loads(pickle.dumps(detector))
    found = []
    for image, scored in zip(images, fresh.score_iter(images, with_tokens=True), strict=True):
        before = fresh.embedder.calls
        found.append((fresh.explain(scored), fresh.nearest(scored)))
        assert fresh.explain(image) == found[-1][0]  # which takes no tokens
        assert fresh.embedder.calls == before
    assert found == expected
    fresh.channel_order = "bgr"
    assert fresh.explain(images[-1]) != expected[-1][0]


def test_a_result_without_tokens_is_refused_where_they_are_needed():
    detector = fine_patchknn().fit(red_images(5, 80, 160))
    (scored,) = detector.score_iter([red_image(80, 160, seed=9)])
    assert detector.explain(scored) == []
    with pytest.raises(ValueError, match=r"no patch tokens; score with .*with_tokens=True"):
        detector.nearest(scored)


def test_a_result_is_of_use_after_images_were_added_and_in_a_loaded_copy(tmp_path):
    detector = fine_patchknn().fit(red_images(5, 80, 160))
    (scored,) = detector.score_iter([red_image(80, 160, seed=9)], with_tokens=True)
    file = detector.save_checkpoint(tmp_path / "d.safetensors")
    assert fine_patchknn().load_checkpoint(file).nearest(scored) == detector.nearest(scored)
    added = detector.partial_fit([red_image(80, 160, seed=9)]).nearest(scored)
    assert {match.training_image for match in added} <= {0, 1, 2, 3, 4}


@EACH
def test_a_result_of_another_kind_of_detector_is_refused(build):
    others = [other for other in (patchknn, promptscore, mutual) if other is not build]
    detector, images = build().fit(red_images(5)), [red_image(seed=9), red_image(seed=8)]
    for other in others:
        (scored, _) = other().fit(red_images(5)).score_iter(images, with_tokens=True)
        kinds = rf"given by {type(other()).__name__}; one of {type(build()).__name__} was expected"
        for ask in (detector.explain, detector.hottest_spot, getattr(detector, "nearest", None)):
            if ask is not None:
                with pytest.raises(ValueError, match=kinds):
                    ask(scored)
    (alone, _) = mutual().score_iter(images)
    if build is not mutual:
        with pytest.raises(ValueError, match="given by VisionOpenCLIPMutual"):
            detector.explain(alone)


HOLE = with_green(red_image(80, 160, seed=9), 50, 120, 20)
FLAWLESS = red_images(5, 80, 160)


def hits_the_hole(regions):
    (region,) = regions
    left, top, right, bottom = region.box
    return left <= 130 <= right and top <= 60 <= bottom


@pytest.mark.parametrize("options", [{}, {"use_as_references": True}])
def test_after_fit_the_regions_are_what_training_maps_do_not_reach(options):
    detector = fine_promptscore().fit(FLAWLESS, **options)
    assert hits_the_hole(detector.explain(HOLE))
    peaks = [found.max() for found in detector.iter_anomaly_maps(FLAWLESS)]
    assert detector.region_threshold() == pytest.approx(max(peaks))
    assert [detector.explain(image) for image in FLAWLESS] == [[]] * 5


def test_the_maps_of_as_many_normal_images_have_a_region_as_have_a_higher_score(tmp_path):
    detector = fine_patchknn(contamination=0.2).fit(red_images(14, 80, 160))
    peaks = [found.max() for found in detector.iter_anomaly_maps(red_images(14, 80, 160))]
    assert detector.region_threshold() == pytest.approx(np.sort(peaks)[11], rel=0.02)
    twin = fine_patchknn().load_checkpoint(detector.save_checkpoint(tmp_path / "saved"))
    assert twin.region_threshold() == detector.region_threshold()
    detector.threshold_ *= 2
    assert detector.region_threshold() == pytest.approx(2 * twin.region_threshold())


def test_references_set_both_thresholds_before_fit():
    detector = fine_promptscore(references=FLAWLESS)
    fitted = fine_promptscore().fit(FLAWLESS, use_as_references=True)
    assert hits_the_hole(detector.explain(HOLE))
    assert detector.predict([HOLE, *FLAWLESS]).tolist() == [1, 0, 0, 0, 0, 0]
    assert detector.label_threshold() == fitted.threshold_
    assert detector.region_threshold() == fitted.region_threshold()
    assert not hasattr(detector, "threshold_")
    calls = detector.embedder.calls
    detector.predict([HOLE])
    assert detector.embedder.calls == calls
    assert fine_promptscore(references=FLAWLESS[:1]).region_threshold() == 0.5
    assert fine_promptscore().label_threshold() == 0.5


def test_another_class_name_keeps_the_thresholds_and_other_settings_discard_them():
    detector = fine_promptscore().fit(FLAWLESS)
    thresholds = detector.label_threshold(), detector.region_threshold()
    detector.set_class_name("plate")
    assert (detector.label_threshold(), detector.region_threshold()) == thresholds
    detector.set_params(class_name="plate")
    assert (detector.label_threshold(), detector.region_threshold()) == (0.5, 0.5)


@pytest.mark.parametrize("fit", [True, False])
def test_both_thresholds_travel_with_the_checkpoint(fit, tmp_path):
    detector = fine_promptscore(references=FLAWLESS)
    if fit:
        detector.fit(FLAWLESS[::-1])
    loaded = fine_promptscore().load_checkpoint(detector.save_checkpoint(tmp_path / "d"))
    assert loaded.label_threshold() == detector.label_threshold() != 0.5
    assert loaded.explain(HOLE) == detector.explain(HOLE)
    assert loaded.fit(FLAWLESS).region_threshold() == detector.region_threshold()


@pytest.mark.parametrize("build", [fine_patchknn, fine_promptscore])
@pytest.mark.parametrize("limit", [-1, 0, "3", 2.5, None, True])
def test_a_number_of_regions_that_is_none_is_refused(build, limit):
    detector = build().fit(FLAWLESS)
    with pytest.raises(ValueError, match=r"limit=.*must be a whole number from 1"):
        detector.explain(HOLE, limit=limit)


@pytest.mark.parametrize("threshold", ["0.5", float("nan"), [0.5], True])
def test_a_threshold_that_is_no_number_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold=.*must be a number"):
        fine_promptscore().explain(HOLE, threshold=threshold)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["tile", "carpet"])
def test_a_flagged_image_has_a_region_where_differences_are_negative(family):
    pytest.importorskip("open_clip")
    detector = on_bundled("promptscore", class_name=family, mode="diff")
    size = (160, 240)
    detector.fit([make_sample(family, seed=seed, size=size).image for seed in range(8)])
    flagged = 0
    for seed in range(100, 108):
        image = make_sample(family, seed=seed, size=size, defect="scratch").image
        found = detector.get_anomaly_map(image)
        if detector.predict([image])[0] and found.max() > detector.region_threshold():
            flagged += 1
            regions = detector.explain(image)
            assert regions
            assert regions[0].peak == pytest.approx(float(found.max()))
    assert flagged


def test_the_hottest_spot_of_what_is_no_readable_result_is_refused():
    detector = patchknn(on_error="nan").fit(red_images(6))
    with pytest.raises(ValueError, match=r"hottest_spot\(\) was given .*; a result of score_iter"):
        detector.hottest_spot(red_image())
    with pytest.warns(RuntimeWarning):
        (unreadable,) = detector.score_iter(["missing.png"])
    with pytest.raises(ValueError, match=r"missing\.png.*of an image that can be read"):
        detector.hottest_spot(unreadable)
