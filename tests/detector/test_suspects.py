"""Training images that stand out are named."""

import numpy as np
import pytest

from pyimgano_openclip import load_detector
from pyimgano_openclip.detector.suspects import stand_out

from helpers.detectors import patchknn, promptscore
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
    with pytest.warns(RuntimeWarning, match="copies"):
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
