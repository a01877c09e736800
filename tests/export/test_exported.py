# ruff: noqa: E402 - torch and onnxruntime are asked for before they are imported
"""An exported file gives its detector's scores, maps and labels."""

import copy
import importlib.util
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from pyimgano_openclip import load_detector
from pyimgano_openclip.detector import saving
from pyimgano_openclip.export.onnx_file import _prove, export_onnx
from pyimgano_openclip.export.proof import MAPS, SCORES, compare
from pyimgano_openclip.images.notices import FlatFrameWarning
from pyimgano_openclip.images.reading import read_frame
from pyimgano_openclip.maps.scores import anomaly_map
from pyimgano_openclip.runtime import OnnxDetector
from pyimgano_openclip.runtime.network import inputs_of

from helpers.detectors import on_bundled
from helpers.exported import DEFECTS, leather, told_otherwise

pytestmark = pytest.mark.slow

NORMALS = ["square", "oblong", "prompts"]  # that were fitted on normal images
PAIRS = pytest.mark.parametrize("pair", NORMALS, indirect=True)
EVERY = pytest.mark.parametrize(
    "pair", [*NORMALS, "square_prompts", "mutual", "square_mutual"], indirect=True
)
WITH_PART = pytest.mark.parametrize("pair", [*NORMALS, "mutual", "part_of_large"], indirect=True)


@pytest.fixture
def pair(request):
    return request.getfixturevalue(request.param)


@cache
def parade():
    return new_images((60, 90), 200)


def new_images(size, count):
    kinds = [None, *DEFECTS]
    return [
        leather(1, size, first=100 + seed, defect=kinds[seed % len(kinds)])[0]
        for seed in range(count)
    ]


@EVERY
def test_no_label_differs_on_200_images(pair):
    images = parade()
    exported = OnnxDetector(pair.path, threads=1)
    found = compare(pair.detector, exported, images)
    assert found.images == 200
    assert found.score <= SCORES
    assert found.map <= MAPS
    assert found.labels == ()
    assert len(set(exported.predict(images).tolist())) == 2


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_stands_for_its_images(square_prompts, kind, tmp_path):
    for index, image in enumerate(square_prompts.images[:3]):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    exported, folder = OnnxDetector(square_prompts.path, threads=1), kind(tmp_path)
    expected = exported.decision_function(square_prompts.images[:3]).tolist()
    assert [scored.image for scored in exported.score_iter(folder)] == expected
    assert exported.decision_function(folder).tolist() == expected
    done = export_onnx(square_prompts.detector, tmp_path / "d.onnx", verify=folder)
    assert done.verified.images == 3


def frames(size):
    """What should never have been scored, of the right size and of others."""
    (image,) = leather(1, size, first=300)
    noise = np.random.default_rng(1).integers(0, 256, image.shape, np.uint8)
    flat = [np.full_like(image, level) for level in (0, 255, 127)]
    half = image.copy()
    half[:, : size[1] // 2] = image.mean(axis=(0, 1))
    others = [
        half,
        image[: size[0] // 2],
        image[:12, : 12 * size[1] // size[0]],
        image // 9,
        image[..., ::-1],
    ]
    return [*flat, noise, *map(np.ascontiguousarray, others), image]


@PAIRS
def test_what_is_unlike_the_training_images_is_so_by_the_file_for_the_same_reason(pair):
    images = frames(pair.images[0].shape[:2])
    exported = OnnxDetector(pair.path, threads=1)
    ours = list(pair.detector.score_iter(images))
    theirs = list(exported.score_iter(images))
    assert [scored.unlike for scored in theirs] == [scored.unlike for scored in ours]
    assert [scored.unlike is None for scored in ours].count(True) in (1, 2)
    assert exported.predict(images).tolist() == pair.detector.predict(images).tolist()
    expected = pair.detector.decision_function(images)
    np.testing.assert_allclose(exported.decision_function(images), expected, atol=SCORES)
    assert compare(pair.detector, exported, images).passed


def test_prompts_without_training_images_flag_frames_on_which_nothing_can_be_seen(tmp_path):
    detector = on_bundled("promptscore", mode="diff")
    detector.choose_canvas(leather(1, (90, 150)))
    exported = OnnxDetector(export_onnx(detector, tmp_path / "d.onnx").path, threads=1)
    images = frames((90, 150))
    with pytest.warns(FlatFrameWarning, match="nearly black"):
        expected = detector.decision_function(images)
    with pytest.warns(FlatFrameWarning, match="nearly black"):
        scores = exported.decision_function(images)
    np.testing.assert_allclose(scores, expected, atol=SCORES)
    assert (scores[:3] > 2).all()
    assert scores[-1] < 2


@PAIRS
def test_the_label_in_the_file_is_1_where_the_portrait_is_far_from_all_others(pair):
    exported = OnnxDetector(pair.path, threads=1)
    low, high = exported.facts.whole.ranges["distance"]
    (image,) = leather(1, exported.canvas_, first=300)
    images = np.stack([image, np.random.default_rng(1).permutation(image), image // 2, 255 - image])
    told = outputs_of(pair.path, images)
    beyond = (told["distance"] > high) | (told["score"] > exported.threshold_)
    assert told["label"].tolist() == beyond.astype(int).tolist()
    assert low <= told["distance"].min() < high < told["distance"].max()


@WITH_PART
def test_a_region_and_its_defect_are_the_detectors(pair):
    exported = OnnxDetector(pair.path, threads=1)
    found = 0
    for image in new_images((90, 150), 10):
        ours, theirs = pair.detector.explain(image), exported.explain(image)
        if not exported.facts.defect_names:
            (scored,) = exported.score_iter([image])
            assert len(pair.detector.explain(scored)) == len(ours)
        assert [region.defect for region in theirs] == [region.defect for region in ours]
        for own, other in zip(ours, theirs, strict=True):
            assert np.abs(np.subtract(other.box, own.box)).max() <= 1
            assert other.peak == pytest.approx(own.peak, abs=MAPS)
            assert other.probability == pytest.approx(own.probability, abs=1e-4)
            found += 1
    assert found


def outputs_of(path, images, **more):
    """All outputs of the network for images that were resized as the file says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images, **more}), strict=True))


@PAIRS
def test_the_outputs_agree_with_each_other(pair):
    exported = OnnxDetector(pair.path, threads=1)
    images = new_images((80, 100), 5)
    pixels = np.stack([read_frame(image, exported.canvas_).pixels for image in images])
    told = outputs_of(pair.path, pixels)
    like = [scored.unlike is None for scored in exported.score_iter(images)]  # others are raised
    assert sum(like) > 1
    scores, labels = exported.decision_function(images)[like], exported.predict(images)[like]
    np.testing.assert_allclose(told["score"][like], scores, atol=1e-6)
    assert told["label"][like].tolist() == labels.tolist()
    for patches, found in zip(told["patch_scores"], told["anomaly_map"], strict=True):
        np.testing.assert_allclose(found, anomaly_map(patches, exported.canvas_), atol=1e-5)
    alone = outputs_of(pair.path, pixels[:1])
    np.testing.assert_allclose(alone["score"], told["score"][:1], atol=1e-6)


@WITH_PART
def test_openvino_computes_the_same(pair):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    model = openvino.Core().compile_model(str(pair.path), "CPU", settings)
    facts = OnnxDetector(pair.path, threads=1).facts
    given = {name: np.stack(new_images(size, 3)) for name, size in inputs_of(facts).items()}
    told, expected = model(given), outputs_of(pair.path, **given)
    np.testing.assert_allclose(told["score"], expected["score"], atol=SCORES)
    np.testing.assert_allclose(told["anomaly_map"], expected["anomaly_map"], atol=MAPS)
    assert told["label"].tolist() == expected["label"].tolist()


@PAIRS
def test_the_file_says_what_it_is(pair):
    facts, detector = OnnxDetector(pair.path).facts, pair.detector
    assert facts.canvas == detector.canvas_
    assert facts.threshold == detector.label_threshold()
    assert facts.region_threshold == detector.region_threshold()
    assert facts.model_fingerprint == detector._embedder.fingerprint
    assert facts.detector_digest == saving.digest(detector)
    assert (facts.patch_height, facts.patch_width) == (8, 8)


def test_a_part_of_large_images_is_looked_at_through_windows(part_of_large):
    exported, detector = OnnxDetector(part_of_large.path, threads=1), part_of_large.detector
    images = new_images((90, 150), 20)
    assert compare(detector, exported, images).passed
    assert exported.facts.second_canvas == detector._embedder.canvases.whole(detector.canvas_)
    assert exported.facts.canvas > exported.facts.second_canvas
    for image in (*images[:2], images[0]):  # the last one is known
        (own,), (found,) = detector.score_iter([image]), exported.score_iter([image])
        assert np.isnan(found.patches).tolist() == np.isnan(own.patches).tolist()
        np.testing.assert_allclose(found.anomaly_map(), own.anomaly_map(), atol=MAPS)
        assert not found.anomaly_map()[:10].any()


def test_images_of_another_size_are_told_where_a_part_is_looked_at(part_of_large):
    (image,) = new_images((80, 150), 1)
    with pytest.raises(ValueError, match=r"80 x 150 pixels; the roi.*images of 90 x 150"):
        OnnxDetector(part_of_large.path).predict([image])
    with pytest.warns(RuntimeWarning, match="80 x 150 pixels"):
        assert OnnxDetector(part_of_large.path, on_error="nan").predict([image]).tolist() == [1]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("promptscore", {"recipe": "winclip", "references": leather(2, (60, 90), first=50)}),
        ("promptscore", {"recipe": "clip-surgery"}),
        ("mutual", {"recipe": "musc"}),
    ],
)
def test_published_methods_are_exported(kind, settings, tmp_path):
    detector = on_bundled(kind, force_image_size=48, **settings).fit(leather(8, (60, 90)))
    done = export_onnx(detector, tmp_path / "d.onnx", verify=new_images((60, 90), 20))
    assert done.verified.passed
    assert done.verified.images == 20


@pytest.mark.filterwarnings("ignore::pyimgano_openclip.images.notices.FlatFrameWarning")
@pytest.mark.parametrize("recipe", ["fused", "musc"])
def test_dead_frames_of_a_pool_are_in_no_exported_score(recipe, tmp_path):
    pool, dead = leather(6, (60, 90)), [np.full((60, 90, 3), n, np.uint8) for n in range(3)]
    alone, beside = (
        on_bundled("mutual", force_image_size=48, recipe=recipe).fit(images)
        for images in (pool, [*dead, *pool])
    )
    images = new_images((60, 90), 4)
    done = export_onnx(beside, tmp_path / "d.onnx", verify=images)
    assert done.verified.passed
    scores = OnnxDetector(done.path).decision_function(images)
    np.testing.assert_allclose(scores, alone.decision_function(images), atol=SCORES)


def test_images_of_a_pool_and_near_copies_are_told_from_new_ones(tmp_path):
    pool = leather(6, (60, 90))
    detector = on_bundled("mutual", force_image_size=48).fit(pool)
    again = np.clip(pool[0].astype(np.int16) + 1, 0, 255).astype(np.uint8)
    done = export_onnx(
        detector, tmp_path / "d.onnx", verify=[pool[3], again, *new_images((60, 90), 2)]
    )
    assert (done.verified.images, done.verified.known) == (4, 2)


def test_the_digest_is_that_of_the_checkpoint(oblong, tmp_path):
    from pyimgano_openclip.files.checkpoint import read_checkpoint

    saved = oblong.detector.save_checkpoint(tmp_path / "d.safetensors")
    assert OnnxDetector(oblong.path).facts.detector_digest == read_checkpoint(saved).digest


def test_load_detector_reads_an_exported_file(oblong):
    detector = load_detector(oblong.path, on_error="nan", threads=1)
    with pytest.warns(RuntimeWarning, match="could not be read"):
        assert detector.predict(["nowhere.png"]).tolist() == [1]
    with pytest.raises(ValueError, match="no argument device; it has batch_size, threads, channel"):
        load_detector(oblong.path, device="cpu")


def test_a_suffix_in_capitals_is_one_of_exported_files_too(oblong, tmp_path):
    shutil.copy(oblong.path, file := tmp_path / "D.ONNX")
    images = oblong.images[:2]
    expected = OnnxDetector(oblong.path).decision_function(images)
    np.testing.assert_array_equal(load_detector(file).decision_function(images), expected)


def test_images_that_were_learnt_from_are_scored_as_new(oblong):
    learnt = oblong.images[:3]
    assert compare(oblong.detector, OnnxDetector(oblong.path), learnt).passed
    scores = OnnxDetector(oblong.path).decision_function(learnt)
    assert (scores < oblong.detector.decision_function(learnt)).all()


def test_a_file_that_differs_is_not_written(oblong, tmp_path, monkeypatch):
    monkeypatch.setattr("pyimgano_openclip.export.proof.SCORES", -1.0)
    with pytest.raises(RuntimeError, match=r"does not give the detector's scores.*Nothing was"):
        _prove(oblong.detector, oblong.path, oblong.images[:1])


@WITH_PART
def test_a_result_is_explained_as_its_image_is(pair):
    exported = OnnxDetector(pair.path, threads=1, on_error="nan")
    images = new_images((90, 150), 4)
    results = list(exported.score_iter(images, with_tokens=True))
    found = [exported.explain(result) for result in results]
    assert any(found)
    assert found == [exported.explain(image) for image in images]
    if exported.facts.defect_names:
        (result,) = exported.score_iter(images[:1])
        with pytest.raises(ValueError, match="with_tokens=True"):
            exported.explain(result)
        (result,) = pair.detector.score_iter(images[:1], with_tokens=True)
        with pytest.raises(ValueError, match="not exported"):
            exported.explain(result)


@EVERY
def test_the_threshold_of_regions_follows_that_of_images_as_the_detectors_does(pair):
    exported, detector = OnnxDetector(pair.path, threads=1), load_copy(pair)
    (image,) = leather(1, (90, 150), first=100, defect="hole")
    followed = []
    for factor in (1, 0.8, 1.5):
        exported.threshold_ = detector.threshold_ = factor * exported.facts.threshold
        assert exported.region_threshold() == pytest.approx(detector.region_threshold(), rel=1e-12)
        boxes = [[region.box for region in d.explain(image)] for d in (exported, detector)]
        assert len(boxes[0]) == len(boxes[1])
        followed.append(exported.region_threshold() / exported.facts.region_threshold)
    apart = type(detector).__name__ == "VisionOpenCLIPPromptScore"
    assert followed == ([1] * 3 if apart else pytest.approx([1, 0.8, 1.5]))


def load_copy(pair):
    """The detector, of which another threshold stays here."""
    return copy.deepcopy(pair.detector)


def test_what_is_assigned_holds_or_is_refused(oblong, tmp_path):
    exported, images = OnnxDetector(oblong.path, threads=1), leather(2, (90, 150), first=100)
    as_rgb = exported.decision_function(images)
    exported.channel_order = "bgr"
    as_bgr = exported.decision_function([image[..., ::-1] for image in images])
    np.testing.assert_array_equal(as_bgr, as_rgb)
    with pytest.raises(ValueError, match="missing"):
        exported.predict([tmp_path / "missing.png"])
    exported.on_error = "nan"
    with pytest.warns(RuntimeWarning, match="missing"):
        assert exported.predict([tmp_path / "missing.png"]).tolist() == [1]
    for name, wrong in {"channel_order": "gbr", "on_error": "skip"}.items():
        with pytest.raises(ValueError, match=f"{name}='{wrong}'"):
            setattr(exported, name, wrong)
    assert (exported.channel_order, exported.on_error) == ("bgr", "nan")
    for name in ("batch_size", "threads", "canvas_", "on_eror"):
        with pytest.raises(AttributeError):
            setattr(exported, name, 4)


def test_arrays_have_the_channel_order_of_the_detector_unless_told_otherwise(tmp_path):
    frames = [image[..., ::-1] for image in leather(6, (64, 96))]  # as OpenCV reads them
    detector = on_bundled("patchknn", channel_order="bgr").fit(frames[:4])
    file = export_onnx(detector, tmp_path / "d.onnx").path
    exported, told = load_detector(file), load_detector(file, channel_order="rgb")
    earlier = OnnxDetector(told_otherwise(file, tmp_path / "old.onnx", "channel_order", None))
    orders = [one.channel_order for one in (exported, told, earlier)]
    assert orders == ["bgr", "rgb", "rgb"]
    expected = detector.decision_function(frames[4:])
    np.testing.assert_allclose(exported.decision_function(frames[4:]), expected, atol=SCORES)
    as_rgb = told.decision_function(frames[4:])
    assert (abs(as_rgb - expected) > 100 * SCORES).all()
    np.testing.assert_array_equal(earlier.decision_function(frames[4:]), as_rgb)
    with pytest.raises(ValueError, match="channel_order='gbr'"):
        OnnxDetector(file, channel_order="gbr")


def same_settings(one, other):
    names = ("threshold_", "channel_order", "on_error", "facts")
    return all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize("pair", ["prompts", "mutual", "part_of_large"], indirect=True)
def test_copies_are_as_the_detector_is_and_change_apart(pair, monkeypatch, tmp_path):
    monkeypatch.chdir(pair.path.parent)
    detector = OnnxDetector(pair.path.name, batch_size=2, threads=1, on_error="nan")
    detector.threshold_, detector.channel_order = detector.threshold_ / 2, "bgr"
    expected = detector.decision_function(pair.images)
    monkeypatch.chdir(tmp_path)
    for copied in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector)):
        assert same_settings(copied, detector)
        np.testing.assert_array_equal(copied.decision_function(pair.images), expected)
        copied.threshold_ = detector.threshold_ / 2
        assert not same_settings(copied, detector)


def test_another_process_opens_the_file_again(oblong):
    detector = OnnxDetector(oblong.path, threads=1)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        scores = pool.submit(detector.decision_function, oblong.images).result()
    np.testing.assert_allclose(scores, detector.decision_function(oblong.images), atol=SCORES)


def test_a_file_that_was_replaced_is_not_the_one_that_was_pickled(oblong, mutual, tmp_path):
    shutil.copy(oblong.path, path := tmp_path / "d.onnx")
    data = pickle.dumps(OnnxDetector(path))
    shutil.copy(mutual.path, path)
    with pytest.raises(ValueError, match=r"d\.onnx has been replaced since"):
        pickle.loads(data)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"d\.onnx"):
        pickle.loads(data)


def test_an_exported_detector_is_printed_with_its_class_model_canvas_and_threshold(oblong):
    exported = OnnxDetector(oblong.path, threads=1)
    height, width = exported.canvas_
    assert width > height
    exported.threshold_ = 0.125
    assert repr(exported) == (
        "<OnnxDetector(VisionOpenCLIPPatchKNN, bundled): images resized to "
        f"{height} x {width} pixels, threshold 0.125>"
    )


def test_a_changed_threshold_is_a_label_that_differs(oblong):
    exported, images = OnnxDetector(oblong.path), new_images((90, 150), 4)
    exported.threshold_ = -1.0
    found = compare(oblong.detector, exported, images)
    assert not found.passed
    assert replace(found, labels=()).passed
    assert found.labels


def test_nothing_is_left_behind_if_writing_fails(oblong, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyimgano_openclip.export.onnx_file._write", fail)
    with pytest.raises(OSError, match="No space"):
        export_onnx(oblong.detector, tmp_path / "d.onnx")
    assert list(tmp_path.iterdir()) == []
