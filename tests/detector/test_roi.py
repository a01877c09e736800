"""With a region of interest, what is outside of it is neither learnt nor judged."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from pyimgano_openclip import (
    VisionOpenCLIPMutual,
    VisionOpenCLIPPatchKNN,
    VisionOpenCLIPPromptScore,
    load_detector,
)
from pyimgano_openclip.files.checkpoint import read_checkpoint, write_checkpoint
from pyimgano_openclip.images.notices import MixedSizesWarning
from pyimgano_openclip.samples import make_sample

from helpers.detectors import TEXT, on_bundled
from helpers.embedders import (
    ColourEmbedder,
    FileEmbedder,
    red_image,
    red_images,
    save_all,
    with_green,
)

LEFT = (0, 0, 20, 40)  # of 40 x 40 pixels, which have 4 x 4 patches


def build(kind, embedder=None, **settings):
    embedder = embedder or ColourEmbedder()
    if kind == "promptscore":
        return VisionOpenCLIPPromptScore(embedder=embedder, **{**TEXT, **settings})
    made = {"patchknn": VisionOpenCLIPPatchKNN, "mutual": VisionOpenCLIPMutual}[kind]
    return made(embedder=embedder, **settings)


KINDS = pytest.mark.parametrize("kind", ["patchknn", "promptscore", "mutual"])
# What may lie outside, and what must not lie inside.
CLEAN, OUTSIDE, INSIDE = (
    red_image(seed=51),
    with_green(red_image(seed=51), 10, 20),
    with_green(red_image(seed=51), 10, 10),
)


@KINDS
@pytest.mark.parametrize("roi", [LEFT, np.arange(40) < np.full((40, 1), 20)], ids=["box", "mask"])
def test_what_is_outside_changes_neither_score_nor_map_nor_regions(kind, roi):
    detector = build(kind, roi=roi).fit(red_images(6))
    clean, outside, inside = detector.decision_function([CLEAN, OUTSIDE, INSIDE])
    assert clean == outside < detector.threshold_ < inside
    maps = detector.predict_anomaly_map([CLEAN, OUTSIDE, INSIDE])
    np.testing.assert_array_equal(maps[0], maps[1])
    assert (maps[:, :, 20:] == 0).all()
    assert maps[2, 15, 15] > 2 * maps[0].max()
    assert detector.explain(OUTSIDE, threshold=float(maps[0].max())) == []
    (region,) = detector.explain(INSIDE, limit=1)
    assert region.box.right <= 20


@KINDS
def test_what_is_outside_is_not_learnt(kind):
    train = [with_green(image, 0, 20, 20) for image in red_images(6)]
    detector = build(kind, roi=LEFT).fit(train)
    clean = build(kind, roi=LEFT).fit(red_images(6))
    assert detector.threshold_ == clean.threshold_
    np.testing.assert_array_equal(detector.decision_scores_, clean.decision_scores_)
    np.testing.assert_array_equal(detector.get_anomaly_map(INSIDE), clean.get_anomaly_map(INSIDE))
    if kind == "patchknn":
        assert len(detector.memory_bank_) == 6 * 8
        assert set(detector.memory_bank_.origins[:, 2] % 4) == {0, 1}


@KINDS
def test_a_region_of_the_whole_image_changes_nothing(kind):
    images = [*red_images(3), INSIDE]
    everywhere, detector = (
        build(kind, roi=roi).fit(red_images(6)) for roi in (None, (0.0, 0.0, 1.0, 1.0))
    )
    assert detector.threshold_ == everywhere.threshold_
    np.testing.assert_array_equal(
        detector.decision_function(images), everywhere.decision_function(images)
    )
    np.testing.assert_array_equal(
        detector.predict_anomaly_map(images), everywhere.predict_anomaly_map(images)
    )


@KINDS
def test_a_saved_detector_knows_its_region(kind, tmp_path):
    mask = np.arange(40) < np.full((40, 1), 20)
    detector = build(kind, roi=mask).fit(red_images(6))
    path = detector.save_checkpoint(tmp_path / "d.safetensors")
    loaded = load_detector(path, embedder=ColourEmbedder())
    assert loaded.roi_ == detector.roi_
    for image in (OUTSIDE, INSIDE, red_images(1)[0]):
        assert loaded.decision_function([image]) == detector.decision_function([image])
        np.testing.assert_array_equal(
            loaded.get_anomaly_map(image), detector.get_anomaly_map(image)
        )
    with pytest.raises(ValueError, match="was saved with roi = "):
        build(kind).load_checkpoint(path)
    with pytest.raises(ValueError, match="was saved with roi = None, but this detector has"):
        build(kind, roi=LEFT).load_checkpoint(
            build(kind).fit(red_images(6)).save_checkpoint(tmp_path / "everywhere.safetensors")
        )


def folder_of_masks(paths, folder):
    """Each image is looked at on the left, the last one on the right."""
    folder.mkdir()
    for number, path in enumerate(paths):
        mask = np.zeros((40, 40), np.uint8)
        mask[:, slice(20) if number < len(paths) - 1 else slice(20, 40)] = 255
        Image.fromarray(mask).save(folder / path.name)
    return folder


@KINDS
def test_each_image_can_have_its_own_mask(kind, tmp_path):
    images = [*red_images(6), with_green(red_image(seed=9), 10, 20), with_green(CLEAN, 10, 10)]
    paths = save_all(images, tmp_path)
    masks = folder_of_masks(paths, tmp_path / "masks")
    detector = build(kind, FileEmbedder(), roi=masks).fit(paths[:6])
    outside, other_side = detector.decision_function(paths[6:])
    assert max(outside, other_side) <= 1.5 * detector.threshold_
    assert (detector.get_anomaly_map(paths[6])[:, 20:] == 0).all()
    assert (detector.get_anomaly_map(paths[7])[:, :20] == 0).all()
    path = detector.save_checkpoint(tmp_path / "d.safetensors")
    moved = masks.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"no folder of masks .*masks; pass the one that there is"):
        load_detector(path, embedder=FileEmbedder())
    loaded = load_detector(path, embedder=FileEmbedder(), roi=moved)
    np.testing.assert_array_equal(
        loaded.decision_function(paths), detector_scores(detector, moved, paths)
    )
    (moved / "6.png").unlink()
    with pytest.raises(ValueError, match=r"x\[1\]: .*6\.png: there is no mask of it"):
        loaded.decision_function(paths[5:])
    loaded.set_params(on_error="nan")
    with pytest.warns(RuntimeWarning, match="there is no mask of it"):
        assert np.isnan(loaded.decision_function(paths[6:])).tolist() == [True, False]


@KINDS
def test_a_folder_of_masks_is_the_same_wherever_the_process_works(kind, tmp_path, monkeypatch):
    paths = save_all(red_images(6), tmp_path)
    masks = folder_of_masks(paths, tmp_path / "masks")
    monkeypatch.chdir(tmp_path)
    detector = build(kind, FileEmbedder(), roi="masks").fit(paths)
    file = detector.save_checkpoint(tmp_path / "d.safetensors")
    (tmp_path / "elsewhere/masks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = detector.decision_function(paths)
    assert np.isfinite(expected).all()
    loaded = load_detector(file, embedder=FileEmbedder())
    np.testing.assert_array_equal(loaded.decision_function(paths), expected)
    assert str(masks) in str(loaded.roi_)
    assert clone(detector).roi_.path == masks
    assert clone(loaded).roi_.path == masks
    assert clone(Pipeline([("detector", loaded)]))["detector"].roi_.path == masks
    masks.rename(tmp_path / "gone")
    (tmp_path / "7.png").write_bytes(paths[0].read_bytes())
    with pytest.raises(ValueError, match=r"there is no folder of masks .*masks"):
        loaded.decision_function([tmp_path / "7.png"])


@KINDS
@pytest.mark.parametrize("given", [Path, str])
def test_a_mask_is_the_same_wherever_a_clone_is_made(kind, given, tmp_path, monkeypatch):
    for folder, side in ((tmp_path, slice(0, 20)), (tmp_path / "elsewhere", slice(20, 40))):
        folder.mkdir(exist_ok=True)
        mask = np.zeros((30, 40), np.uint8)
        mask[:, side] = 255
        Image.fromarray(mask).save(folder / "mask.png")
    monkeypatch.chdir(tmp_path)
    detector = build(kind, FileEmbedder(), roi=given("mask.png"))
    monkeypatch.chdir("elsewhere")
    assert clone(detector).roi_ == detector.roi_
    assert build(kind, FileEmbedder(), roi=given("mask.png")).roi_ != detector.roi_


def test_a_file_that_names_masks_by_a_relative_path_is_read(tmp_path, monkeypatch):
    paths = save_all(red_images(6), tmp_path)
    masks = folder_of_masks(paths, tmp_path / "masks")
    detector = build("patchknn", FileEmbedder(), roi=masks).fit(paths)
    file = detector.save_checkpoint(tmp_path / "d.safetensors")
    saved = read_checkpoint(file)
    settings = {**saved.header["settings"], "roi": {"folder": "masks"}}
    write_checkpoint(file, {**saved.header, "settings": settings}, saved.arrays)
    monkeypatch.chdir(tmp_path)
    loaded = load_detector(file, embedder=FileEmbedder())
    expected = detector.decision_function(paths)
    np.testing.assert_array_equal(loaded.decision_function(paths), expected)
    assert loaded.roi_.path == masks


def detector_scores(detector, masks, paths):
    """The scores of a detector whose masks have moved."""
    masks.rename(masks.parent / "masks")
    scores = detector.decision_function(paths)
    (masks.parent / "masks").rename(masks)
    return scores


def test_an_image_with_another_mask_is_another_image(tmp_path):
    image = with_green(red_image(seed=9), 10, 20)
    paths = save_all([*red_images(6), image, image], tmp_path)
    masks = folder_of_masks(paths, tmp_path / "masks")
    detector = build("patchknn", FileEmbedder(), roi=masks).fit(paths[:6])
    left, right = detector.decision_function(paths[6:])
    assert left < right
    np.testing.assert_array_equal(detector.decision_function(paths[:6]), detector.decision_scores_)
    with warnings.catch_warnings():  # they are no copies of each other
        warnings.simplefilter("error")
        build("patchknn", FileEmbedder(), roi=masks).fit(paths)


@KINDS
def test_a_region_that_does_not_fit_is_an_error_with_both_sizes(kind):
    detector = build(kind, roi=np.ones((20, 40), bool))
    message = "image has 40 x 40 pixels, the mask 20 x 40"
    with pytest.raises(ValueError, match=rf"x\[0\].*{message}"):
        detector.fit(red_images(6))
    with pytest.raises(ValueError, match="none of its 20 x 40 pixels"):
        build(kind, roi=np.zeros((20, 40), bool))


def larger(image):
    return np.kron(image, np.ones((2, 2, 1), np.uint8))


@KINDS
@pytest.mark.parametrize(
    "roi", [LEFT, [(0, 0), (20, 0), (20, 40), (0, 40)]], ids=["box", "polygon"]
)
def test_pixels_are_those_of_the_sizes_that_were_learnt(kind, roi, tmp_path):
    detector = build(kind, roi=roi).fit(red_images(6))
    loaded = load_detector(
        detector.save_checkpoint(tmp_path / "d.safetensors"), embedder=ColourEmbedder()
    )
    message = r"roi .* image has 80 x 80 pixels, .* 40 x 40 .*; give the roi in shares of the sides"
    for each in (detector, loaded):
        for look in (each.decision_function, lambda x, by=each: by.explain(x[-1])):
            with pytest.raises(ValueError, match=message):
                look([CLEAN, larger(INSIDE)])
        each.set_params(on_error="nan")
        with pytest.warns(RuntimeWarning, match=message):
            clean, unseen = each.score_iter([CLEAN, larger(INSIDE)])
        assert clean.image == detector.decision_function([CLEAN])
        assert "80 x 80" in unseen.error
        with pytest.warns(RuntimeWarning, match=message):
            assert each.predict([CLEAN, larger(INSIDE)]).tolist() == [0, 1]


@KINDS
@pytest.mark.parametrize("roi", [(0.0, 0.0, 0.5, 1.0), np.arange(40) < np.full((40, 1), 20)])
def test_shares_and_masks_are_for_images_of_any_size(kind, roi):
    detector = build(kind, roi=roi).fit(red_images(6))
    assert (detector.get_anomaly_map(larger(INSIDE))[:, 40:] == 0).all()


@KINDS
def test_pixels_may_be_those_of_several_sizes_with_a_warning(kind):
    train = [*red_images(3), *map(larger, red_images(3, first=3)), red_image(seed=8)[:30]]
    told = r"^roi \(\[0, 0, 20, 30\] in pixels\) lies elsewhere .* 30 x 40 or 40 x 40 or 80 x 80 p"
    with pytest.warns(MixedSizesWarning, match=told) as caught:
        detector = build(kind, roi=(0, 0, 20, 30)).fit(train)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert np.isfinite(detector.decision_function([CLEAN, larger(CLEAN), CLEAN[:30]])).all()
    with pytest.raises(ValueError, match=r"30 x 40 or 40 x 40 or 80 x 80 \(height x width\)"):
        detector.decision_function([CLEAN[:, :30]])


@KINDS
@pytest.mark.parametrize("roi", [None, (0.0, 0.0, 0.5, 1.0), np.ones((40, 40), bool)])
def test_what_lies_at_the_same_place_at_any_size_is_not_warned_of(kind, roi):
    images = [*red_images(5), larger(CLEAN)]
    build(kind, roi=roi).fit(images).decision_function(images)  # warnings are errors


def test_without_training_images_pixels_are_those_of_any_image_with_a_warning():
    zero_shot = build("promptscore", roi=LEFT)
    for ask in (zero_shot.decision_function, lambda x: [s.image for s in zero_shot.score_iter(x)]):
        with pytest.warns(MixedSizesWarning, match="have 40 x 40 or 80 x 80 pixels"):
            assert np.isfinite(ask([INSIDE, larger(INSIDE)])).all()
    with_references = build("promptscore", roi=LEFT, references=red_images(3))
    with pytest.raises(ValueError, match=r"x\[1\]: .*80 x 80 pixels"):
        with_references.decision_function([INSIDE, larger(INSIDE)])
    with pytest.warns(MixedSizesWarning, match="have 40 x 40 or 80 x 80 pixels"):
        with_references.fit([larger(CLEAN)])
    together = [*red_images(3), larger(CLEAN)]
    with pytest.warns(MixedSizesWarning, match="have 40 x 40 or 80 x 80 pixels"):
        assert np.isfinite(build("mutual", roi=LEFT).decision_function(together)).all()


def test_nearest_patches_are_where_they_are():
    """Only the right half is looked at; one training image has a green patch there."""
    train = red_images(4)
    train[2] = with_green(train[2], 20, 30)
    detector = build("patchknn", roi=(20, 0, 40, 40)).fit(train)
    found = detector.nearest(with_green(red_image(seed=9), 0, 20), 8)
    match = next(match for match in found if match.box.left == 20 and match.box.top == 0)
    assert tuple(match.box) == (20, 0, 30, 10)
    assert tuple(match.training_box) == (30, 20, 40, 30)
    assert match.training_image == 2
    assert len(detector.nearest(CLEAN, 100)) == 8
    pool = build("mutual", roi=(20, 0, 40, 40)).fit(train)
    found = pool.nearest(with_green(red_image(seed=9), 0, 20), 4)
    assert {tuple(m.box) for m in found} <= {(20, 0, 30, 10)}
    assert tuple(next(m for m in found if m.training_image == 2).training_box) == (30, 20, 40, 30)


def test_more_images_are_looked_at_in_the_same_region():
    at_once = build("patchknn", roi=LEFT).fit(red_images(6))
    later = build("patchknn", roi=LEFT).fit(red_images(3)).partial_fit(red_images(3, first=3))
    assert later.threshold_ == pytest.approx(at_once.threshold_)
    thinned = build("patchknn", roi=LEFT, max_patches=20).fit(red_images(3))
    thinned.partial_fit([with_green(image, 0, 20, 20) for image in red_images(3, first=3)])
    assert len(thinned.memory_bank_) == 20
    assert thinned.decision_function([OUTSIDE]) < thinned.decision_function([INSIDE])


def test_references_are_looked_at_in_the_region(tmp_path):
    green = [with_green(image, 0, 20, 20) for image in red_images(3)]
    detector = build("promptscore", roi=LEFT, references=green)
    clean = build("promptscore", roi=LEFT, references=red_images(3))
    assert detector.decision_function([OUTSIDE]) == clean.decision_function([CLEAN])
    assert detector.label_threshold() == clean.label_threshold()
    path = detector.save_checkpoint(tmp_path / "d.safetensors")
    loaded = load_detector(path, embedder=ColourEmbedder())
    assert loaded.decision_function([INSIDE]) == detector.decision_function([INSIDE])


def test_one_training_image_is_looked_at_in_the_region():
    """It is compared with itself elsewhere, within the region."""
    only = with_green(red_image(), 0, 20, 20)
    detector = build("patchknn", roi=LEFT).fit([only])
    assert detector.threshold_ == build("patchknn", roi=LEFT).fit([red_image()]).threshold_


def test_scores_that_can_be_negative_are_lowest_outside():
    detector = build("promptscore", roi=LEFT, mode="diff").fit(red_images(6))
    found = detector.get_anomaly_map(OUTSIDE)
    assert found[:, :20].max() < 0
    assert (found[:, 20:] == found[:, :20].min()).all()
    assert detector.explain(OUTSIDE, threshold=float(found.max())) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VisionOpenCLIPPromptScore(recipe="winclip", roi=LEFT), "roi contradicts recipe"),
        (
            lambda: VisionOpenCLIPPromptScore(recipe="clip-surgery", roi=LEFT),
            "roi contradicts recipe",
        ),
        (lambda: VisionOpenCLIPPromptScore(windows=(2, 3), roi=LEFT), "reach beyond roi"),
        (lambda: VisionOpenCLIPMutual(recipe="musc", roi=LEFT), "beyond roi"),
    ],
)
def test_what_looks_at_whole_images_refuses_a_region(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class UnderMasks:
    """Photographs in files, each under two masks, one a little beside the other."""

    def __init__(self, photographs, folder):
        self.first, self.second = self._saved(photographs, folder, "a", 0), []
        self.second = self._saved(photographs, folder, "b", 4)

    def _saved(self, photographs, folder, name, beside):
        (folder / "masks").mkdir(exist_ok=True)
        paths = []
        for number, image in enumerate(photographs):
            mask = np.zeros(image.shape[:2], np.uint8)
            mask[4 : image.shape[0] - 4, 4 + beside : image.shape[1] - 12 + beside] = 255
            paths.append(folder / f"{name}{number}.png")
            Image.fromarray(image).save(paths[-1])
            Image.fromarray(mask).save(folder / "masks" / paths[-1].name)
        return paths


@KINDS
def test_a_photograph_under_two_masks_is_one(kind, tmp_path):
    draw = np.random.default_rng(0)
    colours = draw.integers(0, 255, (6, 4, 4, 3), np.uint8)  # of each patch
    images = colours.repeat(10, axis=1).repeat(10, axis=2)
    files = UnderMasks(images, tmp_path)
    settings = {"embedder": FileEmbedder(), "roi": tmp_path / "masks"}
    detector = build(kind, **settings).fit([*files.first, *files.second])
    path = detector.save_checkpoint(tmp_path / "d.safetensors")
    for one in (detector, load_detector(path, embedder=FileEmbedder())):
        if kind == "mutual":
            assert [near.tolist() for near in one.pool_.near] == [
                [n % 6, n % 6 + 6] for n in range(12)
            ]
        else:
            assert one.promise().count == 6
        shown = (
            {} if kind == "promptscore" else {match.path for match in one.nearest(files.first[2])}
        )
        assert str(files.second[2]) not in shown
    assert len(detector.decision_scores_) == 12
    if kind != "mutual":
        assert detector.threshold_ == pytest.approx(detector.decision_scores_.max())


@pytest.mark.slow
def test_frames_under_masks_that_differ_a_little_count_once(tmp_path):
    pytest.importorskip("open_clip")
    images = [make_sample("circuit board", seed=s, size=(120, 160)).image for s in range(5)]
    files, draw = UnderMasks(images, tmp_path), np.random.default_rng(0)
    for path, image in zip(files.second, images, strict=True):
        noisy = image + draw.normal(0, 2, image.shape)
        Image.fromarray(np.clip(noisy, 0, 255).round().astype(np.uint8)).save(path)
    detector = on_bundled("patchknn", roi=tmp_path / "masks")
    assert detector.fit([*files.first, *files.second]).promise().count == 5
    assert detector.fit(files.first).promise().count == 5
