# ruff: noqa: E402 - open_clip is asked for before it is imported
"""Sentences that are longer than the text tower's context."""

import warnings

import numpy as np
import pytest

open_clip = pytest.importorskip("open_clip")

from pyimgano_openclip.encoder.context import CutSentenceWarning, is_cut

from helpers.detectors import on_bundled
from helpers.embedders import red_image
from helpers.towers import embedder

pytestmark = pytest.mark.slow

ROOM = 32  # tokens of the bundled model, two of them for start and end
LONG = "这是一张没有任何缺陷的金属零件表面照片拍摄于工厂的生产线上光线均匀背景干净"


@pytest.mark.parametrize(("words", "cut"), [(0, False), (30, False), (31, True), (200, True)])
def test_a_sentence_is_cut_from_the_first_token_without_room(words, cut):
    tokenizer = open_clip.get_tokenizer("ViT-S-32-alt", context_length=ROOM)
    assert is_cut(tokenizer, " ".join(["nut"] * words)) is cut


def test_one_warning_quotes_the_sentences_that_were_cut():
    reader = embedder(tokens="aligned")
    sentences = [f"{number} {'long ' * 100}" for number in range(5)]
    with pytest.warns(
        CutSentenceWarning, match=r"77 tokens.*'0 long.*'2 long.* and 2 more"
    ) as told:
        reader.encode_text(["a nut", *sentences])
    assert len(told) == 1
    assert "nut" not in str(told[0].message)


def test_vectors_of_cut_sentences_are_not_cached_so_that_each_process_warns():
    ensembles = [["a nut"], ["a bolt", "bolt " * 100]]
    for _ in range(2):
        with pytest.warns(CutSentenceWarning, match="bolt bolt"):
            embedder(tokens="aligned").encode_ensembles(ensembles)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedder(tokens="aligned").encode_ensembles([["a nut"]])


@pytest.mark.filterwarnings("ignore::pyimgano_openclip.encoder.context.CutSentenceWarning")
def test_prompts_that_differ_beyond_the_context_are_refused():
    texts = {"normal": [f"{LONG}好"], "anomaly": [f"{LONG}坏"]}
    detector = on_bundled("promptscore", text_prompts=texts)
    with pytest.raises(ValueError, match="normal and anomalous objects are equal"):
        detector.decision_function([red_image()])


@pytest.mark.parametrize("scale", [1, 3])
def test_equal_text_features_are_refused(scale):
    text = np.linspace(-1, 1, 128)
    texts = {"text_features_normal": text, "text_features_anomaly": scale * text}
    for use in ("fit", "decision_function"):
        with pytest.raises(ValueError, match="are equal"):
            getattr(on_bundled("promptscore", **texts), use)([red_image()])


def test_the_own_prompts_of_the_package_are_not_cut():
    with warnings.catch_warnings():
        warnings.simplefilter("error", CutSentenceWarning)
        on_bundled("promptscore", class_name="printed circuit board").fit([red_image()])
