# ruff: noqa: E402 - torch and open_clip are asked for before they are imported
"""The default embedder on real open_clip models with seeded random weights."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from pyimgano.models import create_model

from pyimgano_openclip import (
    VisionOpenCLIPPatchKNN,
    VisionOpenCLIPPromptScore,
)
from pyimgano_openclip.encoder import model as model_module
from pyimgano_openclip.encoder import weights
from pyimgano_openclip.encoder.towers import make_tower

from helpers.detectors import RANDOM, TINY
from helpers.privates import embedder_of, forget
from helpers.towers import embedder, photograph

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tokens", ["features", "aligned"])
def test_the_grid_follows_the_image_and_counts_the_patches(tokens):
    patches, grid, size = embedder(tokens=tokens).embed(photograph(100, 250))
    assert grid == (7, 18)
    assert size == (100, 250)
    assert patches.shape[0] == 7 * 18
    assert patches.dtype == np.float32
    assert np.isfinite(patches).all()


@pytest.mark.parametrize("tokens", ["features", "aligned"])
def test_a_batch_equals_its_images_alone(tokens):
    images = [photograph(seed=seed) for seed in range(5)]
    reader = embedder(tokens=tokens, batch_size=2)
    for image, (patches, grid, size) in zip(images, reader.embed_batch(images), strict=True):
        alone, alone_grid, alone_size = reader.embed(image)
        assert (grid, size) == (alone_grid, alone_size)
        np.testing.assert_allclose(patches, alone, atol=2e-6)


def test_preprocessing_is_the_models_own_on_the_whole_image():
    reader = embedder(tokens="aligned", resize="squash")
    model, _, preprocess = open_clip.create_model_and_transforms(
        TINY, image_resize_mode="squash", device="cpu"
    )
    model.visual.load_state_dict(reader.visual.state_dict())
    image = photograph(90, 200)
    pixels = preprocess(Image.fromarray(image))[None]
    with torch.inference_mode():
        expected = model.eval().encode_image(pixels, normalize=True)[0].numpy()
    (found,) = reader.stream([image], reader.choose_canvas([image]))
    np.testing.assert_allclose(found.pooled, expected, atol=1e-5)


def test_image_size_and_max_tokens_set_the_grid():
    image = photograph(100, 100)
    assert embedder(image_size=320).embed(image)[1] == (10, 10)
    assert embedder(image_size=(64, 320)).embed(image)[1] == (2, 10)
    assert embedder(max_tokens=16).embed(image)[1] == (4, 4)


def test_a_random_tower_repeats_under_its_seed():
    first, again, other = (embedder(random_seed=seed).embed(photograph())[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-2)


def test_a_model_built_under_inference_mode_is_as_usable_as_any_other():
    reader = embedder()
    with torch.inference_mode():
        inside = reader.embed(photograph())[0]
    assert not any(parameter.is_inference() for parameter in reader.visual.parameters())
    np.testing.assert_allclose(reader.embed(photograph())[0], inside, atol=1e-6)


def test_building_a_detector_loads_no_weights():
    reader = embedder_of(VisionOpenCLIPPatchKNN(**RANDOM))
    assert not reader._model.is_loaded


def test_the_embedder_serves_the_hosts_own_patch_detector():
    detector = create_model("vision_anomalydino", embedder=embedder(), knn_backend="sklearn")
    images = [photograph(seed=seed) for seed in range(3)]
    scores = detector.fit(images[:2]).decision_function(images)
    assert scores.argmax() == 2
    assert detector.get_anomaly_map(images[2]).shape == (64, 160)


@pytest.mark.parametrize("name", ["vision_openclip_promptscore", "vision_openclip_patchknn"])
def test_a_stripe_at_the_edge_is_answered_at_the_edge(name):
    plain = photograph(200, 600, seed=7)
    detector = create_model(name, **RANDOM)
    detector.fit([photograph(200, 600), photograph(200, 600, seed=1)])
    for edge in (slice(0, 20), slice(-20, None)):
        striped = plain.copy()
        striped[:, edge] = 255 - striped[:, edge]
        change = np.abs(detector.get_anomaly_map(striped) - detector.get_anomaly_map(plain))
        columns = change.mean(axis=0)
        middle = columns[250:350].mean()
        assert columns[edge].mean() > 1.5 * middle


def test_a_pickled_embedder_leaves_the_model_behind_and_loads_it_again():
    reader = embedder()
    expected = reader.embed(photograph())[0]
    data = pickle.dumps(reader)
    assert len(data) < 10_000
    np.testing.assert_array_equal(pickle.loads(data).embed(photograph())[0], expected)


def test_texts_are_encoded_once_per_class(monkeypatch):
    detector = VisionOpenCLIPPromptScore(
        openclip_model_name=TINY,
        openclip_pretrained=None,
        text_prompts={"normal": ["a {}"], "anomaly": ["a broken {}", "a {class_name} with a hole"]},
    )
    encoded = []
    model = embedder_of(detector)._model
    original = model.encode
    monkeypatch.setattr(model, "encode", lambda texts: encoded.extend(texts) or original(texts))
    image = [photograph()]
    detector.set_class_name("nut").decision_function(image)
    detector.set_class_name("nut").decision_function([photograph(seed=1)])
    assert encoded == ["a nut", "a broken nut", "a nut with a hole"]
    detector.set_class_name("bolt").decision_function(image)
    assert len(encoded) == 6
    detector.set_class_name("nut").decision_function(image)
    assert len(encoded) == 6


def test_swapped_prompts_turn_the_scores_around():
    texts = {"normal": ["a fine {}"], "anomaly": ["a broken {}"]}
    swapped = {"normal": texts["anomaly"], "anomaly": texts["normal"]}
    there, back = (
        VisionOpenCLIPPromptScore(text_prompts=prompts, **RANDOM).get_anomaly_map(photograph())
        for prompts in (texts, swapped)
    )
    np.testing.assert_allclose(there, 1 - back, atol=1e-5)


def test_eight_threads_get_the_scores_of_one():
    detector = VisionOpenCLIPPatchKNN(**RANDOM)
    images = [photograph(seed=seed) for seed in range(8)]
    detector.fit(images[:3])
    expected = [detector.decision_function([image])[0] for image in images]
    forget(detector)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: detector.decision_function([image])[0], images))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("tokens", ["features", "aligned"])
def test_bfloat16_gives_nearly_the_same_tokens(tokens):
    exact, rounded = (
        embedder(tokens=tokens, precision=precision).embed(photograph())[0]
        for precision in ("float32", "bfloat16")
    )
    assert rounded.dtype == np.float32
    cosine = (exact * rounded).sum(-1) / np.linalg.norm(exact, axis=1)
    assert (cosine / np.linalg.norm(rounded, axis=1)).min() > 0.999


def test_an_unreadable_file_ends_a_stream_after_those_before_it(tmp_path):
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.fromarray(photograph()).save(good)
    bad.write_bytes(good.read_bytes()[:3000])
    stream = embedder(batch_size=4).stream([good, good, bad, good], (64, 64))
    assert next(stream).size == (64, 160)
    assert next(stream).size == (64, 160)
    with pytest.raises(ValueError, match=r"bad\.png"):
        next(stream)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_stands_for_its_images(kind, tmp_path):
    for index in range(3):
        Image.fromarray(photograph(seed=index)).save(tmp_path / f"{index}.png")
    folder, reader = kind(tmp_path), embedder()
    canvas = reader.choose_canvas(sorted(tmp_path.iterdir()))
    assert reader.choose_canvas(folder) == canvas
    expected = [patches for patches, _, _ in reader.embed_batch(folder)]
    for patches, tokens in zip(reader.stream(folder, canvas), expected, strict=True):
        np.testing.assert_array_equal(patches.tokens.reshape(tokens.shape), tokens)


@pytest.mark.parametrize("canvas", [(7, 7), (64, 70), (64, 0), 64, (64, 64, 3)])
def test_a_canvas_that_the_tower_cannot_see_is_refused(canvas):
    with pytest.raises(ValueError, match=r"canvas=.* (whole patches of 32 x 32|must be)"):
        next(embedder().stream([photograph()], canvas))


def test_a_single_image_is_no_stream():
    for one, message in (("part.png", "items is the single path"), (photograph(), "items is one")):
        with pytest.raises(ValueError, match=message):
            next(embedder().stream(one, (64, 64)))


def test_the_error_for_a_file_says_its_place_in_the_list(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(70)]
    for path in paths:
        Image.fromarray(photograph(32, 32)).save(path)
    paths[67].write_bytes(paths[67].read_bytes()[:60])
    detector = VisionOpenCLIPPromptScore(
        openclip_model_name=TINY,
        openclip_pretrained=None,
        text_features_normal=np.eye(256)[0],
        text_features_anomaly=np.eye(256)[1],
        force_image_size=32,
        device="cpu",
    )
    with pytest.raises(ValueError, match=r"x\[67\]: .*67\.png"):
        detector.decision_function(paths)
    streamed = []
    with pytest.raises(ValueError, match=r"x\[67\]: .*67\.png"):
        streamed.extend(scored.image for scored in detector.score_iter(paths))


@pytest.mark.parametrize("room", [1, 3])
def test_a_batch_that_does_not_fit_into_memory_is_halved(monkeypatch, room):
    images = [photograph(seed=seed) for seed in range(7)]
    reader = embedder(batch_size=7)
    expected = [tokens for tokens, _, _ in reader.embed_batch(images)]
    run, sizes = reader._run, []

    def crowded(frames, request):
        sizes.append(len(frames))
        if len(frames) > room:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        return run(frames, request)

    monkeypatch.setattr(reader, "_run", crowded)
    found = [tokens for tokens, _, _ in reader.embed_batch(images)]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert max(sizes) == 7


def test_one_image_that_does_not_fit_into_memory_is_a_clear_error(monkeypatch):
    def crowded(frames, request):
        raise RuntimeError("std::bad_alloc")

    reader = embedder()
    monkeypatch.setattr(reader, "_run", crowded)
    with pytest.raises(MemoryError, match=r"one image of 576 x 224 pixels.*force_image_size"):
        reader.embed(photograph())


@pytest.mark.parametrize("tokens", ["features", "aligned"])
def test_tokens_that_are_not_finite_are_an_error_that_says_what_to_do(tokens):
    reader = embedder(tokens=tokens)
    reader.visual.conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(RuntimeError, match=f"{TINY}.*not finite.*float32"):
        reader.embed(photograph())


@pytest.mark.parametrize(
    "setting", [{"tokens": "feature"}, {"attention": "qv"}, {"positions": "cubic"}]
)
def test_a_misspelt_setting_of_the_embedder_is_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=.*choose from"):
        embedder(**setting)


def test_a_negative_number_of_blocks_for_surgery_is_refused():
    with pytest.raises(ValueError, match="surgery=-1; it must be a whole number from 0"):
        embedder(tokens="aligned", surgery=-1)


def test_an_image_size_may_be_a_list_as_json_has_it():
    assert embedder(image_size=[64, 96]).image_size == (64, 96)


def test_sentences_under_inference_mode_leave_a_tower_that_works_outside(no_network):
    reader = embedder(tokens="aligned", precision="bfloat16")
    with torch.inference_mode():
        reader.encode_text(["a photo of a screw"])
    assert not any(weight.is_inference() for weight in reader.visual.parameters())


def test_a_first_call_for_sentences_loads_the_model_once(monkeypatch):
    load, loaded = weights.load_model, []
    monkeypatch.setattr(weights, "load_model", lambda source: loaded.append(source) or load(source))
    reader = embedder(tokens="aligned")
    reader.encode_text(["a photo of a screw"])
    reader.embed(photograph())
    assert len(loaded) == 1


def test_other_errors_of_the_tower_are_not_taken_for_missing_memory(monkeypatch):
    def broken(frames, request):
        raise RuntimeError("shapes do not match")

    reader = embedder(batch_size=4)
    monkeypatch.setattr(reader, "_run", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        reader.embed(photograph())


def test_a_tower_is_wrapped_once_however_many_batches_it_reads(monkeypatch):
    wrapped = []
    monkeypatch.setattr(
        model_module, "make_tower", lambda visual: wrapped.append(visual) or make_tower(visual)
    )
    reader = embedder(batch_size=1)
    reader.embed_batch([photograph(seed=seed) for seed in range(3)])
    assert reader.visual is wrapped[0]
    assert len(wrapped) == 1


@pytest.mark.parametrize("sentences", ["a screw", [], [1], ["a screw", None]])
def test_what_are_no_sentences_is_refused(sentences):
    with pytest.raises(ValueError, match=r"sentences?[;,.]"):
        embedder().encode_text(sentences)
    with pytest.raises(ValueError, match=r"sentences?[;,.]"):
        embedder().encode_ensembles([sentences])
