"""Where an image is anomalous, and what was found there."""

import pickle

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.explain import Box
from pyimgano_openclip.prompt_scoring import text_vectors
from pyimgano_openclip.regions import Region, find_regions, patches_inside

from embedders import GREEN, RED, ColourEmbedder, red_image, with_green


def promptscore(**settings):
    return VisionOpenCLIPPromptScore(
        embedder=ColourEmbedder(8, 16),
        text_features_normal=RED,
        text_features_anomaly=GREEN,
        **settings,
    )


def test_regions_are_connected_boxes_hottest_first():
    found = np.zeros((50, 90), np.float32)
    found[10:20, 30:45] = 0.6
    found[19:25, 44:50] = 0.7  # touches the first at a corner
    found[40:45, 80:90] = 0.9
    first, second = find_regions(found, 0.5, limit=10)
    assert first.box == (80, 40, 90, 45)
    assert first.area == 50
    assert second.box == (30, 10, 50, 25)
    assert second.peak == pytest.approx(0.7)
    assert 44 <= second.peak_at[0] < 50
    assert find_regions(found, 0.5, limit=1) == [first]
    assert find_regions(found, 2, limit=10) == []


def test_two_defects_give_two_boxes_around_them():
    image = with_green(with_green(red_image(80, 160), 10, 20, 20), 50, 120, 20)
    regions = promptscore().explain(image)
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
    assert promptscore().explain(red_image(80, 160)) == []


def test_patchknn_explains_above_its_threshold():
    detector = VisionOpenCLIPPatchKNN(embedder=ColourEmbedder(8, 16))
    with pytest.raises(RuntimeError):
        detector.explain(red_image(80, 160))
    detector.fit([red_image(80, 160, seed=s) for s in range(5)])
    (region,) = detector.explain(with_green(red_image(80, 160, seed=9), 50, 120, 20))
    assert region.box[0] <= 130 <= region.box[2]
    assert region.box[1] <= 60 <= region.box[3]


def test_patches_inside_a_region_are_those_its_box_touches():
    (patches,) = promptscore()._embedder.stream([red_image(80, 160)], None)
    rows, cols = patches_inside(Region(Box(15, 9, 31, 20), 1.0, (20, 10), 5), patches)
    assert (rows.start, rows.stop) == (0, 2)
    assert (cols.start, cols.stop) == (1, 4)


def test_a_region_gets_the_name_of_the_defect_that_it_resembles_most():
    detector = promptscore()
    blue = np.array([0, 0, 1.0], np.float32)
    detector._own_text = text_vectors(RED, GREEN + blue, {"moss": GREEN, "ink": blue})
    image = red_image(80, 160)
    image[20:40, 40:60] = (0, 0, 220)
    image[50:70, 120:140] = (0, 220, 0)
    named = {region.box.left: region for region in detector.explain(image)}
    ink, moss = named[min(named)], named[max(named)]
    assert (ink.defect, moss.defect) == ("ink", "moss")
    assert 0.5 < moss.probability <= 1


def test_an_image_that_was_just_scored_is_explained_without_reading_it_again():
    detector = VisionOpenCLIPPatchKNN(embedder=ColourEmbedder(8, 16))
    detector.fit([red_image(80, 160, seed=seed) for seed in range(5)])
    images = [with_green(red_image(80, 160, seed=9), 50, left, 20) for left in (20, 120)]
    expected = [(detector.explain(image), detector.nearest(image)) for image in images]
    fresh = pickle.loads(pickle.dumps(detector))
    found = []
    for image, _ in zip(images, fresh.score_iter(images), strict=True):
        before = fresh.embedder.calls
        found.append((fresh.explain(image), fresh.nearest(image)))
        assert fresh.embedder.calls == before
    assert found == expected
    fresh.channel_order = "bgr"
    assert fresh.explain(images[-1]) != expected[-1][0]


HOLE = with_green(red_image(80, 160, seed=9), 50, 120, 20)
FLAWLESS = [red_image(80, 160, seed=seed) for seed in range(5)]


def hits_the_hole(regions):
    (region,) = regions
    left, top, right, bottom = region.box
    return left <= 130 <= right and top <= 60 <= bottom


@pytest.mark.parametrize("options", [{}, {"use_as_references": True}])
def test_after_fit_the_regions_are_what_training_maps_do_not_reach(options):
    detector = promptscore().fit(FLAWLESS, **options)
    assert hits_the_hole(detector.explain(HOLE))
    peaks = [found.max() for found in detector.iter_anomaly_maps(FLAWLESS)]
    assert detector.region_threshold() == pytest.approx(max(peaks))
    assert [detector.explain(image) for image in FLAWLESS] == [[]] * 5


def test_references_set_both_thresholds_before_fit():
    detector = promptscore(references=FLAWLESS)
    fitted = promptscore().fit(FLAWLESS, use_as_references=True)
    assert hits_the_hole(detector.explain(HOLE))
    assert detector.predict([HOLE, *FLAWLESS]).tolist() == [1, 0, 0, 0, 0, 0]
    assert detector.label_threshold() == fitted.threshold_
    assert detector.region_threshold() == fitted.region_threshold()
    assert not hasattr(detector, "threshold_")
    calls = detector.embedder.calls
    detector.predict([HOLE])
    assert detector.embedder.calls == calls
    assert promptscore(references=FLAWLESS[:1]).region_threshold() == 0.5
    assert promptscore().label_threshold() == 0.5


def test_another_class_name_keeps_the_thresholds_and_other_settings_discard_them():
    detector = promptscore().fit(FLAWLESS)
    thresholds = detector.label_threshold(), detector.region_threshold()
    detector.set_class_name("plate")
    assert (detector.label_threshold(), detector.region_threshold()) == thresholds
    detector.set_params(class_name="plate")
    assert (detector.label_threshold(), detector.region_threshold()) == (0.5, 0.5)


@pytest.mark.parametrize("fit", [True, False])
def test_both_thresholds_travel_with_the_checkpoint(fit, tmp_path):
    detector = promptscore(references=FLAWLESS)
    if fit:
        detector.fit(FLAWLESS[::-1])
    loaded = promptscore().load_checkpoint(detector.save_checkpoint(tmp_path / "d"))
    assert loaded.label_threshold() == detector.label_threshold() != 0.5
    assert loaded.explain(HOLE) == detector.explain(HOLE)
    assert loaded.fit(FLAWLESS).region_threshold() != detector.region_threshold()
