"""One warning about files with several pages, and about deep images that hardly use their range."""

import warnings

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip.images.notices import (
    MixedProportionsWarning,
    Pages,
    Ranges,
    SeveralPagesWarning,
    UnusedRangeWarning,
    stretching,
)
from pyimgano_openclip.samples import make_sample

from helpers.detectors import KINDS, on_bundled
from helpers.embedders import red_images


def told(ranges):
    watch = Ranges()
    for used in ranges:
        watch.add(used)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        watch.warn()
    return [str(warning.message) for warning in found]


@pytest.mark.parametrize(
    ("ranges", "factor"),
    [
        ([4095 / 65535, 3000 / 65535], 16),
        ([1023 / 65535], 64),
        ([16383 / 65535], 4),
        ([0.25, 0.3], None),
        ([0.9], None),
        ([0.01, None], None),  # not all images are deep
        ([None], None),
        ([0.0], None),
        ([], None),
    ],
)
def test_a_range_that_no_image_uses_is_told_with_the_factor(ranges, factor):
    found = told(ranges)
    assert len(found) == (factor is not None)
    if factor is not None:
        assert f"multiply the values of all images by {factor}." in found[0]


def test_three_images_with_several_pages_are_named_and_the_others_counted():
    pages = Pages()
    for number in range(6):
        pages.add(f"{number}.tif", number)
    with pytest.warns(SeveralPagesWarning, match=r"^4 images .*2\.tif \(2 p.*4\.tif .* and 1 more"):
        pages.warn()


@pytest.fixture
def files(tmp_path):
    """Six images, two of which have a second page."""
    paths = []
    for number, pixels in enumerate(red_images(6, 60, 90)):
        paths.append(tmp_path / f"{number}.tif")
        more = [Image.fromarray(255 - pixels)] if number in (1, 4) else []
        Image.fromarray(pixels).save(paths[-1], save_all=True, append_images=more)
    return paths


@pytest.mark.slow
@KINDS
def test_each_call_warns_once_of_pages_that_are_not_scored(kind, files):
    detector = on_bundled(kind)
    with pytest.warns(SeveralPagesWarning, match=r"^2 images .*1\.tif \(2 pages\)") as found:
        detector.fit(files)
    assert [warning.filename for warning in found] == [__file__]
    news = [path.rename(path.with_name(f"new {path.name}")) for path in files]
    for path in news:  # other images than those that were learnt from
        with Image.open(path) as image:
            first, more = image.copy(), image.n_frames > 1
        first.putpixel((0, 0), (0, 0, 0))
        first.save(path, save_all=True, append_images=[first] if more else [])
    for score in (detector.decision_function, detector.predict_anomaly_map, detector.predict):
        for _ in range(2):  # the second time from the cache
            with pytest.warns(SeveralPagesWarning, match=r"^2 images ") as found:
                score(news)
            assert len(found) == 1
    with pytest.warns(SeveralPagesWarning, match=r"^1 image "):
        detector.get_anomaly_map(news[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.decision_function(news[2:4])


@pytest.mark.slow
@KINDS
def test_fitting_warns_of_twelve_bits_in_sixteen_and_scoring_the_like_does_not(kind, tmp_path):
    # Half of each image is bright enough for something to be seen on it.
    deep = [image[..., 0].astype(np.uint16) * 16 for image in red_images(4, 60, 90)]
    for pixels in deep:
        pixels[:, :45] = 0
    for number, pixels in enumerate(deep):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    for images in (deep, sorted(tmp_path.iterdir())):
        with pytest.warns(UnusedRangeWarning, match="as if 12 bits .* by 16") as found:
            detector = on_bundled(kind).fit(images[:3])
        assert [warning.filename for warning in found] == [__file__]
        detector.decision_function(images)
    on_bundled(kind).fit([pixels * 16 for pixels in deep])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["patchknn", "promptscore"])
def test_scoring_warns_once_of_twelve_bits_in_sixteen_that_look_black(kind, tmp_path):
    paths = []
    for number in range(4):
        grey = make_sample("gear", seed=number, size=(48, 64)).image[..., 0].astype(np.uint16)
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(grey * 16).save(paths[-1])
    known = [make_sample("gear", seed=seed, size=(48, 64)).image for seed in range(10, 16)]
    detector = on_bundled(kind).fit(known)
    for _ in range(2):  # the second time from the cache
        with pytest.warns(UnusedRangeWarning, match=r"all scored images .* 12 bits .* 16") as found:
            detector.decision_function(paths)
        assert [warning.filename for warning in found] == [__file__] * len(found)
        assert sum(warning.category is UnusedRangeWarning for warning in found) == 1
    scored = [*paths, known[0]]
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        detector.decision_function(scored)  # not all are deep
    assert UnusedRangeWarning not in {warning.category for warning in found}


@pytest.mark.slow
@KINDS
def test_the_range_used_is_a_fact_of_the_image_given_and_not_of_its_8_bits(kind, tmp_path):
    pytest.importorskip("open_clip")
    good = [make_sample("gear", seed=seed, size=(48, 64)).image[..., 0] for seed in range(4)]
    deep = [grey.astype(np.uint16) * 257 for grey in good]
    for number, grey in enumerate([*good, *deep]):
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
    files = sorted(tmp_path.iterdir())
    shares = [int(grey.max()) / 255 for grey in good]
    for shallow, deeper in ((good, deep), (files[:4], files[4:])):
        detector = on_bundled(kind).fit(deeper[:3])
        assert [scored.range_used for scored in detector.score_iter(deeper)] == shares
        assert {scored.range_used for scored in detector.score_iter(shallow)} == {None}
        assert [scored.range_used for scored in detector.score_iter(deeper)] == shares


@pytest.mark.slow
@KINDS
def test_pages_are_a_fact_of_the_file_and_not_of_what_its_first_page_shows(kind, tmp_path):
    pytest.importorskip("open_clip")
    first, second = map(Image.fromarray, red_images(2, 40, 60, first=50))
    alone, several = tmp_path / "alone.png", tmp_path / "several.tif"
    first.save(alone)
    first.save(several, save_all=True, append_images=[second])
    detector = on_bundled(kind).fit(red_images(3, 40, 60))
    for paths in ([alone, several], [several, alone]):
        for _ in range(2):
            with pytest.warns(
                SeveralPagesWarning, match=r"^1 image has several pages.*several\.tif"
            ):
                scores = detector.decision_function(paths)
            assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.decision_function([alone])


def test_proportions_are_told_with_those_of_the_canvas_where_they_differ_much():
    told = stretching([(100, 36), (50, 50), (20, 52)], (200, 172))
    assert told is not None
    assert "width is 0.36 to 2.6 times their height are stretched to 0.86 times;" in told
    assert stretching([(100, 100), (30, 45)], (200, 240)) is None  # half as wide again
    assert stretching([(100, 100), (30, 46)], (200, 240)) is not None
    assert stretching([(40, 90), (400, 900)], (96, 216)) is None


@KINDS
@pytest.mark.slow
def test_fitting_warns_once_of_images_that_are_stretched_to_one_canvas(kind):
    mixed = [*red_images(3, 40, 90), *red_images(3, 90, 60, first=3)]
    with pytest.warns(MixedProportionsWarning, match=r"^Images .* 0\.67 to 2\.2 times") as found:
        detector = on_bundled(kind).fit(mixed)
    assert [warning.filename for warning in found] == [__file__]
    height, width = detector.canvas_
    assert f"stretched to {width / height:.2g} times" in str(found[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.decision_function(mixed)
        on_bundled(kind).fit(mixed[:3])
        on_bundled(kind, resize="squash").fit(mixed)


@pytest.mark.slow
def test_added_images_are_warned_of_if_they_are_the_first_to_be_stretched():
    detector = on_bundled("patchknn").fit(red_images(3, 40, 90))
    with pytest.warns(MixedProportionsWarning, match="to 2.2 times") as found:
        detector.partial_fit(red_images(2, 90, 60, first=3))
    assert [warning.filename for warning in found] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.partial_fit(red_images(1, 90, 60, first=5))


@pytest.mark.slow
def test_references_are_warned_of_as_images_to_fit():
    detector = on_bundled("promptscore")
    mixed = [*red_images(3, 40, 90), *red_images(3, 90, 60, first=3)]
    with pytest.warns(MixedProportionsWarning) as found:
        detector.fit(mixed, use_as_references=True)
    assert [warning.filename for warning in found] == [__file__]
