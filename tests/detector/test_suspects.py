"""Training images that stand out are named."""

import numpy as np
import pytest

from pyimgano_openclip import load_detector
from pyimgano_openclip.detector.suspects import stand_out
from pyimgano_openclip.samples import make_sample

from helpers.detectors import on_bundled, patchknn, promptscore
from helpers.embedders import ColourEmbedder, red_images, with_green


@pytest.mark.parametrize("build", [patchknn, promptscore])
def test_two_like_defects_in_a_training_folder_do_not_hide_each_other(build):
    images = red_images(20)
    for odd in (4, 11):
        images[odd] = with_green(images[odd], 10, 20)
    suspects = build().fit(images).suspects()
    assert {found.image for found in suspects[:2]} == {4, 11}
    assert suspects[0].score >= suspects[1].score
    assert suspects[0].times > 1.5
    assert len(suspects) <= 4


def test_suspects_are_saved_and_count_copies(tmp_path):
    images = [*red_images(8), with_green(red_images(1, first=9)[0], 10, 20)]
    with pytest.warns(RuntimeWarning, match="is a copy of another"):
        detector = patchknn().fit([images[0], *images])
    expected = detector.suspects()
    assert expected[0].image == 9
    file = detector.save_checkpoint(tmp_path / "detector.safetensors")
    assert load_detector(file, embedder=ColourEmbedder()).suspects() == expected


def test_few_images_have_no_suspects():
    assert patchknn().fit(red_images(3)).suspects() == []
    assert stand_out(np.ones(20)) == []
    with pytest.raises(RuntimeError, match=r"call fit\(\) first"):
        patchknn().suspects()


@pytest.mark.slow
def test_what_only_lies_otherwise_on_the_grid_does_not_hide_defects():
    def capsules(count, first=0, **more):
        size = {"product": 1000, "size": (192, 192)}
        return [make_sample("capsule", seed=first + n, **size, **more).image for n in range(count)]

    images = [*capsules(10), *capsules(2, 2000, defect="cut")]
    named = on_bundled("patchknn").fit(images).suspects()
    assert {found.image for found in named} == {10, 11}
    assert on_bundled("patchknn", jitter=0).fit(images).suspects() == []


@pytest.mark.parametrize("settings", [{}, {"rotations": 2}])
def test_images_that_are_added_stand_out_as_if_they_had_been_there_from_the_start(settings):
    images = [*red_images(9), with_green(red_images(1, first=9)[0], 10, 20)]
    settings = {"jitter": 0.1, "max_patches": None, **settings}
    at_once = patchknn(**settings).fit(images).suspects()
    later = patchknn(**settings).fit(images[:4]).partial_fit(images[4:]).suspects()
    assert [found.image for found in later] == [found.image for found in at_once]
    assert at_once[0].image == 9
    assert later[0].score == pytest.approx(at_once[0].score)
