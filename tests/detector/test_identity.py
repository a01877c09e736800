"""An image is what it shows: not its path, its size in bytes, its date, or the form it comes in."""

import io
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from pyimgano_openclip import load_detector
from pyimgano_openclip.bank.copies import CopiesWarning, all_copies
from pyimgano_openclip.samples import make_sample

from helpers.detectors import EACH, KINDS, mutual, on_bundled, patchknn
from helpers.embedders import FileEmbedder, red_images, with_green

NORMAL = red_images(6)


def shots(seeds, defect=None):
    return [make_sample("leather", seed=s, size=(96, 144), defect=defect).image for s in seeds]


@pytest.fixture(scope="module")
def images():
    pytest.importorskip("open_clip")
    return shots(range(8))


@pytest.fixture
def files(images, tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def through_a_link(paths):
    folder = paths[0].parent / "linked"
    folder.symlink_to(paths[0].parent, target_is_directory=True)
    return [folder / path.name for path in paths]


FORMS = {
    "paths": lambda paths: [str(path) for path in paths],
    "up and down": lambda paths: [
        path.parent / ".." / path.parent.name / path.name for path in paths
    ],
    "links": through_a_link,
    "copies": lambda paths: [shutil.copy(path, path.with_suffix(".copy")) for path in paths],
    "arrays": lambda paths: [np.asarray(Image.open(path)) for path in paths],
    "views": lambda paths: [np.asarray(Image.open(path))[::-1][::-1] for path in paths],
    "RGBA": lambda paths: [np.asarray(Image.open(path).convert("RGBA")) for path in paths],
    "pictures": lambda paths: [Image.open(path) for path in paths],
    "stacked": lambda paths: np.stack([np.asarray(Image.open(path)) for path in paths]),
}


@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("form", FORMS)
def test_an_image_that_was_learnt_is_recognised_in_every_form(kind, form, files, tmp_path):
    detector = on_bundled(kind)
    detector.fit(files, **({"use_as_references": True} if kind == "promptscore" else {}))
    path = detector.save_checkpoint(tmp_path / "detector.safetensors")
    loaded = load_detector(path, device="cpu", precision="float32")
    given = FORMS[form](files)
    for found in (detector, loaded):
        np.testing.assert_allclose(
            found.decision_function(given), detector.decision_scores_, atol=1e-6
        )


@pytest.mark.slow
@KINDS
def test_a_file_that_was_written_again_with_its_size_and_date_is_another_image(kind, tmp_path):
    pytest.importorskip("open_clip")
    good, bad = shots([50]) + shots([50], "hole")
    path = tmp_path / "part.bmp"
    detector = on_bundled(kind).fit(shots(range(4)))
    expected = detector.decision_function([good, bad])
    Image.fromarray(good).save(path)
    status = path.stat()
    assert detector.decision_function([path]) == pytest.approx(expected[0], abs=1e-6)
    Image.fromarray(bad).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert detector.decision_function([path]) == pytest.approx(expected[1], abs=1e-6)
    for result, wanted in zip(detector.score_iter([path, good]), expected[::-1], strict=True):
        assert result.image == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
@KINDS
def test_scores_then_maps_cost_one_pass(kind, files, monkeypatch):
    detector = on_bundled(kind).fit(files[:4])
    encoded, run = [], type(detector._embedder)._run
    monkeypatch.setattr(
        type(detector._embedder),
        "_run",
        lambda own, frames, request: encoded.extend(frames) or run(own, frames, request),
    )
    detector.decision_function(files[4:])
    detector.predict_anomaly_map(files[4:])
    detector.predict([np.asarray(Image.open(path)) for path in files[4:]])
    assert len(encoded) == len(files[4:])


@EACH
def test_a_buffer_that_is_filled_again_is_another_image(build):
    detector = build().fit(NORMAL)
    buffer = NORMAL[0].copy()
    before = detector.decision_function([buffer])
    buffer[...] = with_green(NORMAL[0], 10, 20)
    assert detector.decision_function([buffer]) > before + 0.01


class Camera:
    """Hands out one object, filled again each time; the embedder alone can look into it."""

    def __init__(self):
        self.pixels = None

    def embed(self, frame):
        rows = [row.mean(axis=(0, 1)) + 1 for row in np.array_split(frame.pixels * 1.0, 16)]
        return np.array(rows), (4, 4), frame.pixels.shape[:2]


def test_an_object_without_content_is_never_taken_for_one_that_was_learnt():
    frame = Camera()
    detector = patchknn(embedder=Camera())
    frames = [Camera() for _ in NORMAL]
    for one, image in zip(frames, NORMAL, strict=True):
        one.pixels = image
    detector.fit(frames)
    frame.pixels = NORMAL[0]
    before = detector.decision_function([frame])
    frame.pixels = with_green(NORMAL[0], 10, 0, 40)[:40]
    assert detector.decision_function([frame]) > before


@EACH
def test_exact_copies_are_learnt_once_and_said(build):
    once = build().fit(NORMAL)
    with pytest.warns(
        CopiesWarning, match=r"6 of 12 images .* x\[6\] .* is a copy of x\[0\].*and 3"
    ):
        twice = build().fit([*NORMAL, *(image.copy() for image in NORMAL)])
    assert twice.threshold_ == once.threshold_
    assert twice.decision_scores_.tolist() == once.decision_scores_.tolist() * 2
    assert twice.labels_.tolist() == once.labels_.tolist() * 2


@pytest.mark.parametrize("settings", [{}, {"max_patches": 40}, {"rotations": 2}])
def test_images_that_are_added_again_change_nothing(settings):
    detector = patchknn(**settings).fit(NORMAL)
    before = detector.threshold_, len(detector.memory_bank_), detector.decision_scores_.tolist()
    with pytest.warns(CopiesWarning, match=r"6 of 6 images .* is a copy of training image 0"):
        detector.partial_fit(NORMAL)
    scores = before[2] * 2
    found = detector.threshold_, len(detector.memory_bank_), detector.decision_scores_.tolist()
    assert found == (before[0], before[1], scores)
    with pytest.warns(
        CopiesWarning,
        match="1 of 2 images to learn from is a copy of another and is learnt once: x",
    ):
        detector.partial_fit([NORMAL[0], with_green(NORMAL[1], 10, 20)])
    assert len(detector.decision_scores_) == 14


def as_jpeg(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer))


def noisy(image, seed=0):
    noise = np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyimgano_openclip.bank.relatives.DependentImagesWarning")
@pytest.mark.parametrize("again", [as_jpeg, noisy])
@pytest.mark.parametrize("rows", [5000, 300])
@pytest.mark.parametrize("family", ["leather", "tile", "screw"])
def test_near_copies_do_not_lower_the_threshold(again, rows, family):
    pytest.importorskip("open_clip")
    settings, of_half = {"max_patches": rows}, {"max_patches": rows // 2}
    images = [make_sample(family, seed=seed, size=(160, 240)).image for seed in range(10)]
    plain = on_bundled("patchknn", **settings).fit(images)
    more = [again(image) for image in images]
    for detector in (
        on_bundled("patchknn", **settings).fit(images + more),
        on_bundled("patchknn", **settings).fit(images).partial_fit(more),
    ):
        # Of an image and its copy the higher score counts, as if that one alone had been given to
        # a bank with as many rows for each image.
        place = int(detector.decision_scores_[10:].argmax())
        copied = [*images[:place], more[place], *images[place + 1 :]]
        highest = max(plain.threshold_, on_bundled("patchknn", **of_half).fit(copied).threshold_)
        assert 0.85 * plain.threshold_ < detector.threshold_ < 1.15 * highest
        fresh = [make_sample(family, seed=seed, size=(160, 240)).image for seed in range(50, 60)]
        assert detector.predict(fresh).sum() <= plain.predict(fresh).sum() + 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings", "how"),
    [
        ("patchknn", {"max_patches": None}, {}),  # thinning starts somewhere
        ("promptscore", {}, {}),
        ("promptscore", {}, {"use_as_references": True}),
    ],
)
def test_the_threshold_does_not_depend_on_the_order_of_near_copies(kind, settings, how):
    pytest.importorskip("open_clip")
    images = shots(range(6))
    frames = images + [noisy(image, seed) for seed, image in enumerate(images)]
    one = on_bundled(kind, **settings).fit(frames, **how)
    other = on_bundled(kind, **settings).fit(frames[::-1], **how)
    assert one.promise().count == other.promise().count == 6
    assert one.threshold_ == pytest.approx(other.threshold_, rel=1e-4)
    assert one.region_threshold() == pytest.approx(other.region_threshold(), rel=1e-4)
    highest = one.decision_scores_.reshape(2, 6).max(axis=0)
    assert one.threshold_ == pytest.approx(highest.max(), rel=1e-4)
    assert not one.labels_.any()


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["a pixel", "noise"])
@pytest.mark.parametrize("kind", ["patchknn", "promptscore", "mutual"])
def test_frames_of_one_image_promise_as_little_as_one(kind, changed, tmp_path):
    pytest.importorskip("open_clip")
    frame = make_sample("leather", seed=0, size=(160, 240)).image
    noise, frames = np.random.default_rng(0), []
    for number in range(12):
        if changed == "noise":
            noisy = frame + noise.normal(0, 3, frame.shape)
            frames.append(np.clip(noisy, 0, 255).round().astype(np.uint8))
        else:
            frames.append(frame.copy())
            frames[-1][number, number] ^= 1
    detector = on_bundled(kind).fit(frames)
    loaded = load_detector(detector.save_checkpoint(tmp_path / "d.safetensors"))
    for one in (detector, loaded):
        if kind == "mutual":
            assert all_copies(one.pool_.near)
        else:
            assert one.promise().count == 1


@pytest.mark.filterwarnings("ignore::pyimgano_openclip.bank.copies.CopiesWarning")
@pytest.mark.parametrize("build", [patchknn, mutual])
def test_training_images_are_numbered_as_they_were_given(build, tmp_path):
    paths = [str(tmp_path / f"{number}.png") for number in range(8)]
    for path, image in zip(paths, [NORMAL[0], *NORMAL, with_green(NORMAL[0], 10, 20)], strict=True):
        Image.fromarray(image).save(path)
    detector = build(embedder=FileEmbedder()).fit(paths)
    matches = detector.nearest(paths[-1], 8)
    assert len({match.path for match in matches}) > 1
    for match in matches:
        assert paths.index(match.path) == match.training_image != 1


@pytest.mark.slow
def test_frames_of_one_part_are_as_one_image(images):
    video = [noisy(images[0], seed) for seed in range(8)]
    alone = on_bundled("patchknn").fit(images[:1])
    detector = on_bundled("patchknn").fit([images[0], *video])
    assert detector.decision_scores_.shape == (9,)
    assert 0.5 * alone.threshold_ < detector.threshold_ < 1.5 * alone.threshold_
