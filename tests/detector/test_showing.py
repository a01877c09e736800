"""Detectors in a terminal and in a notebook."""

import html.parser

import numpy as np
import pytest

from pyimgano_openclip import VisionOpenCLIPPatchKNN, VisionOpenCLIPPromptScore, load_detector

from helpers.detectors import on_bundled, patchknn, promptscore
from helpers.embedders import red_images

NORMAL = red_images(4, 40, 60)


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    seen = []

    class Reader(html.parser.HTMLParser):
        def handle_data(self, data):
            seen.append(data)

    Reader().feed(page)
    return " ".join(" ".join(seen).split())


def test_the_arguments_that_were_chosen_and_the_state_are_told():
    detector = patchknn(n_neighbors=2)
    told = repr(detector)
    assert told.startswith("<VisionOpenCLIPPatchKNN(embedder=<")
    assert "n_neighbors=2): fitted on nothing, threshold not set>" in told
    assert "batch_size" not in told
    detector.fit(NORMAL)
    assert f"fitted on 4 images, threshold {detector.threshold_:.4g}, bank 64 patches>" in repr(
        detector
    )
    seen = text_of(detector._repr_html_())
    assert "tower custom embedder" in seen
    assert "fitted on 4 images" in seen
    assert "n_neighbors 2" in seen


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [None, "winclip"])
def test_references_are_told_before_they_are_read_and_after_loading(recipe, tmp_path):
    assert "references" not in repr(on_bundled("promptscore", recipe=recipe))
    detector = on_bundled("promptscore", recipe=recipe, references=NORMAL)
    assert repr(detector).endswith("references 4 images>")
    loaded = load_detector(detector.save_checkpoint(tmp_path / "d.safetensors"))
    assert "references 4 images" in repr(loaded)
    assert "references 4 images" in text_of(loaded._repr_html_())


def test_one_image_is_one_image_however_many_views_of_it_were_scored():
    detector = patchknn().fit(NORMAL[:1])
    assert "fitted on 1 images" in repr(detector)


def test_long_arguments_are_cut_short():
    normal = np.arange(1, 4, dtype=np.float64)
    detector = promptscore(text_features_normal=normal, references=["x" * 500] * 1000)
    told = repr(detector)
    assert "text_features_normal=array of shape (3,), float64" in told
    assert len(told) < 700


def test_names_cannot_become_markup():
    detector = promptscore(class_name="<script>alert(1)</script>")
    page = detector._repr_html_()
    assert "<script" not in page
    assert "class <script>alert(1)</script>" in text_of(page)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "state"),
    [
        (VisionOpenCLIPPatchKNN, "fitted on nothing, threshold not set"),
        (VisionOpenCLIPPromptScore, "class object, fitted on nothing, threshold 0.5"),
    ],
)
def test_showing_a_detector_loads_no_weights(build, state, monkeypatch):
    from pyimgano_openclip.encoder import weights

    def refuse(source):
        raise AssertionError(f"{source} was loaded")

    monkeypatch.setattr(weights, "load_model", refuse)
    detector = build(device="cpu", precision="float32")
    assert repr(detector) == f"<{build.__name__}(device='cpu', precision='float32'): {state}>"
    seen = text_of(detector._repr_html_())
    assert "tower ViT-B-16-plus-240, laion400m_e31" in seen
    assert "device cpu, float32" in seen
    bundled = build(openclip_model_name="bundled")
    assert "tower bundled device" in text_of(bundled._repr_html_())
    untrained = build(openclip_model_name="ViT-B-32", openclip_pretrained=None)
    assert "ViT-B-32, random weights" in text_of(untrained._repr_html_())
