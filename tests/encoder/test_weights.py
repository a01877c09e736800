# ruff: noqa: E402 - torch and open_clip are asked for before they are imported
"""Models and weights by name, from a folder or a file; or an error before anything is loaded."""

import io
import json
import logging.handlers
import pickle
import shutil
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tqdm import tqdm

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

from pyimgano.models import create_model

from pyimgano_openclip import (
    OpenCLIPPatchEmbedder,
    VisionOpenCLIPPatchKNN,
    progress,
)
from pyimgano_openclip.bundled import weights_dir
from pyimgano_openclip.encoder import hub, weights
from pyimgano_openclip.encoder.context import CutSentenceWarning

from helpers.detectors import TINY
from helpers.towers import embedder, photograph

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("ViT-B-23", None, "did you mean .*ViT-B-32"),
        ("ViT-B-32", "laion2b", "did you mean .*All: openai"),
        ("ViT-B-32", "no/such/file.pt", "neither a file"),
        ("local-dir:no/such/place", None, r"open_clip_config\.json"),
    ],
)
def test_unknown_models_and_weights_are_refused_before_loading(name, pretrained, message):
    with pytest.raises(ValueError, match=message):
        OpenCLIPPatchEmbedder(name, pretrained)


def test_a_directory_without_weights_is_refused(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(
        '{"model_cfg": {"vision_cfg": {}, "text_cfg": {}}}'
    )
    with pytest.raises(ValueError, match="no weights"):
        OpenCLIPPatchEmbedder(f"local-dir:{tmp_path}")


def test_weights_from_a_directory_and_from_a_file_are_the_model(tmp_path):
    from safetensors.torch import save_file

    reader = embedder(random_seed=5, dimension=None)
    expected = reader.embed(photograph())[0]
    file = tmp_path / "open_clip_model.safetensors"
    state = weights.load_model(reader._source).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, file)
    config = {"model_cfg": open_clip.get_model_config(TINY), "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    for name, pretrained in ((f"local-dir:{tmp_path}", None), (TINY, str(file))):
        found = OpenCLIPPatchEmbedder(
            name, pretrained, dimension=None, precision="float32", device="cpu"
        )
        np.testing.assert_array_equal(found.embed(photograph())[0], expected)


def test_weights_of_another_model_are_refused(tmp_path):
    from safetensors.torch import save_file

    file = tmp_path / "other.safetensors"
    save_file({"visual.conv1.weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match="cannot be loaded"):
        OpenCLIPPatchEmbedder(TINY, str(file)).embed(photograph())


@pytest.mark.parametrize("name", ["photograph.png", "empty.pt", "cut.safetensors", "evil.pt"])
def test_a_file_that_holds_no_weights_is_named_without_advice_to_run_it(tmp_path, name):
    file, image = tmp_path / name, io.BytesIO()
    Image.fromarray(photograph()).save(image, "PNG")
    content = {".png": image.getvalue(), ".safetensors": b"\x10" + bytes(7) + b"{"}
    file.write_bytes(content.get(file.suffix, b""))
    if name == "evil.pt":
        file.write_bytes(pickle.dumps(Path.cwd, protocol=2))
    with pytest.raises(ValueError, match=r"is not a weights file that open_clip") as refused:
        weights.load_model(weights.find_source(TINY, str(file)))
    shown = "".join(traceback.format_exception(refused.value))
    assert str(file) in str(refused.value)
    assert "weights_only=False" not in shown
    assert "weights_only`" not in shown


def test_without_network_the_error_says_where_weights_would_be(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    reader = OpenCLIPPatchEmbedder("ViT-B-32", "laion2b_s34b_b79k")
    with pytest.raises(FileNotFoundError, match=r"(?s)cached in .*hub.*local-dir:DIR.*bundled"):
        reader.embed(photograph())


def test_pretrained_false_keeps_random_weights_and_says_so_and_needs_no_network():
    settings = {"openclip_model_name": TINY, "pretrained": False, "device": "cpu"}
    with pytest.warns(UserWarning, match=r"random weights.*laion400m_e31.*are meaningless"):
        detector = create_model("vision_openclip_patchknn", **settings)
    detector.fit([photograph(), photograph(seed=1)])
    assert np.isfinite(detector.threshold_)
    with pytest.raises(ValueError, match="pretrained=False forbids"):
        create_model(
            "vision_openclip_patchknn", openclip_model_name="hf-hub:org/model", pretrained=False
        )


@pytest.mark.parametrize("setting", [{"openclip_pretrained": 5}, {"openclip_model_name": 5}])
def test_a_model_that_is_no_string_is_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}=5"):
        VisionOpenCLIPPatchKNN(**{"openclip_model_name": TINY, **setting})


def test_the_weights_of_an_embedder_may_be_a_path(tmp_path):
    torch.save(open_clip.create_model(TINY, pretrained=None).state_dict(), tmp_path / "weights.pt")
    reader = OpenCLIPPatchEmbedder(TINY, tmp_path / "weights.pt")
    assert reader.origin == f"{TINY}, {tmp_path / 'weights.pt'}"


def refuse_to_answer(monkeypatch):
    """A network without the hub, and how often it is asked."""
    asked = []

    def silent(url, **_):
        asked.append(url)
        raise OSError("Name or service not known")

    monkeypatch.setattr(hub, "get_hf_file_metadata", silent)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    return asked


@pytest.mark.parametrize(
    ("name", "pretrained"),
    [
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-16-plus-240", "laion400m_e31"),
        ("hf-hub:o/m", None),
    ],
)
def test_the_hub_is_tried_twice_and_the_error_says_what_to_do(
    name, pretrained, monkeypatch, tmp_path
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    asked = refuse_to_answer(monkeypatch)
    reader = OpenCLIPPatchEmbedder(name, pretrained)
    began = time.monotonic()
    with pytest.raises(FileNotFoundError) as refused:
        reader.embed(photograph())
    assert time.monotonic() - began < 5
    assert len(asked) == 2
    for word in ("Name or service", "pyimgano-openclip download", "bundled", "HF_HUB_OFFLINE"):
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("name", "pretrained"), [("ViT-B-16-SigLIP2", "webli"), ("hf-hub:org/model", None)]
)
def test_a_tokenizer_of_the_hub_is_tried_twice_too(name, pretrained, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    asked = refuse_to_answer(monkeypatch)
    with pytest.raises(FileNotFoundError, match="cannot be reached"):
        weights.get_tokenizer(weights.find_source(name, pretrained))
    assert len(asked) == 2


def test_cached_weights_of_the_older_kind_are_used_without_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--laion--CLIP-ViT-B-32-laion2B-s34B-b79K"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_pytorch_model.bin").write_bytes(b"no weights, but found")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    asked = refuse_to_answer(monkeypatch)
    with pytest.raises(ValueError, match="is not a weights file"):
        OpenCLIPPatchEmbedder("ViT-B-32", "laion2b_s34b_b79k").embed(photograph())
    assert len(asked) == 2
    assert not hub.constants.HF_HUB_OFFLINE


def test_an_answer_of_the_hub_counts_as_reached(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "get_hf_file_metadata", lambda url: None)
    with hub.tried_twice("org/model", ("weights.bin",)):
        assert not hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("configured", [False, True])
def test_loading_a_model_leaves_the_root_logger_as_it_was(configured, monkeypatch, capsys):
    told = logging.handlers.BufferingHandler(100)
    monkeypatch.setattr(logging.root, "handlers", [told] if configured else [])
    before = logging.root.level, logging.root.manager.disable
    reader = embedder(tokens="aligned")
    reader.encode_text(["a photo of a nut"])
    assert logging.root.handlers == ([told] if configured else [])
    assert (logging.root.level, logging.root.manager.disable) == before
    words = "Model initialized randomly"  # open_clip's warning
    heard = [record.getMessage() for record in told.buffer]
    assert any(words in line for line in heard) == configured
    assert (words in capsys.readouterr().err) != configured


@pytest.mark.parametrize("stderr", ["none", "closed"])
def test_a_process_without_standard_streams_can_do_everything(stderr, monkeypatch):
    streams = [None, None]
    if stderr == "closed":
        streams = [io.StringIO(), io.StringIO()]
        for stream in streams:
            stream.close()
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    monkeypatch.setattr(progress, "PATIENCE", 0)
    detector = create_model("vision_openclip_patchknn", openclip_model_name="bundled", device="cpu")
    detector.fit([photograph(), photograph(seed=1)]).decision_function([photograph(seed=2)])
    words = create_model("vision_openclip_promptscore", openclip_model_name="bundled", device="cpu")
    words.fit([photograph()])
    assert sys.stderr is streams[1]


def test_a_library_that_shows_a_bar_finds_a_stream(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    with progress.usable_stderr():
        list(tqdm(range(3)))
    assert sys.stderr is None


def test_a_tokenizer_of_transformers_is_asked_for_by_the_name_of_the_extra(monkeypatch):
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    monkeypatch.setattr(hub, "cached", lambda *_: "here")
    source = weights.find_source("ViT-B-16-SigLIP2", "webli")
    with pytest.raises(ImportError, match=r"transformers: pip install '.*\[siglip\]'"):
        weights.get_tokenizer(source)
    text_tower = weights.find_source("roberta-ViT-B-32", "laion2b_s12b_b32k")
    with pytest.raises(ImportError, match=r"pyimgano-openclip\[siglip\]"):
        weights.load_model(text_tower)


def test_a_tokenizer_of_transformers_is_used_where_that_is_installed(tmp_path):
    pytest.importorskip("transformers", reason="transformers is in the extra siglip")
    tokenizers = pytest.importorskip("tokenizers")
    shutil.copytree(weights_dir(), tmp_path / "model")
    path = tmp_path / "model" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"].update(
        hf_tokenizer_name="org/none", tokenizer_kwargs={"clean": "canonicalize"}
    )
    path.write_text(json.dumps(config))
    known = ["damaged", "flawless", "leather"]  # the bundled model has learnt few words
    ids = {word: open_clip.get_tokenizer("ViT-B-32").encode(word)[0] for word in known}
    words = tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1, **ids}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(words)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "model" / "tokenizer.json"))
    kind = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
    }
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(kind))
    reader = OpenCLIPPatchEmbedder(f"local-dir:{tmp_path / 'model'}", None, device="cpu")
    sentences = ["flawless leather", "flawless, leather.", "damaged leather"]
    sound, again, damaged = reader.encode_text(sentences)
    np.testing.assert_allclose(sound, again, atol=1e-6)  # the config strips punctuation
    assert np.abs(sound - damaged).max() > 1e-3
    with pytest.warns(CutSentenceWarning, match="leather leather"):
        reader.encode_text(["leather " * 40])
