"""Images that are not independent: shots of one part, told by the caller or by their order."""

import warnings

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore
from pyimgano_openclip.bank.copies import CopiesWarning
from pyimgano_openclip.bank.relatives import BESIDE, DependentImagesWarning, GroupsOfOneWarning
from pyimgano_openclip.samples import make_sample

from helpers.detectors import BOTH, patchknn
from helpers.embedders import red_images

SHOTS = 5  # of each part


class Shots:
    """Image number i is a shot of part i // 5: patches of that part, with some noise."""

    def __init__(self, noise=0.6):
        self.noise = noise

    def embed(self, number):
        part = np.random.default_rng(number // SHOTS).normal(size=(6, 20))
        noise = self.noise * np.random.default_rng(number).normal(size=(6, 20))
        return part + noise, (2, 3), (20, 30)


def fitted(images, noise=0.6, **more):
    return VisionOpenCLIPPatchKNN(embedder=Shots(noise), contamination=0.1).fit(images, **more)


def false_alarms(detector):
    """Share of new parts that are flagged, one shot of each."""
    others = range(100_000, 101_500, SHOTS)
    return (detector.decision_function(others) > detector.threshold_).mean()


IN_ORDER = list(range(100))
SHUFFLED = np.random.default_rng(0).permutation(100).tolist()
APART = list(range(0, 500, SHOTS))


def test_shots_in_random_order_are_noticed_if_they_are_much_alike(tmp_path):
    with pytest.warns(DependentImagesWarning, match="100 shots of 20 parts"):
        detector = fitted(SHUFFLED, noise=0.4)
    told = fitted(SHUFFLED, noise=0.4, groups=[number // SHOTS for number in SHUFFLED])
    assert detector.threshold_ == pytest.approx(told.threshold_, rel=0.05)
    assert detector.promise().count == told.promise().count
    path = detector.save_checkpoint(tmp_path / "saved.safetensors")
    twin = VisionOpenCLIPPatchKNN(embedder=Shots(0.4)).load_checkpoint(path)
    assert twin.promise() == detector.promise()
    with pytest.warns(DependentImagesWarning, match="105 shots of 21 parts"):
        twin.partial_fit(range(1000, 1005))


def test_shots_in_random_order_that_differ_are_noticed_and_taken_into_account():
    with pytest.warns(DependentImagesWarning, match="alike in groups"):
        assert false_alarms(fitted(SHUFFLED)) <= 0.2


def test_without_a_word_about_parts_shots_that_differ_more_flag_too_much():
    told = fitted(SHUFFLED, noise=0.8, groups=[number // SHOTS for number in SHUFFLED])
    assert false_alarms(fitted(SHUFFLED, noise=0.8)) > 1.3 * false_alarms(told)


def test_shots_of_ten_pictured_parts_are_noticed_in_random_order():
    draw, shots = np.random.default_rng(0), []
    for part in range(10):
        image = make_sample("carpet", seed=part, product=1000, size=(128, 128)).image
        for _ in range(SHOTS):
            lit = np.roll(image, draw.integers(-2, 3, 2), (0, 1)) * draw.uniform(0.9, 1.1)
            shot = np.clip(lit + draw.normal(0, 2, image.shape), 0, 255)
            shots.append(shot.astype(np.uint8))
    bundled = VisionOpenCLIPPatchKNN(openclip_model_name="bundled", jitter=0)
    with pytest.warns(DependentImagesWarning, match="alike in groups, like 50 shots"):
        bundled.fit([shots[index] for index in draw.permutation(50)])


def test_told_the_parts_a_detector_flags_what_is_asked_for():
    detector = fitted(SHUFFLED, groups=[number // SHOTS for number in SHUFFLED])
    assert false_alarms(detector) <= 0.2
    assert detector.promise().count == 20
    assert "(20 parts; 29 would bound 10 %)" in str(detector.promise())


def test_shots_in_order_are_noticed_and_taken_into_account():
    with pytest.warns(DependentImagesWarning, match="one part"):
        detector = fitted(IN_ORDER)
    assert false_alarms(detector) <= 0.2
    assert detector.promise().count <= -(-100 // (BESIDE + 1))


def test_independent_images_lose_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector = fitted(APART)
    assert detector.promise().count == 100
    assert false_alarms(detector) >= 0.05


def test_an_image_is_never_compared_with_its_part_also_after_loading(tmp_path):
    groups = [number // SHOTS for number in SHUFFLED]
    detector = fitted(SHUFFLED, groups=groups)
    path = detector.save_checkpoint(tmp_path / "saved.safetensors")
    twin = VisionOpenCLIPPatchKNN(embedder=Shots()).load_checkpoint(path)
    assert twin.promise() == detector.promise()
    more, new = [200, 201, 202], [40, 40, 40]
    for one in (detector, twin):
        one.partial_fit(more, groups=new)
    assert twin.threshold_ == detector.threshold_
    whole = fitted([*SHUFFLED, *more], groups=[*groups, *new])
    assert whole.threshold_ == pytest.approx(detector.threshold_, abs=1e-6)
    assert twin.promise().count == 21


def test_groups_have_to_be_told_of_all_images_or_of_none():
    detector = patchknn().fit(red_images(6), groups=list("aabbcc"))
    with pytest.raises(ValueError, match="before were told"):
        detector.partial_fit(red_images(1, first=50))
    with pytest.raises(ValueError, match="before were not told"):
        patchknn().fit(red_images(6)).partial_fit(red_images(1, first=50), groups=["a"])


@BOTH
def test_groups_that_do_not_fit_are_refused(build):
    with pytest.raises(ValueError, match="groups has 2 entries for 3 images"):
        build().fit(red_images(3), groups=[1, 2])
    with pytest.raises(ValueError, match="of the group '1'"):
        build().fit(red_images(3), groups=[1, 1, 1])


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.float32("nan"), np.datetime64("NaT"), "", " \t"]
)
@BOTH
def test_a_missing_group_is_no_part(build, missing):
    expected = r"groups\[1\]=.*; a word or a number that tells the part"
    with pytest.raises(ValueError, match=expected):
        build().fit(red_images(4), groups=["a", missing, "b", missing])
    if build is patchknn:
        grown = build().fit(red_images(4), groups=[1, 1, 2, 2])
        with pytest.raises(ValueError, match=expected):
            grown.partial_fit(red_images(2, first=50), groups=[3, missing])


def test_a_part_may_be_called_none():
    detector = patchknn().fit(red_images(4), groups=["none", "none", "nan", "nan"])
    assert detector.promise().count == 2


@BOTH
def test_every_part_counts_as_much_as_any_other(build):
    images, groups = red_images(12), [0] * 9 + [1, 2, 3]
    assert build().fit(images, groups=groups).promise().count == 4


@BOTH
def test_groups_of_one_image_each_tell_nothing(build):
    images = red_images(12)
    with pytest.warns(GroupsOfOneWarning, match="Each image has a group of its own"):
        told = build().fit(images, groups=range(12))
    assert told.promise() == build().fit(images).promise()


def test_groups_of_one_image_each_do_not_hide_that_images_are_alike(tmp_path):
    with pytest.warns(DependentImagesWarning):
        without = fitted(IN_ORDER)
    with (
        pytest.warns(GroupsOfOneWarning),
        pytest.warns(DependentImagesWarning, match="follow each other are alike"),
    ):
        detector = fitted(IN_ORDER, groups=IN_ORDER)
    assert detector.threshold_ == without.threshold_
    assert detector.promise() == without.promise()
    path = detector.save_checkpoint(tmp_path / "saved.safetensors")
    twin = VisionOpenCLIPPatchKNN(embedder=Shots()).load_checkpoint(path)
    assert twin.promise() == without.promise()
    twin.partial_fit([200], groups=[3])  # the groups tell something from now on
    assert twin.promise().count == 100


def prompted(images, noise=0.6, as_references=False, **more):
    texts = np.eye(20, dtype=np.float32)
    detector = VisionOpenCLIPPromptScore(
        embedder=Shots(noise), text_features_normal=texts[0], text_features_anomaly=texts[1]
    )
    return detector.fit(images, use_as_references=as_references, **more)


@pytest.mark.parametrize("as_references", [False, True])
def test_prompt_scoring_counts_shots_of_one_part_as_one(as_references):
    with pytest.warns(DependentImagesWarning, match="follow each other are alike.*count as one"):
        detector = prompted(IN_ORDER, as_references=as_references)
    assert detector.promise().count == -(-100 // (BESIDE + 1))
    with pytest.warns(DependentImagesWarning, match="100 shots of 20 parts"):
        detector = prompted(SHUFFLED, noise=0.4, as_references=as_references)
    groups = [number // SHOTS for number in SHUFFLED]
    told = prompted(SHUFFLED, noise=0.4, as_references=as_references, groups=groups)
    assert detector.promise() == told.promise()
    assert detector.threshold_ == told.threshold_
    assert prompted(APART, as_references=as_references).promise().count == 100


@pytest.mark.filterwarnings("ignore:1 of 5 images")
@BOTH
def test_groups_that_share_an_image_are_one(build, tmp_path):
    images = red_images(4)
    given, groups = [images[0], *images], ["a", "b", "b", "c", "d"]
    with pytest.warns(CopiesWarning, match="'b' with 'a'. They count as one group"):
        detector = build().fit(given, groups=groups)
    told = build().fit(images, groups=["a", "a", "c", "d"])
    assert detector.threshold_ == told.threshold_
    assert detector.promise() == told.promise()
    assert detector.promise().count == 3
    detector.save_checkpoint(tmp_path / "d.safetensors")
    assert build().load_checkpoint(tmp_path / "d.safetensors").promise() == told.promise()


@pytest.mark.filterwarnings("ignore::pyimgano_openclip.bank.copies.CopiesWarning")
@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("settings", [{}, {"max_patches": 30}])
def test_a_copy_that_is_added_joins_its_groups(more, settings, tmp_path):
    images = red_images(6)
    detector = patchknn(**settings).fit(images[:5], groups=["a", "b", "c", "d", "d"])
    assert detector.promise().count == 4
    detector.partial_fit([images[0], *images[5 : 5 + more]], groups=["b", *"e"[:more]])
    assert detector.groups_ == ("a", "a", "c", "d", "d", *"e"[:more])
    assert detector.promise().count == 3 + more
    if not settings:
        told = patchknn().fit(images[: 5 + more], groups=detector.groups_)
        scores = detector.decision_scores_
        assert scores[:5].tolist() == told.decision_scores_[:5].tolist()
        assert scores[5] == told.decision_scores_[0]
        assert detector.threshold_ == told.threshold_
    detector.save_checkpoint(tmp_path / "d.safetensors")
    assert (
        patchknn(**settings).load_checkpoint(tmp_path / "d.safetensors").promise().count == 3 + more
    )


@BOTH
def test_groups_that_a_copy_joins_to_one_are_refused(build):
    one, other = red_images(2)
    with (
        pytest.warns(CopiesWarning),
        pytest.raises(ValueError, match=r"both \(groups=, --group-by\): 'b' with 'a'\. As one"),
    ):
        build().fit([one, one, other], groups=["a", "b", "a"])
