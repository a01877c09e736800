"""Patch-kNN through windows: the details and the whole image are learnt and compared apart."""

import numpy as np
import pytest

pytest.importorskip("open_clip")

from pyimgano_openclip import load_detector
from pyimgano_openclip.files.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from pyimgano_openclip.maps.overview import soft_maximum
from pyimgano_openclip.maps.scores import image_score
from pyimgano_openclip.samples import make_sample

from helpers.detectors import on_bundled

pytestmark = pytest.mark.slow

SIZE = (144, 216)  # pixels
SMALL = {"smallest_defect": 13.5, "max_tokens": 144, "jitter": 0}


@pytest.fixture(scope="module")
def cork():
    return [make_sample("cork", seed=seed, size=SIZE).image for seed in range(5)]


@pytest.fixture(scope="module")
def fitted(cork):
    return on_bundled("patchknn", **SMALL).fit(cork[:4])


def scored(detector, images):
    return list(detector.score_iter(images))


def test_the_whole_image_is_seen_as_without_windows(cork, fitted):
    """With a bank of its own, and the depths that are asked for."""
    at_once = on_bundled("patchknn", max_tokens=144, jitter=0).fit(cork[:4])
    (apart,), (alone,) = scored(fitted, cork[4:]), scored(at_once, cork[4:])
    details, overview = apart.by_scale
    np.testing.assert_allclose(overview, alone.patches, atol=2e-6)
    assert details.shape == (16, 24)
    assert at_once.canvas_ == fitted._embedder.canvases.whole(fitted.canvas_)


def test_the_image_score_is_the_soft_maximum_of_both(cork, fitted):
    high = [
        np.quantile(
            [image_score(one.by_scale[scale], "topk_mean", None) for one in learnt],
            0.9,
            method="weibull",
        )
        for learnt in [scored(fitted, cork[:4])]
        for scale in (0, 1)
    ]
    (found,) = scored(fitted, cork[4:])
    each = [image_score(patches, "topk_mean", None) for patches in found.by_scale]
    assert found.image == pytest.approx(soft_maximum(*each, high[0] / high[1]))
    assert found.image > each[0]
    assert fitted._freeze([]).scorer.span > 2


def test_training_images_are_compared_with_the_others_at_both_scales(cork, fitted):
    others = on_bundled("patchknn", **SMALL).fit(cork[:3])
    (new,), (known,) = scored(others, cork[3:4]), scored(fitted, cork[3:4])
    for one, other in zip(new.by_scale, known.by_scale, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert known.image == fitted.decision_scores_[3]


@pytest.mark.parametrize("settings", [{}, {"jitter": 0.02}], ids=["plain", "jitter"])
def test_learning_in_two_steps_is_learning_at_once(cork, settings):
    once, twice = (on_bundled("patchknn", **{**SMALL, **settings}) for _ in range(2))
    once.fit(cork[:4])
    twice.fit(cork[:2]).partial_fit(cork[2:4])
    np.testing.assert_allclose(twice.decision_scores_, once.decision_scores_, atol=2e-6)
    assert twice.threshold_ == pytest.approx(once.threshold_, abs=2e-6)
    assert len(twice._learnt.overview) == len(once._learnt.overview)


def test_a_thinned_bank_grows_at_both_scales(cork):
    detector = on_bundled("patchknn", **SMALL, max_patches=200).fit(cork[:3])
    unit = detector._learnt.unit
    detector.partial_fit(cork[3:])
    assert [len(bank) for bank in detector._learnt.banks] == [200, 200]
    assert [len(bank.images) for bank in detector._learnt.banks] == [5, 5]
    assert detector._learnt.unit != unit
    again = scored(detector, cork)
    assert [found.image for found in again] == detector.decision_scores_.tolist()


def test_one_image_is_enough(cork):
    detector = on_bundled("patchknn", **SMALL).fit(cork[:1])
    (known,) = scored(detector, cork[:1])
    assert all((patches > 0).all() for patches in known.by_scale)
    assert known.image == pytest.approx(2**0.25 * image_score(known.by_scale[0], "topk_mean", None))


def test_a_checkpoint_keeps_both_scales(cork, fitted, tmp_path):
    path = fitted.save_checkpoint(tmp_path / "d.safetensors")
    loaded = load_detector(path, device="cpu", precision="float32")
    assert loaded._learnt.unit == pytest.approx(fitted._learnt.unit, rel=1e-6)
    for own, other in zip(scored(fitted, cork), scored(loaded, cork), strict=True):
        assert own.image == pytest.approx(other.image, rel=1e-6)
        np.testing.assert_array_equal(own.patches, other.patches)
    loaded.partial_fit(cork[4:])
    assert len(loaded._learnt.overview.images) == 5


@pytest.mark.parametrize("missing", ["overview_rows", "overview_training_patches", "overview_"])
def test_a_file_without_one_of_the_scales_is_refused(fitted, tmp_path, missing):
    whole = read_checkpoint(fitted.save_checkpoint(tmp_path / "d.safetensors"))
    arrays = {name: array for name, array in whole.arrays.items() if name != missing}
    state = {name: fact for name, fact in whole.header["state"].items() if name != missing}
    path = tmp_path / "part.safetensors"
    header = {
        name: fact for name, fact in whole.header.items() if name not in ("format", "version")
    }
    write_checkpoint(path, {**header, "state": state}, arrays)
    with pytest.raises(CheckpointError, match="damaged"):
        load_detector(path, device="cpu")


def test_a_file_with_tokens_of_another_length_at_one_scale_is_refused(fitted, tmp_path):
    whole = read_checkpoint(fitted.save_checkpoint(tmp_path / "d.safetensors"))
    rows = whole.arrays["overview_rows"][:, :100]
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    header = {
        name: fact for name, fact in whole.header.items() if name not in ("format", "version")
    }
    path = tmp_path / "short.safetensors"
    write_checkpoint(path, header, {**whole.arrays, "overview_rows": rows})
    with pytest.raises(CheckpointError, match="its scales do not match"):
        load_detector(path, device="cpu")


def test_where_is_looked_holds_at_both_scales(cork):
    detector = on_bundled("patchknn", **SMALL, roi=(0.0, 0.0, 0.5, 1.0)).fit(cork[:4])
    (found,) = scored(detector, cork[4:])
    for patches in (*found.by_scale, found.patches):
        half = patches.shape[1] // 2
        assert np.isfinite(patches[:, :half]).all()
        assert np.isnan(patches[:, half + 1 :]).all()
    changed = cork[4].copy()
    changed[:, 150:] = 0  # far outside
    (other,) = scored(detector, [changed])
    assert abs(other.image - found.image) < 0.5 * found.image
